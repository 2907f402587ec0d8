"""The tags of TIFF files that describe an image, and EXIF as a TIFF holds it. TIFF 6.0; BigTIFF."""

import os
import struct
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np

from srgan_jax.images.containers import exif
from srgan_jax.images.files import opened

XMP, IPTC, PHOTOSHOP, ICC = 700, 33723, 34377, 34675
DESCRIPTION = 270
DESCRIPTIVE = (  # what EXIF calls the same: titles, camera, software, date, artist, copyright, ratings, XP tags
    269, 270, 271, 272, 305, 306, 315, 316, 18246, 18249, 33432, *range(0x9C9B, 0x9CA0),
    exif.EXIF_DIRECTORY, exif.GPS_DIRECTORY,
)  # fmt: skip
DIRECTORIES = (exif.EXIF_DIRECTORY, exif.GPS_DIRECTORY, exif.INTEROPERABILITY)
COPIED = (318, 319, 33550, 33922, 34264, 34735, 34736, 34737, 42112, 42113)  # primaries, GeoTIFF, GDAL
FIRST_PRIVATE = 32768  # tags below it describe how the samples are stored, except those above
UNCOPIED = (285, 301, 333, 337)  # those of them that say more: name of the page, transfer function, inks, printer
SAMPLE_TAGS = (*range(32995, 32999), 33421, 33422, 37724, 59932, XMP, IPTC, PHOTOSHOP, ICC)
VALUE_BYTES = {**exif.VALUE_BYTES, 16: 8, 17: 8, 18: 8}
MAX_BYTES = 1 << 26  # of the values of one tag


class Value(NamedTuple):
    """The values of a tag: code of their type, number, and bytes, little-endian."""

    kind: int
    number: int
    data: bytes


Tags = dict[int, "Value | Tags"]


def read_tags(file: str | os.PathLike | BinaryIO) -> Tags:
    """Returns the tags of the first directory of a TIFF, BigTIFF or EXIF block, with the Exif and GPS directories.

    Raises:
      ValueError, struct.error: the file is damaged.
    """
    with opened(file) as stream:
        head = stream.read(16)
        order, big = ("<" if head[:2] == b"II" else ">"), head[2:4] in (b"+\0", b"\0+")
        (start,) = struct.unpack_from(order + ("Q" if big else "I"), head, 8 if big else 4)
        return _directory(stream, order, big, start, depth=0)


def _directory(file: BinaryIO, order: str, big: bool, start: int, depth: int) -> Tags:
    file.seek(start)
    (count,) = struct.unpack(order + ("Q" if big else "H"), file.read(8 if big else 2))
    size, room = (20, 8) if big else (12, 4)
    entries, tags = file.read(size * min(count, 4096)), {}
    for offset in range(0, len(entries) - size + 1, size):
        tag, kind, number = struct.unpack_from(order + ("HHQ" if big else "HHI"), entries, offset)
        length, data = VALUE_BYTES.get(kind, 0) * number, entries[offset + size - room : offset + size]
        if length > room:
            file.seek(struct.unpack(order + ("Q" if big else "I"), data)[0])
            data = file.read(length) if length <= MAX_BYTES else b""
        if tag in DIRECTORIES and depth < 2 and data:
            target = int.from_bytes(data[: VALUE_BYTES.get(kind, 4)], "little" if order == "<" else "big")
            try:
                tags[tag] = _directory(file, order, big, target, depth + 1)
            except struct.error:  # a damaged directory is left out
                continue
        elif length and len(data) >= length:
            tags[tag] = Value(kind, number, _swapped(data[:length], kind) if order == ">" else data[:length])
    return tags


def _swapped(data: bytes, kind: int) -> bytes:
    """Returns big-endian values as little-endian ones, and the reverse."""
    width = 4 if kind in (5, 10) else VALUE_BYTES[kind]  # rationals are pairs of 4 bytes
    return np.frombuffer(data, f"V{width}").view(f"u{width}").byteswap().tobytes() if width > 1 else data


def numbers(value: "Value | Tags | None") -> tuple[float, ...]:
    """Returns the values of a tag of numbers, rationals as quotients; () if there are none."""
    codes = {1: "B", 3: "H", 4: "I", 5: "I", 9: "i", 10: "i", 11: "f", 12: "d", 16: "Q"}
    if not isinstance(value, Value) or value.kind not in codes:
        return ()
    found = np.frombuffer(value.data, "<" + codes[value.kind]).tolist()
    if value.kind in (5, 10):
        return tuple(above / below if below else 0.0 for above, below in zip(found[::2], found[1::2], strict=True))
    return tuple(found)


