"""Decoding of image files of every supported format to `Picture`."""

import contextlib
import functools
import os
import threading
from collections.abc import Iterator
from typing import BinaryIO, cast

from PIL import Image, ImageFile, TiffImagePlugin, UnidentifiedImageError

from srgan_jax.images import deep_formats, high_bit_depth, metadata
from srgan_jax.images.errors import ImageError, check_pixels, reason
from srgan_jax.images.files import is_open
from srgan_jax.images.metadata import metadata_of
from srgan_jax.images.picture import Picture
from srgan_jax.images.pixels import current_frame, frame_at, unify_channels


def upright_size(image: Image.Image, orientation: int) -> tuple[int, int]:
    """Returns height and width of an opened image after its EXIF orientation is applied; 5 to 8 swap the axes."""
    width, height = image.size
    if image.format == "TIFF":  # Pillow may have swapped the axes of `size` already
        width, height = _tags(image)[256], _tags(image)[257]
    return (width, height) if orientation >= 5 else (height, width)


def _tags(image: Image.Image) -> TiffImagePlugin.ImageFileDirectory_v2:
    """Returns the tags of a TIFF that Pillow opened."""
    return cast(TiffImagePlugin.TiffImageFile, image).tag_v2


def is_gray(path: str | os.PathLike) -> bool:
    """Returns whether the file has one channel (besides alpha); False if it can't be read."""
    try:
        with Image.open(path) as image:
            return image.mode in ("1", "L", "LA", "I", "F") or image.mode.startswith("I;")
    except OSError:
        return False


MAX_PIXELS = 256_000_000  # of an image, all frames together
ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")
_lock = threading.Lock()  # Pillow's pixel limit is a global variable


class UnknownFormatError(ImageError):
    """The file is in none of the formats that Pillow can read."""


