"""What each image format can hold, and images fitted to it."""

import dataclasses
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from srgan_jax.images.picture import Picture
from srgan_jax.images.rgb import on_white, to_uint8
from srgan_jax.runtime.errors import lookup

MAX_JPEG_EXIF = 65_533  # bytes of a JPEG segment without its length
WHOLE_BYTES = 1 << 30  # of samples: larger results are written by rows, which is TIFF


class Format(NamedTuple):
    """What a file format can hold."""

    max_side_px: int
    deep: bool = False  # 16 bits
    alpha: bool = True
    frames: bool = False  # several pictures in one file
    profile: bool = True  # ICC and EXIF


JPEG = Format(65_500, alpha=False)
TIFF = Format(2**31 - 1, deep=True, frames=True)
FORMATS = {
    ".png": Format(2**31 - 1, deep=True, frames=True),
    ".tif": TIFF, ".tiff": TIFF,
    ".jpg": JPEG, ".jpeg": JPEG, ".jpe": JPEG,
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
    if len(frames) > 1 and not (held is TIFF or (held.frames and picture.durations_ms)):
        notes.append(f"{path.suffix} holds one picture: the first of {len(frames)}")
        frames = frames[:1]
    if any(frame.dtype == np.uint16 for frame in frames) and (not held.deep or (len(frames) > 1 and held is not TIFF)):
        notes.append(f"{path.suffix} holds 8 bits: 16 are rounded")
        frames = [to_uint8(frame) for frame in frames]
    if any(frame.shape[-1] in (2, 4) for frame in frames) and not held.alpha:
        notes.append(f"{path.suffix} holds no transparency: laid on white")
        frames = [on_white(frame) if frame.shape[-1] in (2, 4) else frame for frame in frames]
    exif = picture.exif
    if held is JPEG and exif and len(exif) > MAX_JPEG_EXIF:
        notes.append(f"EXIF of {len(exif)} bytes is more than JPEG holds: left out")
        exif = None
    return dataclasses.replace(picture, frames=tuple(frames), exif=exif), path, notes
