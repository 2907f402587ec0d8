"""Capabilities of the image formats, and conversion of images to what a format supports."""

import dataclasses
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from srgan_jax.images import deep_formats, fit_color, fit_metadata
from srgan_jax.images.errors import ImageError
from srgan_jax.images.high_bit_depth import to_uint8
from srgan_jax.images.jpeg_xl import jpeg_xl_color
from srgan_jax.images.picture import Picture, change_frames
from srgan_jax.images.pillow import kind_of_path, open_image
from srgan_jax.images.pixels import fields_of
from srgan_jax.images.rgb import composite_on_white
from srgan_jax.runtime.errors import lookup

MAX_IN_MEMORY_BYTES = 1 << 30  # bytes of samples; larger results are written row by row, which only TIFF supports


class Format(NamedTuple):
    """Capabilities of a file format."""

    max_side_px: int
    sixteen_bit: bool = False  # 16 bits
    alpha: bool = True
    frames: bool = False  # several images in one file
    holds: tuple[str, ...] = ()  # fields of `Picture`: metadata, and "icc"


EMBEDDED = ("icc", "exif", "xmp")
JPEG = Format(65_500, alpha=False, holds=(*EMBEDDED, "extended_xmp", "photoshop", "comment", "dpi"))
TIFF = Format(2**31 - 1, sixteen_bit=True, frames=True, holds=(*EMBEDDED, "photoshop", "tiff_tags", "dpi"))
PPM = Format(2**31 - 1, sixteen_bit=True, alpha=False)
FORMATS = {
    ".png": Format(2**31 - 1, sixteen_bit=True, frames=True, holds=(*EMBEDDED, "photoshop", "comment", "text", "dpi")),
    ".tif": TIFF, ".tiff": TIFF,
    ".jpg": JPEG, ".jpeg": JPEG, ".jpe": JPEG,
    ".webp": Format(16_383, frames=True, holds=EMBEDDED),
    ".avif": Format(16_384, sixteen_bit=True, frames=True, holds=EMBEDDED),
    ".jxl": Format(2**18, sixteen_bit=True, holds=("exif", "xmp")),
    ".gif": Format(65_535, frames=True, holds=("comment",)),
    ".jp2": Format(2**31 - 1, sixteen_bit=True, holds=(*EMBEDDED, "photoshop")),
    ".bmp": Format(2**31 - 1, alpha=False, holds=("dpi",)),
    ".tga": Format(65_535),
    ".ppm": PPM, ".pgm": PPM,
}  # fmt: skip
JPEGS = (".jpg", ".jpeg", ".jpe")
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
      only the first frame if it doesn't support frames, converted to sRGB if it can't state the colour space, without
      the metadata that it can't hold; sizes in the metadata are those of the result), the path (with another suffix if
      the size is too large, or for HDR), and the notes: those of `picture`, then one for each conversion.
    """
    path, notes = _suitable_format(picture, Path(path), size_of)
    notes, supported, suffix = [*picture.notes, *notes], format_of(path), path.suffix.lower()
    before = picture.shape[:2]
    if len(picture.frames) > 1 and not (supported is TIFF or (supported.frames and picture.durations_ms)):
        notes.append(f"{path.suffix} supports one image: only the first of {len(picture.frames)} is written")
        picture = dataclasses.replace(picture, frames=(picture.frames[0],))
    if len(picture.frames) > 1 and picture.durations_ms and supported is TIFF:
        notes.append(f"{path.suffix} holds pages: the durations of the {len(picture.frames)} frames are not kept")
    if len(picture.frames) > 1 and picture.durations_ms and picture.loop and suffix == ".avif":
        notes.append(f".avif is repeated for ever: the number of times it is played ({picture.loop}) is not kept")
    picture, color_notes = fit_color.fit(picture, suffix, profiles="icc" in supported.holds)
    picture, metadata_notes = fit_metadata.fit(picture, suffix, supported.holds)
    still_avif = suffix == ".avif" and len(picture.frames) == 1
    picture, avif_notes = _fit_avif(picture) if still_avif else (picture, [])
    frames, layouts = picture.frames, picture.layouts
    sixteen_bit = supported.sixteen_bit and (suffix != ".avif" or still_avif)
    if any(dtype == np.uint16 for _, dtype in layouts) and not sixteen_bit:
        notes.append(f"{path.suffix} supports 8 bits: 16 bits are rounded to 8")
        frames = change_frames(frames, to_uint8, dtype=np.uint8)
    if any(shape[2] in (2, 4) for shape, _ in layouts) and not supported.alpha:
        notes.append(f"{path.suffix} doesn't support transparency: composited on white")
        frames = change_frames(frames, _without_alpha, channels=layouts[0][0][2] - 1)
    picture = fit_metadata.resized(picture, before, size_of(*before))
    picture = dataclasses.replace(picture, frames=frames)
    return picture, path, [*notes, *color_notes, *metadata_notes, *avif_notes]


def _without_alpha(frame: np.ndarray) -> np.ndarray:
    return composite_on_white(frame) if frame.shape[-1] in (2, 4) else frame


def _suitable_format(
    picture: Picture, path: Path, size_of: Callable[[int, int], tuple[int, int]]
) -> tuple[Path, list[str]]:
    """Returns the path, with another suffix if its format can't hold the size or the colour space, and why."""
    notes, supported = [], format_of(path)
    sizes = [size_of(*shape[:2]) for shape, _ in picture.layouts]
    each = [
        math.prod(size) * shape[2] * dtype.itemsize for size, (shape, dtype) in zip(sizes, picture.layouts, strict=True)
    ]
    samples = max(each) if picture.durations_ms and supported.frames else sum(each)  # animations are written by frames
    large = samples > MAX_IN_MEMORY_BYTES
    if max(map(max, sizes)) > supported.max_side_px or (large and path.suffix not in TIFFS):
        suffix = ".tif" if large else ".png"
        notes.append(f"{sizes[0][1]} x {sizes[0][0]} pixels is too large for {path.suffix}: written as {suffix}")
        path = path.with_suffix(suffix)
    if picture.color and not large and not fit_color.can_state(picture.color, path.suffix.lower()):
        notes.append(f"{path.suffix} can't state the colour space ({picture.color.name}): written as .png")
        path = path.with_suffix(".png")
    return path, notes


