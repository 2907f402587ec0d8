"""Encoding of `Picture` and arrays to image files."""

import dataclasses
import functools
import os
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from PIL import Image

from srgan_jax.images.animation_write import FrameImage, OrderedMap, whole_ms, write_frames
from srgan_jax.images.formats import TIFF, TIFFS, format_of
from srgan_jax.images.metadata import png_chunks
from srgan_jax.images.picture import Picture
from srgan_jax.images.tiff import write_pages
from srgan_jax.ops import color
from srgan_jax.runtime.atomic import atomic_file
from srgan_jax.runtime.errors import UserError


def write_image(path: str | os.PathLike, picture: Picture | np.ndarray, *, quality: int = 95) -> None:
    """Writes an image in the format of the file's suffix, atomically: to a temporary file, which is then renamed.

    Args:
      path: the file; missing folders are created.
      picture: a `Picture`, or `[H, W]` or `[H, W, C]`: gray, gray and alpha, RGB, RGB and alpha. uint8, uint16, or
        float in [0, 1], which is clipped and rounded to 8 bits.
      quality: quality of JPEG (4:4:4), WebP (100 is lossless) and AVIF, 1 to 100.

    Raises:
      UserError: the format can't be written or doesn't support the image, or the array has another shape or dtype.
    """
    if not isinstance(picture, Picture):
        picture = np.asarray(picture)  # accepts jax.Array too
        if np.issubdtype(picture.dtype, np.floating):
            picture = np.asarray(color.to_uint8(jnp.asarray(picture)))
        picture = Picture((picture[..., None] if picture.ndim == 2 else picture,))
    for frame in picture.frames:
        if frame.ndim != 3 or frame.shape[-1] not in (1, 2, 3, 4) or frame.dtype not in (np.uint8, np.uint16):
            raise UserError(
                f"{path}: expected an image [H, W, 1 to 4], uint8, uint16 or float in [0, 1], got {frame.shape} "
                f"{frame.dtype}"
            )
    _check_supported(path, picture)
    with atomic_file(path) as temporary:
        if Path(path).suffix.lower() in TIFFS:
            write_pages(temporary, (([frame], frame.shape, frame.dtype) for frame in picture.frames), picture)
        elif len(picture.frames) > 1:
            _write_animation(temporary, picture.frames, picture, picture.shape[:2], quality)
        else:
            temporary.write_bytes(encode_still(picture, Path(path).suffix.lower(), quality))


def write_animation(
    path: str | os.PathLike,
    frames: Iterable[np.ndarray],
    picture: Picture,
    size: tuple[int, int],
    *,
    quality: int = 95,
    ordered_map: OrderedMap = map,
) -> None:
    """Writes an animated GIF, PNG, WebP or AVIF atomically from frames that arrive one after another.

    Only AVIF keeps more than a few of them in memory, compressed.

    Args:
      path: the file.
      frames: `[H, W, C]` each.
      picture: durations, repetitions and metadata; of its own frames the number, channels and dtype are used.
      size: height and width of the frames.
      quality: as in `write_image`.
      ordered_map: like `map`; may encode several frames at a time.

    Raises:
      UserError: the format can't hold the file.
    """
    with atomic_file(path) as temporary:
        _write_animation(temporary, frames, picture, size, quality, ordered_map)


def _write_animation(
    path: Path,
    frames: Iterable[np.ndarray],
    picture: Picture,
    size: tuple[int, int],
    quality: int,
    ordered_map: OrderedMap = map,
) -> None:
    suffix = path.suffix.lower()
    if suffix == ".avif":
        _save(path, FrameImage(frames, len(picture.frames)), picture, suffix, quality)
    else:
        encode = functools.partial(encode_still, suffix=suffix, quality=quality)
        write_frames(path, frames, picture, size, encode, ordered_map)


def _check_supported(path: str | os.PathLike, picture: Picture) -> None:
    supported, channels = format_of(path), max(frame.shape[-1] for frame in picture.frames)
    height, width = (max(frame.shape[axis] for frame in picture.frames) for axis in (0, 1))
    count = len(picture.frames)
    pages = count > 1 and not picture.durations_ms
    unsupported = [
        (
            max(height, width) > supported.max_side_px,
            f"{width} x {height} pixels (at most {supported.max_side_px} a side)",
        ),
        (picture.frames[0].dtype == np.uint16 and not supported.sixteen_bit, "16 bits"),
        (channels in (2, 4) and not supported.alpha, "transparency"),
        (count > 1 and not supported.frames, f"{count} frames"),
        (pages and supported is not TIFF, f"{count} pages"),
    ]
    for is_unsupported, feature in unsupported:
        if is_unsupported:
            raise UserError(f"{Path(path).suffix} doesn't support {feature}; .png and .tif do")


def encode_still(picture: Picture, suffix: str, quality: int) -> bytes:
    """Returns the first frame, with the metadata, as the bytes of a file of this suffix."""
    frame = picture.frames[0]
    if frame.dtype == np.uint16 and frame.shape[-1] > 1:
        return encode_png_16(picture)
    buffer = BytesIO()
    image = Image.fromarray(np.ascontiguousarray(frame[..., 0] if frame.shape[-1] == 1 else frame))
    _save(buffer, image, dataclasses.replace(picture, durations_ms=()), suffix, quality)
    return buffer.getvalue()


def _save(file: Path | BytesIO, image: Image.Image, picture: Picture, suffix: str, quality: int) -> None:
    """Writes an image with Pillow."""
    name = Image.registered_extensions()[suffix]
    options: dict[str, Any] = {
        "JPEG": {"quality": quality, "subsampling": 0},
        "WEBP": {"quality": quality, "lossless": quality == 100 or picture.lossless, "method": 4, "exact": True},
        "AVIF": {"quality": quality, "subsampling": "4:4:4"},
        "PNG": {"compress_level": 3},
    }.get(name, {})
    metadata = {"icc_profile": picture.icc, "exif": picture.exif} if format_of(f"x{suffix}").profile else {}
    options |= {key: value for key, value in {**metadata, "dpi": picture.dpi}.items() if value}
    if picture.durations_ms:
        options |= {"save_all": True, "duration": whole_ms(picture.durations_ms)}
    image.save(file, name, **options)


def encode_png_16(picture: Picture) -> bytes:
    """Returns the bytes of a PNG with 16 bits per sample; Pillow can't write those with colour or alpha."""
    from imagecodecs import png_encode

    frame = picture.frames[0]
    encoded = png_encode(np.ascontiguousarray(frame[..., 0] if frame.shape[-1] == 1 else frame), level=3)
    start = 33  # after the signature (8 bytes) and IHDR (25): iCCP and pHYs must precede the samples
    return bytes(encoded[:start]) + b"".join(png_chunks(picture)) + encoded[start:]


def encode_png(image: np.ndarray) -> bytes:
    """Returns `[H, W]` or `[H, W, 2 to 4]` uint8 as the bytes of a PNG file."""
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def encode_webp(image: np.ndarray) -> bytes:
    """Returns `[H, W, 3]` uint8 as the bytes of a lossless WebP file."""
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "WEBP", lossless=True, method=2)
    return buffer.getvalue()
