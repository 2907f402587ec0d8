"""Decoding of image files of every supported format to `Picture`."""

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np
from PIL import Image, ImageFile, TiffImagePlugin

from srgan_jax.images import high_bit_depth, metadata
from srgan_jax.images.errors import ImageError
from srgan_jax.images.files import is_open
from srgan_jax.images.guard import NOTES, UnknownFormatError, kind_of_path, open_image
from srgan_jax.images.limits import MAX_PIXELS, MAX_SECONDS, check_frames, check_pixels, within
from srgan_jax.images.metadata import metadata_of
from srgan_jax.images.picture import Picture
from srgan_jax.images.pixels import current_frame, unify_channels
from srgan_jax.images.raw import raw_size, read_raw
from srgan_jax.images.repair import complete_jpeg
from srgan_jax.images.tiff_reader import TiffContents, deep_frame, tiff_contents

if TYPE_CHECKING:
    from tifffile import TiffPage


def _tags(image: Image.Image) -> TiffImagePlugin.ImageFileDirectory_v2:
    """Returns the tags of a TIFF that Pillow opened."""
    return cast(TiffImagePlugin.TiffImageFile, image).tag_v2


def is_gray(path: str | os.PathLike) -> bool:
    """Returns whether the file has one channel (besides alpha); False if it can't be read."""
    try:
        with open_image(path) as image:
            return image.mode in ("1", "L", "LA", "I", "F") or image.mode.startswith("I;")
    except (ImageError, OSError):
        return False


ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")


def read_image(
    file: str | os.PathLike | BinaryIO,
    *,
    max_pixels: int = MAX_PIXELS,
    max_seconds: float = MAX_SECONDS,
    salvage: bool = False,
) -> Picture:
    """Reads an image file without loss of channels, bit depth, frames or metadata.

    EXIF orientation is applied. Gray, 16 bits and alpha are kept. Palettes become gray or RGB. 1-bit images become
    gray. CMYK and Lab are converted to RGB by their colour profile. Animated GIF, WebP, PNG and AVIF give all frames,
    TIFF all pages of full resolution.

    Args:
      file: path or open binary file.
      max_pixels: largest number of pixels, all frames together.
      max_seconds: longest time for decoding.
      salvage: take what can be read of a damaged or truncated file; the rest is gray or black.

    Raises:
      ImageError: no such file, not an image, damaged, too large, or not readable; the message begins with the path.
    """
    try:
        return decode_image(file, max_pixels=max_pixels, max_seconds=max_seconds, salvage=salvage)
    except ImageError as error:
        raise ImageError(f"{os.fspath(file)}: {error}" if isinstance(file, str | os.PathLike) else str(error)) from None


def decode_image(
    file: str | os.PathLike | BinaryIO,
    *,
    max_pixels: int = MAX_PIXELS,
    max_seconds: float = MAX_SECONDS,
    first_frame: bool = False,
    salvage: bool = False,
) -> Picture:
    """Reads an image like `read_image`, but error messages don't contain the path.

    With `first_frame` only the first frame is read.
    """
    return within(max_seconds, lambda: _decode_or_repair(file, max_pixels, first_frame, salvage))


def _decode_or_repair(file: str | os.PathLike | BinaryIO, max_pixels: int, first_frame: bool, salvage: bool) -> Picture:
    """Reads an image; a JPEG may lack its end, and with `salvage` any part may be missing."""
    try:
        return _decode(file, max_pixels, first_frame)
    except ImageError as error:
        note, picture = "JPEG without its end: read, as viewers do", None
        if "truncated" in str(error) and kind_of_path(file).name == "JPEG":
            picture = complete_jpeg(_content(file), lambda stream: _decode(stream, max_pixels, first_frame=True))
        if picture is None and salvage:
            note = f"damaged ({error}): what could be read is taken"
            picture = _decode(file, max_pixels, first_frame, salvage=True)
        if picture is None:
            raise
        return dataclasses.replace(picture, notes=(*picture.notes, note))


def _content(file: str | os.PathLike | BinaryIO) -> bytes:
    if not is_open(file):
        return Path(file).read_bytes()
    file.seek(0)
    return file.read()


def _decode(
    file: str | os.PathLike | BinaryIO, max_pixels: int, first_frame: bool, *, salvage: bool = False
) -> Picture:
    name = kind_of_path(file).name
    if name == "TIFF":
        with tiff_contents(file, max_pixels) as contents:
            if not contents.raw:
                return _read_tiff(file, contents, max_pixels, first_frame, salvage)
    if name in ("TIFF", "RAW"):
        return read_raw(file, max_pixels)
    return _read_with_pillow(file, max_pixels, first_frame, salvage)


def image_size(
    file: str | os.PathLike | BinaryIO, *, max_pixels: int = MAX_PIXELS, max_seconds: float = MAX_SECONDS
) -> tuple[int, int]:
    """Returns height and width of the image that `decode_image` gives, from the header; raises the same errors."""
    return within(max_seconds, lambda: _header_size(file, max_pixels))


