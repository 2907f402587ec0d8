"""`open_image`, by which alone Pillow opens files: the format is recognised first, and only its parser runs."""

import contextlib
import functools
import os
import threading
from collections.abc import Iterator
from typing import Any, BinaryIO

from PIL import Image, ImageFile, PngImagePlugin, UnidentifiedImageError

from srgan_jax.images.containers import jp2
from srgan_jax.images.errors import ImageError, reason
from srgan_jax.images.files import is_open
from srgan_jax.images.limits import MAX_PIXELS, check_pixels, check_scans
from srgan_jax.images.repair import MAX_TEXT_BYTES, readable_png
from srgan_jax.images.sniff import Kind, kind_of
from srgan_jax.runtime import extras

NOTES = "srgan_jax notes"  # key of `Image.info`: a message for each part of the file that was left out


class UnknownFormatError(ImageError):
    """The file is in none of the formats that Pillow can read."""


@contextlib.contextmanager
def open_image(
    file: str | os.PathLike | BinaryIO, max_pixels: int = MAX_PIXELS, *, salvage: bool = False
) -> Iterator[Image.Image]:
    """Opens a file with Pillow, reads its header and checks the number of pixels.

    The content decides which parser of Pillow reads the file, and no other one runs; `sniff.KINDS` lists the formats.

    The `info` of the image has notes on what was left out, under the key `NOTES`.

    Args:
      file: path or open binary file.
      max_pixels: largest number of pixels of the first frame.
      salvage: whether Pillow accepts damaged and truncated files; what is missing is gray or black.

    Raises:
      ImageError: not an image in a known format, unreadable, or too large. Exceptions of the `with` body are converted
        to ImageError too.
    """
    name = ""
    try:
        with contextlib.ExitStack() as stack:
            # Pillow gets an open file: given a path it memory-maps some TIFFs, and misreads those with an orientation.
            stream = file if is_open(file) else stack.enter_context(open_file(file))
            kind = kind_of(stream)
            name = kind.name
            _check_readable(kind, stream)
            stream, notes = readable_png(stream) if kind.name == "PNG" else (stream, ())
            stack.enter_context(_PILLOW.adjusted(max_pixels, salvage))
            image = stack.enter_context(Image.open(stream, formats=[kind.name]))
            image.info[NOTES] = notes
            check_pixels(image.width * image.height, max_pixels)
            if kind.name == "JPEG":
                check_scans(stream, image.width * image.height, max_pixels)
            if kind.name == "JPEG2000" and not salvage:
                _check_tiles(stream)
            yield image
    except ImageError:
        raise
    except UnidentifiedImageError:
        raise UnknownFormatError(f"{name} that is damaged, or of a kind that is not read") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        check_pixels(int(str(error).split(" pixels")[0].split("(")[-1]), max_pixels)
        raise ImageError(reason(error)) from None
    except Exception as error:  # Pillow's plug-ins raise exceptions of many types for damaged files
        raise ImageError(reason(error)) from None


def kind_of_path(file: str | os.PathLike | BinaryIO) -> Kind:
    """Returns the kind of an image file; raises ImageError if it isn't an image, or can't be opened."""
    try:
        if is_open(file):
            return kind_of(file)
        with open_file(file) as stream:
            return kind_of(stream)
    except OSError as error:
        raise ImageError(reason(error)) from None


def open_file(path: str | os.PathLike) -> BinaryIO:
    """Opens a regular file; raises ImageError for folders, devices and pipes."""
    if os.path.isdir(path):
        raise ImageError("not a file" if os.access(path, os.R_OK | os.X_OK) else "permission denied")
    if os.path.exists(path) and not os.path.isfile(path):
        raise ImageError("not a file")
    return open(path, "rb")


MULTICHANNEL, DUOTONE = 7, 8  # colour modes of PSD


def _check_readable(kind: Kind, stream: BinaryIO) -> None:
    """Raises ImageError where a format needs an extra that isn't installed, or Pillow doesn't read a kind of it."""
    _register_plugins()
    if kind.name == "RAW":
        raise UnknownFormatError("camera raw, which Pillow doesn't read")
    if kind.name == "JXL":
        raise UnknownFormatError("JPEG XL, which Pillow doesn't read")
    if kind.name == "HEIF" and "HEIF" not in Image.OPEN:
        raise ImageError('HEIC: reading it needs pip install "srgan-jax[heic]"')
    if kind.name == "PSD":
        head = stream.read(26)
        stream.seek(0)
        bits, mode = int.from_bytes(head[22:24]), int.from_bytes(head[24:26])
        if bits > 8 or mode in (MULTICHANNEL, DUOTONE):
            described = {MULTICHANNEL: "multichannel", DUOTONE: "duotone"}.get(mode, f"{bits} bits")
            raise ImageError(f"PSD ({described}): only gray, RGB, CMYK and Lab of 8 bits are read; save it as TIFF")


def _check_tiles(stream: BinaryIO) -> None:
    """Raises ImageError if tiles of a JPEG 2000 are missing."""
    position = stream.tell()
    stream.seek(0)
    count = jp2.missing_tiles(stream.read())
    stream.seek(position)
    if count > 0:
        raise ImageError(f"JPEG 2000 without {count} of its tiles; --salvage takes what is there")


@functools.cache
def _register_plugins() -> None:
    if not extras.missing("heic"):
        with contextlib.suppress(ImportError):
            import pillow_heif

            pillow_heif.register_heif_opener()


class _PillowSettings:
    """The global variables of Pillow that limit what is read: adjusted while files are open, restored after them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._open: list[int] = []  # pixel limits of the files that are open
        self._salvaging = False
        self._saved: dict[tuple[Any, str], Any] = {}

    @contextlib.contextmanager
    def adjusted(self, max_pixels: int, salvage: bool) -> Iterator[None]:
        """Applies the limits for a file; a file that is salvaged is read while no other is."""
        with self._changed:
            self._changed.wait_for(lambda: not self._salvaging and not (salvage and self._open))
            self._open.append(max_pixels)
            self._salvaging = salvage
            self._apply()
        try:
            yield
        finally:
            with self._changed:
                self._open.remove(max_pixels)
                self._salvaging = False
                self._apply()
                self._changed.notify_all()

    def _apply(self) -> None:
        adjusted = {
            # Pillow refuses twice this number, in frames and tiles too; `check_pixels` is exact
            (Image, "MAX_IMAGE_PIXELS"): max(self._open, default=0),
            (PngImagePlugin, "MAX_TEXT_CHUNK"): MAX_TEXT_BYTES,
            (PngImagePlugin, "MAX_TEXT_MEMORY"): 2 * MAX_TEXT_BYTES,
            (ImageFile, "LOAD_TRUNCATED_IMAGES"): self._salvaging,
        }
        if not self._saved:
            self._saved = {(module, name): getattr(module, name) for module, name in adjusted}
        for (module, name), value in (adjusted if self._open else self._saved).items():
            setattr(module, name, value)
        if not self._open:
            self._saved = {}


_PILLOW = _PillowSettings()
