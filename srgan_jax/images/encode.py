"""Encoding of `Picture` and arrays to image files."""

import dataclasses
import functools
import os
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from srgan_jax.images import deep_formats, fit_metadata
from srgan_jax.images.animation_write import FrameImage, OrderedMap, whole_ms, write_frames
from srgan_jax.images.containers import exif, isobmff, jp2, jpeg_segments, jxl, png
from srgan_jax.images.containers.gif import encode_gif
from srgan_jax.images.formats import JPEGS, TIFF, TIFFS, format_of
from srgan_jax.images.jpeg_xl import encode_jpeg_xl
from srgan_jax.images.metadata import png_chunks
from srgan_jax.images.picture import Picture
from srgan_jax.images.tiff import write_pages
from srgan_jax.runtime.atomic import atomic_file
from srgan_jax.runtime.errors import UserError


def write_image(path: str | os.PathLike, picture: Picture | np.ndarray, *, quality: int = 95) -> None:
    """Writes an image in the format of the file's suffix, atomically: to a temporary file, which is then renamed.

    Args:
      path: the file; missing folders are created.
      picture: a `Picture`, or `[H, W]` or `[H, W, C]`: gray, gray and alpha, RGB, RGB and alpha. uint8, uint16, or
        float in [0, 1], which is clipped and rounded to 8 bits.
      quality: quality of JPEG (4:4:4), WebP and JPEG XL (100 is lossless), and AVIF, 1 to 100.

    Raises:
      UserError: the format can't be written or doesn't support the image, or the array has another shape or dtype.
    """
    if not isinstance(picture, Picture):
        picture = np.asarray(picture)  # accepts jax.Array too
        if np.issubdtype(picture.dtype, np.floating):
            import jax.numpy as jnp  # integers don't need it

            from srgan_jax.ops import color

            picture = np.asarray(color.to_uint8(jnp.asarray(picture)))
        picture = Picture((picture[..., None] if picture.ndim == 2 else picture,))
    for frame in picture.frames:
        if frame.ndim != 3 or frame.shape[-1] not in (1, 2, 3, 4) or frame.dtype not in (np.uint8, np.uint16):
            raise UserError(
                f"{path}: expected an image [H, W, 1 to 4], uint8, uint16 or float in [0, 1], got {frame.shape} "
                f"{frame.dtype}"
            )
    _check_supported(path, picture)
    picture = fit_metadata.sized(picture, picture.shape[:2])
    suffix = Path(path).suffix.lower()
    with atomic_file(path) as temporary:
        if suffix in TIFFS:
            write_pages(temporary, (([frame], frame.shape, frame.dtype) for frame in picture.frames), picture)
        elif len(picture.frames) > 1:
            _write_animation(temporary, picture.frames, picture, picture.shape[:2], quality)
        else:
            temporary.write_bytes(encode_still(picture, suffix, quality))


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
        path.write_bytes(_with_description(path.read_bytes(), picture, suffix))
    else:
        encode = functools.partial(encode_still, suffix=suffix, quality=quality)
        write_frames(path, frames, picture, size, encode, ordered_map)


def _check_supported(path: str | os.PathLike, picture: Picture) -> None:
    supported, channels = format_of(path), max(frame.shape[-1] for frame in picture.frames)
    height, width = (max(frame.shape[axis] for frame in picture.frames) for axis in (0, 1))
    count = len(picture.frames)
    pages = count > 1 and not picture.durations_ms
    deep_avif = Path(path).suffix.lower() == ".avif" and picture.frames[0].dtype == np.uint16
    unsupported = [
        (
            max(height, width) > supported.max_side_px,
            f"{width} x {height} pixels (at most {supported.max_side_px} a side)",
        ),
        (picture.frames[0].dtype == np.uint16 and not supported.sixteen_bit, "16 bits"),
        (channels in (2, 4) and not supported.alpha, "transparency"),
        (count > 1 and not supported.frames, f"{count} frames"),
        (pages and supported is not TIFF, f"{count} pages"),
        (deep_avif and bool(picture.icc or picture.exif or picture.xmp), "16 bits with a colour profile, EXIF or XMP"),
    ]
    for is_unsupported, feature in unsupported:
        if is_unsupported:
            raise UserError(f"{Path(path).suffix} doesn't support {feature}; .png and .tif do")


