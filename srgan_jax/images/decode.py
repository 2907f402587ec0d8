"""Decoding of image files of every supported format to `Picture`."""

import dataclasses
import functools
import os
from typing import Any, BinaryIO

from PIL import Image

from srgan_jax.images import deep_formats, high_bit_depth, isolation
from srgan_jax.images.animation_read import read_frames
from srgan_jax.images.containers import webp
from srgan_jax.images.errors import ImageError
from srgan_jax.images.files import opened, read_bytes
from srgan_jax.images.jpeg_xl import jpeg_xl_size, read_jpeg_xl
from srgan_jax.images.limits import MAX_PIXELS, MAX_SECONDS, check_pixels
from srgan_jax.images.picture import Picture
from srgan_jax.images.pillow import kind_of_path, open_image
from srgan_jax.images.pixels import current_frame, fields_of, orientation_of, stated_orientation
from srgan_jax.images.raw import raw_size, read_raw
from srgan_jax.images.repair import complete_jpeg
from srgan_jax.images.tiff_reader import read_tiff, tiff_contents

File = str | os.PathLike | BinaryIO


def is_gray(path: str | os.PathLike) -> bool:
    """Returns whether the file has one channel (besides alpha); False if it can't be read."""
    try:
        with open_image(path) as image:
            return image.mode in ("1", "L", "LA", "I", "F") or image.mode.startswith("I;")
    except (ImageError, OSError):
        return False


STREAMED = 16  # frames that are decoded one at a time may together have so many times `max_pixels`
ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")
SWAPPING = (5, 6, 7, 8)  # EXIF orientations that exchange height and width; damaged files have other numbers