def _header_size(file: str | os.PathLike | BinaryIO, max_pixels: int) -> tuple[int, int]:
    name = kind_of_path(file).name
    if name == "TIFF":
        with tiff_contents(file, max_pixels) as contents:
            page = contents.pages[0][1]
            size = page.imagelength, page.imagewidth
            if not contents.raw:
                return (size[1], size[0]) if high_bit_depth.orientation(page) >= 5 else size
    if name in ("TIFF", "RAW"):
        return raw_size(file, max_pixels)
    with open_image(file, max_pixels) as image:
        in_header = "exif" in image.info or image.format != "PNG"  # otherwise getexif decodes the whole PNG
        swapped = in_header and image.getexif().get(0x0112, 1) >= 5
        return image.size if swapped else (image.height, image.width)


def _read_tiff(
    file: str | os.PathLike | BinaryIO, contents: TiffContents, max_pixels: int, first_frame: bool, salvage: bool
) -> Picture:
    """Returns the pages of a TIFF, those of 8 bits by Pillow, which applies colour profiles."""
    pages = contents.pages[:1] if first_frame else contents.pages
    try:
        with open_image(file, max_pixels, salvage=salvage) as image:
            frames = [_tiff_frame(image, index, page) for index, page in pages]
            image.seek(pages[0][0] or 0)
            fields = _fields(image)
    except UnknownFormatError:  # a kind of TIFF that Pillow can't read
        frames, fields = [deep_frame(page) for _, page in pages], metadata.tiff_metadata(pages[0][1])
    return Picture(high_bit_depth.unify_bit_depth(frames), **{**fields, "notes": contents.notes})


def _tiff_frame(image: Image.Image, index: int | None, page: "TiffPage") -> np.ndarray:
    """Returns a page by Pillow, unless Pillow can't read it or would truncate its samples."""
    if index is None:
        return deep_frame(page)
    try:
        image.seek(index)
    except Exception:  # Pillow's plug-ins raise exceptions of many types
        return deep_frame(page)
    return deep_frame(page) if exceeds_8_bits(image) else current_frame(image)


def _fields(image: Image.Image) -> dict[str, Any]:
    """Returns the metadata for `Picture`. Called after the frames are read, because it deletes the orientation."""
    fields = metadata_of(image)
    if image.mode not in ("RGB", "RGBA", "RGBX", "L", "LA", "1", "P") and image.mode[0] != "I":
        fields["icc"] = None  # the conversion has applied it
    return {**fields, "notes": image.info.get(NOTES, ())}


def _read_with_pillow(file: str | os.PathLike | BinaryIO, max_pixels: int, first_frame: bool, salvage: bool) -> Picture:
    with open_image(file, max_pixels, salvage=salvage) as image:
        available = _frame_count(image)
        start = 1 if image.info.get("default_image") and available > 1 else 0  # not part of the animation
        count = start + 1 if first_frame else available
        check_pixels(image.width * image.height * count, max_pixels)
        above_8_bits = exceeds_8_bits(image)
        if above_8_bits and image.format == "PNG" and available == 1 and not salvage:
            return Picture((high_bit_depth.png_pixels(file, image.getexif().get(0x0112, 1)),), **_fields(image))
        frames, durations, pixels = [], [], 0
        for index in range(start, count):
            if count > 1:  # a PSD has no frame 0
                image.seek(index)
            pixels += image.width * image.height
            check_pixels(pixels, max_pixels)
            frames.append(current_frame(image))
            durations.append(max(0, int(image.info.get("duration") or 0)))
        fields = _fields(image)
        if available > 1 and image.format in ANIMATED:
            default_loop = 1 if image.format == "GIF" else None  # a GIF without a loop count is played once
            fields |= {"durations_ms": tuple(durations), "loop": image.info.get("loop", default_loop)}
            fields["notes"] += (f"animated {image.format} of 16 bits: read as 8 bits",) if above_8_bits else ()
            return Picture(unify_channels(frames), **fields)
        return Picture(high_bit_depth.unify_bit_depth(frames), **fields)


def _frame_count(image: Image.Image) -> int:
    count = getattr(image, "n_frames", 1) if image.format in ANIMATED else 1
    check_frames(count)
    return count


def frame_count(file: str | os.PathLike | BinaryIO, image: Image.Image) -> int:
    """Returns the number of frames or pages of an image that Pillow opened from `file`."""
    if image.format != "TIFF":
        return _frame_count(image)
    with tiff_contents(file, MAX_PIXELS) as contents:
        return len(contents.pages)


def exceeds_8_bits(image: Image.Image) -> bool:
    """Returns whether Pillow would truncate the samples to 8 bits or misread them.

    Pillow supports 16 bits for gray without alpha only.
    """
    if image.format == "PNG":
        tiles = cast(ImageFile.ImageFile, image).tile
        args = tiles[0].args if tiles else ""
        return "16" in str(args) and (image.mode[0] != "I" or "transparency" in image.info)
    if image.format == "TIFF":
        bits = _tags(image).get(258, (8,))
        bits = max(bits if isinstance(bits, tuple) else (bits,))
        native_16_bit = image.mode.startswith("I;16") and bits == 16 and _tags(image).get(262) == 1  # black is zero
        return bits > 8 and not native_16_bit
    return False
