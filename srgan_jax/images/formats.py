"""Writing pictures: what each format can hold, whole files, and TIFF by rows."""

import dataclasses
import math
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from srgan_jax.errors import UserError, lookup
from srgan_jax.images.pictures import Picture
from srgan_jax.images.rgb import on_white, to_uint8
from srgan_jax.images.tiff import write_pages
from srgan_jax.paths import whole_file

MAX_JPEG_EXIF = 65_533  # bytes of a JPEG segment without its length
WHOLE_BYTES = 1 << 30  # of samples: larger results are written by rows, which is TIFF


class Format(NamedTuple):
    """What a file format can hold."""

    max_side_px: int
    deep: bool = False  # 16 bits
    alpha: bool = True
    frames: bool = False  # several pictures in one file
    profile: bool = True  # ICC and EXIF


_JPEG = Format(65_500, alpha=False)
_TIFF = Format(2**31 - 1, deep=True, frames=True)
FORMATS = {
    ".png": Format(2**31 - 1, deep=True, frames=True),
    ".tif": _TIFF, ".tiff": _TIFF,
    ".jpg": _JPEG, ".jpeg": _JPEG, ".jpe": _JPEG,
    ".webp": Format(16_383, frames=True),
    ".avif": Format(16_384),
    ".gif": Format(65_535, frames=True, profile=False),
    ".jp2": Format(2**31 - 1, profile=False),
    ".bmp": Format(2**31 - 1, alpha=False, profile=False),
    ".tga": Format(65_535, profile=False),
    ".ppm": Format(2**31 - 1, alpha=False, profile=False),
    ".pgm": Format(2**31 - 1, alpha=False, profile=False),
}  # fmt: skip
TIFFS = (".tif", ".tiff")


def format_of(path: str | os.PathLike) -> Format:
    """What the format of a file's suffix can hold.

    Raises:
      ValueError: it can't be written; the message lists those that can.
    """
    return lookup(FORMATS, Path(path).suffix.lower(), "picture format")


def write_image(path: str | os.PathLike, picture: Picture | np.ndarray, *, quality: int = 95) -> None:
    """Writes a picture in the format of the suffix, under a temporary name that is then changed.

    Args:
      path: the file; folders are made.
      picture: a `Picture`, or `[H, W]` or `[H, W, C]` uint8 or uint16: gray, gray and alpha, RGB, RGB and alpha.
      quality: of JPEG (4:4:4), WebP (100 is lossless) and AVIF, 1 to 100.

    Raises:
      ValueError: the format can't be written or can't hold the picture, or the array is none.
    """
    if not isinstance(picture, Picture):
        picture = np.asarray(picture)  # JAX's arrays too
        picture = Picture((picture[..., None] if picture.ndim == 2 else picture,))
    for frame in picture.frames:
        if frame.ndim != 3 or frame.shape[-1] not in (1, 2, 3, 4) or frame.dtype not in (np.uint8, np.uint16):
            raise ValueError(f"expected [H, W, 1 to 4] uint8 or uint16, got {frame.shape} {frame.dtype}")
    _check_holds(path, picture)
    deep = picture.frames[0].dtype == np.uint16
    with whole_file(path) as temporary:
        if Path(path).suffix.lower() in TIFFS:
            write_pages(temporary, (([frame], frame.shape, frame.dtype) for frame in picture.frames), picture)
        elif deep and picture.shape[-1] > 1:
            temporary.write_bytes(_deep_png(picture))
        else:
            _save(temporary, picture, Path(path).suffix.lower(), quality)


def _check_holds(path: str | os.PathLike, picture: Picture) -> None:
    held, channels = format_of(path), max(frame.shape[-1] for frame in picture.frames)
    height, width = (max(frame.shape[axis] for frame in picture.frames) for axis in (0, 1))
    pages = len(picture.frames) > 1 and not picture.durations_ms
    wrong = [
        (max(height, width) > held.max_side_px, f"{width} x {height} pixels; at most {held.max_side_px} a side fit"),
        (picture.frames[0].dtype == np.uint16 and not held.deep, "16 bits"),
        (channels in (2, 4) and not held.alpha, "transparency"),
        (len(picture.frames) > 1 and not held.frames, f"{len(picture.frames)} frames"),
        (pages and held is not _TIFF, f"{len(picture.frames)} pages"),
    ]
    for is_wrong, what in wrong:
        if is_wrong:
            raise UserError(f"{Path(path).suffix} files can't hold {what}; .png and .tif can")