def encode_still(picture: Picture, suffix: str, quality: int) -> bytes:
    """Returns the first frame, with the metadata, as the bytes of a file of this suffix."""
    frame = picture.frames[0]
    if suffix == ".jxl":
        encoded = encode_jpeg_xl(frame, quality, lossless=picture.lossless)
    elif suffix == ".gif":  # Pillow drops alpha
        encoded = encode_gif(frame, picture.comment)
    elif frame.dtype == np.uint16:
        encoded = _encode_16_bit(picture, suffix, quality)
    else:
        buffer = BytesIO()
        image = Image.fromarray(np.ascontiguousarray(frame[..., 0] if frame.shape[-1] == 1 else frame))
        _save(buffer, image, dataclasses.replace(picture, durations_ms=()), suffix, quality)
        encoded = buffer.getvalue()
    return _with_description(encoded, picture, suffix)


def _save(file: Path | BytesIO, image: Image.Image, picture: Picture, suffix: str, quality: int) -> None:
    """Writes an image of 8 bits with Pillow."""
    Image.preinit()  # the usual formats; `registered_extensions` imports some fifty more
    name = Image.EXTENSION.get(suffix) or Image.registered_extensions()[suffix]
    options: dict[str, Any] = {
        "JPEG": {"quality": quality, "subsampling": 0},
        "WEBP": {"quality": quality, "lossless": quality == 100 or picture.lossless, "method": 4, "exact": True},
        "AVIF": {"quality": quality, "subsampling": "4:4:4"},
        "PNG": {"compress_level": 3},
    }.get(name, {})
    options |= _description(picture, suffix)
    if picture.durations_ms:
        options |= {"save_all": True, "duration": whole_ms(picture.durations_ms)}
    image.save(file, name, **options)


def _description(picture: Picture, suffix: str) -> dict[str, Any]:
    """Returns the options by which Pillow writes metadata; `_with_description` adds the others."""
    if suffix in (".png", ".jp2"):
        return {}
    holds, values = format_of(f"x{suffix}").holds, {"icc_profile": picture.icc}
    values |= {field: getattr(picture, field) for field in ("exif", "xmp", "comment", "dpi") if field in holds}
    if picture.exif and suffix == ".avif":  # Pillow encodes EXIF with an orientation again
        values["exif"] = exif.without_orientation(picture.exif)
    if suffix in JPEGS:
        values["extra"] = jpeg_segments.encode(values.pop("xmp"), picture.extended_xmp, picture.photoshop)
    return {name: value for name, value in values.items() if value}


def _encode_16_bit(picture: Picture, suffix: str, quality: int) -> bytes:
    """Returns the bytes of a file of 16 bits (AVIF: 10 bits), which Pillow can't write with colour or alpha."""
    from imagecodecs import png_encode

    frame = np.ascontiguousarray(picture.frames[0])
    encoders = {
        ".avif": lambda: deep_formats.encode_avif(frame, quality, picture.color.codes if picture.color else None),
        ".jp2": lambda: deep_formats.encode_jpeg2000(frame),
        ".png": lambda: png_encode(frame[..., 0] if frame.shape[-1] == 1 else frame, level=3),
    }
    return bytes(encoders.get(suffix, lambda: deep_formats.encode_ppm(frame))())


def _with_description(encoded: bytes, picture: Picture, suffix: str) -> bytes:
    """Returns an encoded file with the metadata that the encoders don't write."""
    if suffix == ".png":
        return encoded[: png.START] + b"".join(png_chunks(picture)) + encoded[png.START :]
    if suffix == ".avif" and picture.color and picture.color.codes:
        return isobmff.with_color(encoded, *picture.color.codes)
    if suffix == ".jxl":
        return jxl.with_metadata(encoded, bytes(exif.block_of(picture.exif)) if picture.exif else None, picture.xmp)
    if suffix == ".jp2":
        values = {"icc": picture.icc, "xmp": picture.xmp}
        values["iptc"] = jpeg_segments.iptc_of(picture.photoshop) if picture.photoshop else None
        values["exif"] = bytes(exif.block_of(picture.exif)) if picture.exif else None
        return jp2.with_metadata(encoded, {name: value for name, value in values.items() if value})
    return encoded


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
