"""Encoding of `Picture` and arrays to image files."""

import os
from io import BytesIO
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from PIL import Image

from srgan_jax.images import deep_formats, exif, fit_metadata, isobmff, jp2, jpeg_segments, png
from srgan_jax.images.formats import JPEGS, TIFF, TIFFS, format_of
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
    picture = fit_metadata.sized(picture, picture.shape[:2])
    suffix = Path(path).suffix.lower()
    with atomic_file(path) as temporary:
        if suffix in TIFFS:
            write_pages(temporary, (([frame], frame.shape, frame.dtype) for frame in picture.frames), picture)
        else:
            deep = picture.frames[0].dtype == np.uint16
            encoded = _encode_16_bit(picture, suffix, quality) if deep else _encode(picture, suffix, quality)
            temporary.write_bytes(_with_description(encoded, picture, suffix))


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


def _encode(picture: Picture, suffix: str, quality: int) -> bytes:
    """Returns the bytes of a file of 8 bits, encoded by Pillow."""
    first, *rest = [Image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else frame) for frame in picture.frames]
    name = Image.registered_extensions()[suffix]
    options: dict[str, Any] = {
        "JPEG": {"quality": quality, "subsampling": 0},
        "WEBP": {"quality": quality, "lossless": quality == 100, "method": 4, "exact": True},
        "AVIF": {"quality": quality, "subsampling": "4:4:4"},
        "PNG": {"compress_level": 3},
    }.get(name, {})
    options |= _description(picture, suffix)
    if rest:
        options |= {"save_all": True, "append_images": rest, "duration": list(picture.durations_ms)}
        options |= {"GIF": {"disposal": 2}, "PNG": {"disposal": 0}}.get(name, {})
        if picture.loop is not None and not (name == "GIF" and picture.loop == 1):  # GIF's default
            options["loop"] = picture.loop
    buffer = BytesIO()
    first.save(buffer, name, **options)
    return buffer.getvalue()


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
    if suffix == ".jp2":
        values = {"icc": picture.icc, "xmp": picture.xmp}
        values["iptc"] = jpeg_segments.iptc_of(picture.photoshop) if picture.photoshop else None
        values["exif"] = bytes(exif.block_of(picture.exif)) if picture.exif else None
        return jp2.with_metadata(encoded, {name: value for name, value in values.items() if value})
    return encoded


def encode_png(image: np.ndarray) -> bytes:
    """Returns `[H, W, 3]` uint8 as the bytes of a PNG file."""
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def encode_webp(image: np.ndarray) -> bytes:
    """Returns `[H, W, 3]` uint8 as the bytes of a lossless WebP file."""
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "WEBP", lossless=True, method=2)
    return buffer.getvalue()