def _save(path: Path, picture: Picture, suffix: str, quality: int) -> None:
    """What Pillow can write."""
    first, *rest = [Image.fromarray(frame[..., 0] if frame.shape[-1] == 1 else frame) for frame in picture.frames]
    name = Image.registered_extensions()[suffix]
    options: dict[str, Any] = {
        "JPEG": {"quality": quality, "subsampling": 0},
        "WEBP": {"quality": quality, "lossless": quality == 100, "method": 4, "exact": True},
        "AVIF": {"quality": quality, "subsampling": "4:4:4"},
        "PNG": {"compress_level": 3},
    }.get(name, {})
    about = {"icc_profile": picture.icc, "exif": picture.exif} if format_of(f"x{suffix}").profile else {}
    options |= {key: value for key, value in {**about, "dpi": picture.dpi}.items() if value}
    if rest:
        options |= {"save_all": True, "append_images": rest, "duration": list(picture.durations_ms)}
        options |= {"GIF": {"disposal": 2}, "PNG": {"disposal": 0}}.get(name, {})
        if picture.loop is not None and not (name == "GIF" and picture.loop == 1):  # a GIF without it is played once
            options["loop"] = picture.loop
    first.save(path, name, **options)


def _deep_png(picture: Picture) -> bytes:
    """A PNG of 16 bits a sample with colours or alpha, which Pillow can't write."""
    from imagecodecs import png_encode

    encoded = png_encode(np.ascontiguousarray(picture.frames[0]), level=3)
    start = 33  # after the signature (8 bytes) and the header chunk (25): where what describes the samples belongs
    return encoded[:start] + b"".join(_png_chunks(picture)) + encoded[start:]


def _png_chunks(picture: Picture) -> Iterator[bytes]:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    if picture.icc:
        yield chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(picture.icc))
    if picture.dpi:
        yield chunk(b"pHYs", struct.pack(">IIB", *(round(value / 0.0254) for value in picture.dpi), 1))  # per metre
    if picture.exif:
        yield chunk(b"eXIf", picture.exif.removeprefix(b"Exif\0\0"))


# ---------------------------------------------------------------------------------------------- fitting


def fit_format(
    picture: Picture, path: str | os.PathLike, size_of: Callable[[int, int], tuple[int, int]]
) -> tuple[Picture, Path, list[str]]:
    """What a format can't hold, made so that it can, or another format.

    Args:
      picture: before it is enlarged.
      path: the file to be written.
      size_of: height and width before to height and width after.

    Returns:
      The picture (8 bits where the format has no 16, laid on white where it has no alpha, the first frame where it
      has no frames), the path (another suffix where the size doesn't fit), and a line for each thing done, after those
      of what was lost in reading.
    """
    path, notes = Path(path), list(picture.notes)
    held, frames = format_of(path), picture.frames
    sizes = [size_of(*frame.shape[:2]) for frame in frames]
    samples = sum(math.prod(size) * frame.shape[-1] * frame.itemsize for size, frame in zip(sizes, frames, strict=True))
    if max(map(max, sizes)) > held.max_side_px or (samples > WHOLE_BYTES and path.suffix not in TIFFS):
        suffix = ".tif" if samples > WHOLE_BYTES else ".png"
        notes.append(f"{sizes[0][1]} x {sizes[0][0]} pixels are too many for {path.suffix}: written as {suffix}")
        path = path.with_suffix(suffix)
        held = format_of(path)
    if len(frames) > 1 and not (held is _TIFF or (held.frames and picture.durations_ms)):
        notes.append(f"{path.suffix} holds one picture: the first of {len(frames)}")
        frames = frames[:1]
    if any(frame.dtype == np.uint16 for frame in frames) and (not held.deep or (len(frames) > 1 and held is not _TIFF)):
        notes.append(f"{path.suffix} holds 8 bits: 16 are rounded")
        frames = [to_uint8(frame) for frame in frames]
    if any(frame.shape[-1] in (2, 4) for frame in frames) and not held.alpha:
        notes.append(f"{path.suffix} holds no transparency: laid on white")
        frames = [on_white(frame) if frame.shape[-1] in (2, 4) else frame for frame in frames]
    exif = picture.exif
    if held is _JPEG and exif and len(exif) > MAX_JPEG_EXIF:
        notes.append(f"EXIF of {len(exif)} bytes is more than JPEG holds: left out")
        exif = None
    return dataclasses.replace(picture, frames=tuple(frames), exif=exif), path, notes


def encode_png(image: np.ndarray) -> bytes:
    """`[H, W, 3]` uint8 as the bytes of a PNG file."""
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def encode_webp(image: np.ndarray) -> bytes:
    """`[H, W, 3]` uint8 as the bytes of a lossless WebP file."""
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, "WEBP", lossless=True, method=2)
    return buffer.getvalue()
