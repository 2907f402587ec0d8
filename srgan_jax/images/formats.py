"""Capabilities of the image formats, and conversion of images to what a format supports."""

import dataclasses
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from srgan_jax.images.errors import ImageError
from srgan_jax.images.guard import kind_of_path
from srgan_jax.images.high_bit_depth import to_uint8
from srgan_jax.images.picture import Picture, change_frames
from srgan_jax.images.rgb import composite_on_white
from srgan_jax.runtime.errors import lookup

MAX_JPEG_EXIF = 65_533  # bytes of a JPEG segment without its length field
MAX_IN_MEMORY_BYTES = 1 << 30  # bytes of samples; larger results are written row by row, which only TIFF supports


class Format(NamedTuple):
    """Capabilities of a file format."""

    max_side_px: int
    sixteen_bit: bool = False  # 16 bits
    alpha: bool = True
    frames: bool = False  # several images in one file
    profile: bool = True  # ICC and EXIF


JPEG = Format(65_500, alpha=False)
TIFF = Format(2**31 - 1, sixteen_bit=True, frames=True)
FORMATS = {
    ".png": Format(2**31 - 1, sixteen_bit=True, frames=True),
    ".tif": TIFF, ".tiff": TIFF,
    ".jpg": JPEG, ".jpeg": JPEG, ".jpe": JPEG,
    ".webp": Format(16_383, frames=True),
    ".avif": Format(16_384, frames=True),
    ".gif": Format(65_535, frames=True, profile=False),
    ".jp2": Format(2**31 - 1, profile=False),
    ".bmp": Format(2**31 - 1, alpha=False, profile=False),
    ".tga": Format(65_535, profile=False),
    ".ppm": Format(2**31 - 1, alpha=False, profile=False),
    ".pgm": Format(2**31 - 1, alpha=False, profile=False),
}  # fmt: skip
TIFFS = (".tif", ".tiff")


def result_suffix(source: str | os.PathLike) -> str:
    """Returns the suffix of the result for a file: its own, or by its content that of a format that can be written."""
    suffix = Path(source).suffix.lower()
    if suffix in FORMATS:
        return suffix
    try:
        return kind_of_path(source).suffix
    except ImageError:
        return ".png"


def format_of(path: str | os.PathLike) -> Format:
    """Returns the capabilities of the format of a file's suffix.

    Raises:
      ValueError: the format can't be written; the message lists those that can.
    """
    return lookup(FORMATS, Path(path).suffix.lower(), "image format")


def fit_format(
    picture: Picture, path: str | os.PathLike, size_of: Callable[[int, int], tuple[int, int]]
) -> tuple[Picture, Path, list[str]]:
    """Converts an image to what a format supports, or selects another format.

    Args:
      picture: the image before upscaling.
      path: the file to be written.
      size_of: function from height and width before upscaling to height and width after it.

    Returns:
      The image (rounded to 8 bits if the format doesn't support 16, composited on white if it doesn't support alpha,
      only the first frame if it doesn't support frames), the path (with another suffix if the size is too large), and
      the notes: those of `picture`, then one for each conversion.
    """
    path, notes = Path(path), list(picture.notes)
    supported, frames = format_of(path), picture.frames
    sizes = [size_of(*shape[:2]) for shape, _ in picture.layouts]
    each = [
        math.prod(size) * shape[2] * dtype.itemsize for size, (shape, dtype) in zip(sizes, picture.layouts, strict=True)
    ]
    samples = max(each) if picture.durations_ms and supported.frames else sum(each)  # animations are written by frames
    if max(map(max, sizes)) > supported.max_side_px or (samples > MAX_IN_MEMORY_BYTES and path.suffix not in TIFFS):
        suffix = ".tif" if samples > MAX_IN_MEMORY_BYTES else ".png"
        notes.append(f"{sizes[0][1]} x {sizes[0][0]} pixels is too large for {path.suffix}: written as {suffix}")
        path = path.with_suffix(suffix)
        supported = format_of(path)
    if len(frames) > 1 and not (supported is TIFF or (supported.frames and picture.durations_ms)):
        notes.append(f"{path.suffix} supports one image: only the first of {len(frames)} is written")
        frames = (frames[0],)
    layouts = picture.layouts[: len(frames)]
    if any(dtype == np.uint16 for _, dtype in layouts) and not supported.sixteen_bit:
        notes.append(f"{path.suffix} supports 8 bits: 16 bits are rounded to 8")
        frames = change_frames(frames, to_uint8, dtype=np.uint8)
    if any(shape[2] in (2, 4) for shape, _ in layouts) and not supported.alpha:
        notes.append(f"{path.suffix} doesn't support transparency: composited on white")
        frames = change_frames(frames, _without_alpha, channels=layouts[0][0][2] - 1)
    exif = picture.exif
    if supported is JPEG and exif and len(exif) > MAX_JPEG_EXIF:
        notes.append(f"EXIF has {len(exif)} bytes, JPEG supports {MAX_JPEG_EXIF}: EXIF is dropped")
        exif = None
    return dataclasses.replace(picture, frames=frames, exif=exif), path, notes


def _without_alpha(frame: np.ndarray) -> np.ndarray:
    return composite_on_white(frame) if frame.shape[-1] in (2, 4) else frame
