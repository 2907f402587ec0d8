"""Reading and writing of colour profiles, EXIF and resolution."""

import contextlib
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from srgan_jax.images.picture import Picture

if TYPE_CHECKING:
    from tifffile import TiffPage

KEPT_EXIF = (
    0x010E,
    0x010F,
    0x0110,
    0x0131,
    0x0132,
    0x013B,
    0x8298,
    0x8769,
    0x8825,
)  # others describe the input file
STALE_EXIF = (0xA002, 0xA003, 0xA005)  # tags of the Exif directory: width and height of the input, interoperability
EXIF_DIRECTORY, GPS_DIRECTORY = 0x8769, 0x8825


def metadata_of(image: Image.Image) -> dict[str, Any]:
    """Returns "icc", "exif" and "dpi" of an image that Pillow opened, for `Picture`."""
    icc, dpi = image.info.get("icc_profile"), image.info.get("dpi")
    with contextlib.suppress(Exception):  # a damaged resolution is ignored
        if dpi is not None:
            dpi = tuple(float(value) for value in dpi)
            dpi = dpi if len(dpi) == 2 and all(1 <= value <= 100_000 for value in dpi) else None
    return {"icc": icc or None, "exif": _exif(image), "dpi": dpi if isinstance(dpi, tuple) else None}


def _exif(image: Image.Image) -> bytes | None:
    """Returns the EXIF tags about the photograph, without those about the file (size, orientation, thumbnail)."""
    with contextlib.suppress(Exception):  # damaged EXIF is ignored
        exif = image.getexif()
        for tag in [tag for tag in exif if tag not in KEPT_EXIF]:
            del exif[tag]
        for tag in STALE_EXIF:
            exif.get_ifd(EXIF_DIRECTORY).pop(tag, None)
        return exif.tobytes() if len(exif) else None
    return None


def tiff_metadata(page: "TiffPage") -> dict[str, Any]:
    """Returns "icc" and "dpi" of a TIFF page, for `Picture`."""
    icc, unit = page.tags.get(34675), page.tags.get(296)
    resolution = [page.tags[tag].value for tag in (282, 283) if tag in page.tags]
    known = len(resolution) == 2 and unit is not None and int(unit.value) in (2, 3) and all(r[1] for r in resolution)
    per_inch = {2: 1.0, 3: 2.54}[int(unit.value)] if known and unit is not None else 1.0
    dpi = tuple(above / below * per_inch for above, below in resolution) if known else None
    return {"icc": bytes(icc.value) if icc else None, "dpi": dpi}


def png_chunks(picture: Picture) -> Iterator[bytes]:
    """Yields the PNG chunks of the colour profile, the resolution and EXIF."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    if picture.icc:
        yield chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(picture.icc))
    if picture.dpi:
        yield chunk(b"pHYs", struct.pack(">IIB", *(round(value / 0.0254) for value in picture.dpi), 1))  # per metre
    if picture.exif:
        yield chunk(b"eXIf", picture.exif.removeprefix(b"Exif\0\0"))


def exif_directories(exif: Image.Exif, big: bool) -> dict[int, ImageFileDirectory_v2]:
    """Returns the Exif and GPS directories for a TIFF or a BigTIFF, without those that can't be written again."""
    found = {}
    for tag in (EXIF_DIRECTORY, GPS_DIRECTORY):
        directory = ImageFileDirectory_v2(b"II+\0" + bytes(12) if big else b"II*\0" + bytes(4), group=tag)
        with contextlib.suppress(Exception):  # damaged EXIF is ignored
            for key, value in exif.get_ifd(tag).items():
                directory[key] = value
            if len(directory) and directory.tobytes():
                found[tag] = directory
    return found


def add_exif_directories(path: Path, directories: dict[int, ImageFileDirectory_v2], big: bool) -> None:
    """Appends the Exif and GPS directories to a TIFF and makes every page point to them.

    tifffile doesn't write the tags of these directories. `write_pages` therefore writes unused tags, each the number of
    the real tag plus 1, and this function replaces them.
    """
    from tifffile import TiffFile

    with TiffFile(path) as tiff:
        pages = cast("Iterable[TiffPage]", tiff.pages)  # tifffile gives TiffFrame on request only
        entries = [(tag, page.tags[tag + 1]) for page in pages for tag in directories]
    with open(path, "r+b") as file:
        starts = {}
        for tag, directory in directories.items():
            starts[tag] = file.seek(0, os.SEEK_END)
            if starts[tag] % 2:  # directories begin at even offsets
                starts[tag] += file.write(b"\0")
            file.write(directory.tobytes(starts[tag]))
        for tag, entry in entries:
            file.seek(entry.offset)
            file.write(struct.pack("<H", tag))
            file.seek(entry.valueoffset)
            file.write(struct.pack("<Q" if big else "<I", starts[tag]))