def read_image(
    file: File,
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


@dataclasses.dataclass(frozen=True)
class _Reading:
    """How a file is to be read: the arguments of `decode_image`."""

    max_pixels: int
    first_frame: bool = False
    stream: bool = False
    salvage: bool = False


def decode_image(
    file: File,
    *,
    max_pixels: int = MAX_PIXELS,
    max_seconds: float = MAX_SECONDS,
    first_frame: bool = False,
    stream: bool = False,
    salvage: bool = False,
) -> Picture:
    """Reads an image like `read_image`, but error messages don't contain the path.

    With `first_frame` only the first frame is read. With `stream` the frames of an animation are `Frames`, which are
    decoded one at a time, and may together have 16 times `max_pixels`.
    """
    how = _Reading(max_pixels, first_frame, stream, salvage)
    return isolation.call(max_seconds, max_pixels, _decode_or_repair, file, how)


def _decode_or_repair(file: File, how: _Reading) -> Picture:
    """Reads an image; a JPEG may lack its end, and with `salvage` any part may be missing."""
    strict = dataclasses.replace(how, salvage=False)
    try:
        return _decode(file, strict)
    except ImageError as error:
        note, picture = "JPEG without its end: read, as viewers do", None
        if "truncated" in str(error).lower() and kind_of_path(file).name == "JPEG":
            picture = complete_jpeg(read_bytes(file), lambda data: _decode(data, strict))
        if picture is None and how.salvage:
            note = f"damaged ({error}): what could be read is taken"
            picture = _decode(file, dataclasses.replace(how, first_frame=True))
        if picture is None:
            raise
        return dataclasses.replace(picture, notes=(*picture.notes, note))


def _decode(file: File, how: _Reading) -> Picture:
    name = kind_of_path(file).name
    if name == "TIFF":
        with tiff_contents(file, how.max_pixels) as contents:
            if not contents.raw:
                return read_tiff(file, contents, how.max_pixels, how.first_frame, how.salvage)
    if name in ("TIFF", "RAW"):
        return read_raw(file, how.max_pixels)
    if name == "JXL":
        return read_jpeg_xl(file, how.max_pixels)
    return _read_with_pillow(file, how)


def image_size(file: File, *, max_pixels: int = MAX_PIXELS, max_seconds: float = MAX_SECONDS) -> tuple[int, int]:
    """Returns height and width of the image that `decode_image` gives, from the header; raises the same errors."""
    return isolation.call(max_seconds, max_pixels, _header_size, file, max_pixels)


def _header_size(file: File, max_pixels: int) -> tuple[int, int]:
    name = kind_of_path(file).name
    if name == "TIFF":
        with tiff_contents(file, max_pixels) as contents:
            page = contents.pages[0][1]
            size = page.imagelength, page.imagewidth
            if not contents.raw:
                return (size[1], size[0]) if high_bit_depth.orientation(page) in SWAPPING else size
    if name in ("TIFF", "RAW"):
        return raw_size(file, max_pixels)
    if name == "JXL":
        return jpeg_xl_size(file, max_pixels)
    with open_image(file, max_pixels) as image:
        swapped = stated_orientation(image, file) in SWAPPING
        return image.size if swapped else (image.height, image.width)


def _read_with_pillow(file: File, how: _Reading) -> Picture:
    with open_image(file, how.max_pixels, salvage=how.salvage) as image:
        count = _frame_count(image)
        if count > 1 and not how.first_frame:
            return _read_animation(file, image, how)
        _check_merged(image)
        if image.info.get("default_image") and count > 1:  # not part of the animation
            image.seek(1)
        if high_bit_depth.exceeds_8_bits(image) and image.format == "PNG" and count == 1 and not how.salvage:
            frame = high_bit_depth.png_pixels(file, orientation_of(image))
            return Picture((frame,), **fields_of(image, file))
        if count == 1 and not how.salvage and (deep := deep_formats.read_above_8_bits(image, file)) is not None:
            return Picture((deep,), **fields_of(image, file))
        frames, fields = [current_frame(image)], fields_of(image, file)
        fields["lossless"] = image.format == "WEBP" and _is_lossless(file)
        return Picture(high_bit_depth.unify_bit_depth(frames), **fields)


MERGED_IMAGE = 1057  # PSD resource "version info": four bytes, then whether the file holds the image of all layers


def _check_merged(image: Image.Image) -> None:
    """Raises ImageError for a PSD that was saved without the image of all its layers; its own is then blank."""
    for number, _, data in getattr(image, "resources", ()) if image.format == "PSD" else ():
        if number == MERGED_IMAGE and data[4:5] == b"\0":
            raise ImageError('PSD of layers alone: save it with "maximize compatibility", or as PNG or TIFF')


def _read_animation(file: File, image: Image.Image, how: _Reading) -> Picture:
    """Reads all frames of an animation, or with `stream` leaves them to be decoded when they are iterated."""
    pixels = image.width * image.height * _frame_count(image)
    check_pixels(pixels, STREAMED * how.max_pixels if how.stream else how.max_pixels)
    fields: dict[str, Any] = {"loop": _plays(image)}
    frames, durations = read_frames(file, image, functools.partial(open_image, file, how.max_pixels))
    lossless = image.format == "WEBP" and _is_lossless(file)
    with open_image(file, how.max_pixels) as fresh:  # at the first frame, whatever was read of `image`
        fields |= fields_of(fresh, file) | {"durations_ms": durations, "lossless": lossless}
    return Picture(frames if how.stream else tuple(frames), **fields)


def _plays(image: Image.Image) -> int | None:
    """Returns how often an animation is played, 0 for ever; None if the file doesn't say.

    A GIF counts the repetitions after the first time, and is played once without a count; WebP and APNG count all.
    """
    count = image.info.get("loop")
    return count if image.format != "GIF" else 1 if count is None else count and count + 1


def _is_lossless(file: File) -> bool:
    """Returns whether a WebP is stored without loss."""
    with opened(file) as stream:
        return webp.is_lossless(stream)


def _frame_count(image: Image.Image) -> int:
    return getattr(image, "n_frames", 1) if image.format in ANIMATED else 1


def frame_count(file: File, image: Image.Image) -> int:
    """Returns the number of frames or pages of an image that Pillow opened from `file`."""
    if image.format != "TIFF":
        return _frame_count(image)
    with tiff_contents(file, MAX_PIXELS) as contents:
        return len(contents.pages)