@contextlib.contextmanager
def open_image(file: str | os.PathLike | BinaryIO, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """Opens a file with Pillow, reads its header and checks the number of pixels.

    Raises:
      ImageError: not an image in a known format, unreadable, or too large. Exceptions of the `with` body are converted
        to ImageError too.
    """
    _register_plugins()
    try:
        with contextlib.ExitStack() as stack:
            # Pillow gets an open file: given a path it memory-maps some TIFFs, and misreads those with an orientation.
            stream = file if is_open(file) else stack.enter_context(_open_file(file))
            with _lock:
                limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # `max_pixels` is checked below
                try:
                    image = stack.enter_context(Image.open(stream))
                finally:
                    Image.MAX_IMAGE_PIXELS = limit
            check_pixels(image.width * image.height, max_pixels)
            yield image
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise UnknownFormatError(reason(error)) from None
    except Exception as error:  # Pillow's plug-ins raise exceptions of many types for damaged files
        raise ImageError(reason(error)) from None


def _open_file(path: str | os.PathLike) -> BinaryIO:
    if os.path.isdir(path):
        raise ImageError("not a file" if os.access(path, os.R_OK | os.X_OK) else "permission denied")
    if os.path.exists(path) and not os.path.isfile(path):
        raise ImageError("not a file")
    return open(path, "rb")


@functools.cache
def _register_plugins() -> None:
    with contextlib.suppress(ImportError):  # the extra "heic"
        import pillow_heif

        pillow_heif.register_heif_opener()


def read_image(file: str | os.PathLike | BinaryIO, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """Reads an image file without loss of channels, bit depth, frames or metadata.

    EXIF orientation is applied. Gray, 16 bits and alpha are kept. Palettes become gray or RGB. 1-bit images become
    gray. CMYK and Lab are converted to RGB by their colour profile. Animated GIF, WebP, PNG and AVIF give all frames,
    TIFF all pages.

    Args:
      file: path or open binary file.
      max_pixels: largest number of pixels, all frames together.

    Raises:
      ImageError: no such file, not an image, damaged, too large, or not readable; the message begins with the path.
    """
    try:
        return decode_image(file, max_pixels=max_pixels)
    except ImageError as error:
        raise ImageError(f"{os.fspath(file)}: {error}" if isinstance(file, str | os.PathLike) else str(error)) from None


def decode_image(
    file: str | os.PathLike | BinaryIO, *, max_pixels: int = MAX_PIXELS, first_frame: bool = False
) -> Picture:
    """Reads an image like `read_image`, but error messages don't contain the path.

    With `first_frame` only the first frame is read.
    """
    try:
        return _read_with_pillow(file, max_pixels, first_frame)
    except UnknownFormatError:
        if not high_bit_depth.is_tiff(file):
            raise
        with high_bit_depth.tiff_pages(file, max_pixels, first_frame) as pages:
            frames = tuple(map(high_bit_depth.tiff_pixels, pages))
        return Picture(frames, **metadata.tiff_metadata(file))


def image_size(file: str | os.PathLike | BinaryIO, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Returns height and width of the image that `decode_image` gives, from the header; raises the same errors."""
    try:
        with open_image(file, max_pixels) as image:
            in_header = "exif" in image.info or image.format != "PNG"  # otherwise getexif decodes the whole PNG
            return upright_size(image, image.getexif().get(0x0112, 1) if in_header else 1)
    except UnknownFormatError:
        if not high_bit_depth.is_tiff(file):
            raise
        with high_bit_depth.tiff_pages(file, max_pixels) as pages:
            swapped = high_bit_depth.orientation(pages[0]) >= 5
            height, width = pages[0].imagelength, pages[0].imagewidth
            return (width, height) if swapped else (height, width)


def _read_with_pillow(file: str | os.PathLike | BinaryIO, max_pixels: int, first_frame: bool) -> Picture:
    with open_image(file, max_pixels) as image:
        available = _frame_count(image)
        start = 1 if image.info.get("default_image") and available > 1 else 0  # not part of the animation
        count = start + 1 if first_frame else available
        check_pixels(image.width * image.height * count, max_pixels)
        above_8_bits = _has_page_above_8_bits(image, count) if image.format == "TIFF" else exceeds_8_bits(image)
        if above_8_bits and image.format == "PNG" and available == 1:
            return Picture(
                (high_bit_depth.png_pixels(file, image.getexif().get(0x0112, 1)),), **metadata_of(image, file)
            )
        if available == 1 and (deep := deep_formats.read_above_8_bits(image, file)) is not None:
            return Picture((deep,), **metadata_of(image, file))
        if above_8_bits and image.format == "TIFF":
            frames = high_bit_depth.tiff_frames(file, max_pixels, functools.partial(frame_at, image), first_frame)
            image.seek(0)
            return Picture(frames, **metadata_of(image, file))
        frames, durations, pixels = [], [], 0
        for index in range(start, count):
            image.seek(index)
            pixels += image.width * image.height
            check_pixels(pixels, max_pixels)
            frames.append(current_frame(image))
            durations.append(max(0, int(image.info.get("duration") or 0)))
        fields = metadata_of(image, file)
        if image.mode not in ("RGB", "RGBA", "RGBX", "L", "LA", "1", "P") and image.mode[0] != "I":
            fields |= {"icc": None, "color": None}  # the conversion has applied it
        if available > 1 and image.format in ANIMATED:
            default_loop = 1 if image.format == "GIF" else None  # a GIF without a loop count is played once
            fields |= {"durations_ms": tuple(durations), "loop": image.info.get("loop", default_loop)}
            fields["notes"] += (f"animated {image.format} of 16 bits: read as 8 bits",) if above_8_bits else ()
            return Picture(unify_channels(frames), **fields)
        return Picture(high_bit_depth.unify_bit_depth(frames), **fields)


def _frame_count(image: Image.Image) -> int:
    if image.format not in (*ANIMATED, "TIFF"):
        return 1
    count = getattr(image, "n_frames", 1)
    if count > high_bit_depth.MAX_FRAMES:
        raise ImageError(f"{count} frames, more than the limit of {high_bit_depth.MAX_FRAMES}")
    return count


def _has_page_above_8_bits(image: Image.Image, count: int) -> bool:
    """Returns whether `exceeds_8_bits` holds for a page of a TIFF, or Pillow can't read a page."""
    for index in range(count):
        try:
            image.seek(index)
        except Exception:  # Pillow's plug-ins raise exceptions of many types
            return True
        if exceeds_8_bits(image):
            return True
    return False


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