def encode_directory(tags: Mapping[int, "Value | Tags"], start: int, big: bool) -> bytes:
    """Returns a directory that begins at an offset, followed by its values and directories; little-endian."""
    size, room = (20, 8) if big else (12, 4)
    offset = start + (8 if big else 2) + size * len(tags) + room
    entries, tail = b"", b""
    for tag, value in sorted(tags.items()):
        at = offset + len(tail)
        if isinstance(value, dict):
            content = encode_directory(value, at, big)
            value = Value(16 if big else 4, 1, struct.pack("<Q" if big else "<I", at))
        else:
            content = value.data if len(value.data) > room else b""
        tail += content + b"\0" * (len(content) % 2)
        inline = struct.pack("<Q" if big else "<I", at) if len(value.data) > room else value.data.ljust(room, b"\0")
        entries += struct.pack("<HHQ" if big else "<HHI", tag, value.kind, value.number) + inline
    return struct.pack("<Q" if big else "<H", len(tags)) + entries + bytes(room) + tail


def exif_block(tags: Tags) -> bytes | None:
    """Returns the descriptive tags of a TIFF as an EXIF block with the prefix of JPEG; None if there are none."""
    kept = {tag: value for tag, value in tags.items() if tag in DESCRIPTIVE and not _describes_samples(tag, value)}
    return exif.PREFIX + b"II*\0\10\0\0\0" + encode_directory(kept, 8, big=False) if kept else None


def _describes_samples(tag: int, value: "Value | Tags") -> bool:
    """Returns whether this is a description that ImageJ, OME or tifffile read as the layout of the samples."""
    beginnings = (b"ImageJ=", b"<?xml", b"<OME", b'{"shape":')
    return tag == DESCRIPTION and isinstance(value, Value) and value.data.startswith(beginnings)


def uncopied_tags(tags: Tags) -> list[str]:
    """Returns a line if the TIFF has tags that are not copied, other than those of how samples are stored."""
    known = {*DESCRIPTIVE, *COPIED, *SAMPLE_TAGS}
    lost = [str(tag) for tag in sorted(tags) if (tag >= FIRST_PRIVATE or tag in UNCOPIED) and tag not in known]
    value = tags.get(DESCRIPTION)
    if isinstance(value, Value) and value.data.startswith((b"ImageJ=", b"<?xml", b"<OME")):
        lost.append(f"{DESCRIPTION} (of ImageJ or OME)")
    return [f"the TIFF tags {', '.join(lost)} are not copied"] if lost else []


def split_exif(block: bytes | None) -> tuple[list[tuple], Tags]:
    """Returns the EXIF that a TIFF holds in its first directory, as tifffile's `extratags`, and the directories."""
    try:
        tags = read_tags(BytesIO(bytes(exif.block_of(block)))) if block else {}
    except (ValueError, struct.error):
        return [], {}
    directories: Tags = {tag: tags[tag] for tag in DIRECTORIES[:2] if isinstance(tags.get(tag), dict)}
    own = [(tag, value) for tag, value in tags.items() if tag in DESCRIPTIVE and isinstance(value, Value)]
    return [(tag, *value, True) for tag, value in own], directories


def add_directories(path: Path, directories: Tags, big: bool) -> None:
    """Appends the Exif and GPS directories to a TIFF and makes every page point to them.

    tifffile doesn't write the tags of these directories. `write_pages` therefore writes unused tags, each the number of
    the real tag plus 1, and this function replaces them.
    """
    with open(path, "r+b") as file:
        entries = [(tag, offsets) for tag in directories for offsets in _entry_offsets(path, tag + 1)]
        starts = {}
        for tag, directory in directories.items():
            starts[tag] = file.seek(0, os.SEEK_END)
            if starts[tag] % 2:  # directories begin at even offsets
                starts[tag] += file.write(b"\0")
            file.write(encode_directory(cast(dict, directory), starts[tag], big))
        for tag, (offset, value_offset) in entries:
            file.seek(offset)
            file.write(struct.pack("<H", tag))
            file.seek(value_offset)
            file.write(struct.pack("<Q" if big else "<I", starts[tag]))


def _entry_offsets(path: Path, tag: int) -> Iterator[tuple[int, int]]:
    """Yields for each page where the entry of a tag and its value are."""
    from tifffile import TiffFile

    with TiffFile(path) as tiff:
        for page in cast(Any, tiff.pages):
            yield page.tags[tag].offset, page.tags[tag].valueoffset