def _fit_avif(picture: Picture) -> tuple[Picture, list[str]]:
    """Returns the image for AVIF: of more than 8 bits without metadata, which the encoder of 10 bits doesn't write.

    Colours of HDR need the 10 bits; other images with metadata are rounded to 8.
    """
    described = [field for field in ("icc", "exif", "xmp") if getattr(picture, field)]
    if picture.layouts[0][1] != np.uint16:
        return picture, []
    if not described:
        notes = [".avif is written with 10 bits"]
        return picture, [] if all(map(deep_formats.has_10_bits, picture.frames)) else notes
    if not (picture.color and picture.color.hdr):
        frames = tuple(map(to_uint8, picture.frames))
        return dataclasses.replace(picture, frames=frames), [
            ".avif is written with 8 bits, because one with 10 bits would have no colour profile, EXIF and XMP"
        ]
    without = dataclasses.replace(picture, icc=None, exif=None, xmp=None)
    names = ", ".join({"icc": "colour profile"}.get(field, field.upper()) for field in described)
    return without, [f".avif is written with 10 bits, without {names}"]


def can_state_colors(file: str | os.PathLike, target: str | os.PathLike, max_pixels: int) -> bool:
    """Returns whether the format of `target` can state the colours of a file, from its header.

    True if the file can't be read: decoding it reports the reason.
    """
    try:
        if kind_of_path(file).name == "JXL":
            return fit_color.can_state(jpeg_xl_color(file, max_pixels), Path(target).suffix.lower())
        with open_image(file, max_pixels) as image:
            stated = image.format in ("PNG", "AVIF", "HEIF")
            space = fields_of(image, file).get("color") if stated else None
    except ImageError:
        return True
    return fit_color.can_state(space, Path(target).suffix.lower())
