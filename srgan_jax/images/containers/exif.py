"""EXIF blocks: copied byte for byte; what must change is changed in place, so that offsets in a MakerNote hold.

A block is a small TIFF file: CIPA DC-008, "Exchangeable image file format for digital still cameras", section 4.5.
"""

import contextlib
import struct
from collections.abc import Iterator
from typing import NamedTuple

PREFIX = b"Exif\0\0"  # in front of the block in JPEG
ORIENTATION, EXIF_DIRECTORY, GPS_DIRECTORY, INTEROPERABILITY, MAKER_NOTE = 0x0112, 0x8769, 0x8825, 0xA005, 0x927C
WIDTHS, HEIGHTS = (0x0100, 0xA002, 0x1001), (0x0101, 0xA003, 0x1002)  # of the image, in the three directories
IN_PIXELS = (0x9214, 0xA214)  # area and location of the subject, in pixels of the image before rotation
VALUE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 129: 1}


class Entry(NamedTuple):
    """An entry of a directory: its number, the code of its type, its values, and where they are in the block."""

    tag: int
    kind: int
    number: int
    offset: int  # of the entry
    start: int  # of the values
    length: int  # of the values, in bytes


class Directory(NamedTuple):
    """The entries of a directory, and where the offset of the next directory is stored."""

    start: int
    entries: tuple[Entry, ...]
    end: int


def block_of(exif: bytes) -> bytearray:
    """Returns the block without what precedes it.

    Raises:
      ValueError: `exif` holds no block.
    """
    for signature in (b"II*\0", b"MM\0*"):
        if (start := exif[:16].find(signature)) >= 0:
            return bytearray(exif[start:])
    raise ValueError("no EXIF block")


def byte_order(block: bytes | bytearray) -> str:
    """Returns "<" or ">", as for `struct`."""
    return "<" if block[:2] == b"II" else ">"


def directory_at(block: bytes | bytearray, start: int) -> Directory:
    """Returns the directory at an offset; entries whose values are outside the block are left out.

    Raises:
      struct.error: the directory itself is outside the block.
    """
    order, entries = byte_order(block), []
    (count,) = struct.unpack_from(order + "H", block, start)
    for offset in range(start + 2, start + 2 + 12 * count, 12):
        tag, kind, values, values_offset = struct.unpack_from(order + "HHII", block, offset)
        length = VALUE_BYTES.get(kind, 0) * values
        first = offset + 8 if length <= 4 else values_offset
        if first + length <= len(block):
            entries.append(Entry(tag, kind, values, offset, first, length))
    return Directory(start, tuple(entries), start + 2 + 12 * count)


def integer(block: bytes | bytearray, entry: Entry) -> int:
    """Returns the first value of an entry of whole numbers."""
    code = {1: "B", 3: "H", 4: "I", 13: "I"}.get(entry.kind, "H")
    return struct.unpack_from(byte_order(block) + code, block, entry.start)[0]


def directories(block: bytes | bytearray) -> Iterator[Directory]:
    """Yields the first directory, and the Exif, interoperability and GPS directories that can be read."""
    waiting = [struct.unpack_from(byte_order(block) + "I", block, 4)[0]]
    seen = set()
    while waiting and len(seen) < 8:
        start = waiting.pop()
        if start in seen:
            continue
        seen.add(start)
        try:
            found = directory_at(block, start)
        except struct.error:
            if len(seen) == 1:
                raise
            continue
        yield found
        links = (EXIF_DIRECTORY, INTEROPERABILITY, GPS_DIRECTORY)
        waiting += [integer(block, entry) for entry in found.entries if entry.tag in links]


def entry_of(block: bytes | bytearray, tag: int) -> Entry | None:
    """Returns the entry of this number in the directories of the block; None if there is none, or it is damaged."""
    try:
        return next((entry for found in directories(block) for entry in found.entries if entry.tag == tag), None)
    except struct.error:
        return None


def orientation(exif: bytes | None) -> int:
    """Returns the orientation of an EXIF block, 1 to 8; 1 if it states none, or is damaged."""
    with contextlib.suppress(ValueError):
        block = block_of(exif or b"")
        if entry := entry_of(block, ORIENTATION):
            return integer(block, entry)
    return 1


def upright(exif: bytes) -> bytes:
    """Returns the block, with the prefix of JPEG, for an image that was rotated to be upright.

    The orientation becomes 1. The thumbnail, and places in pixels of the old image, are removed.

    Raises:
      ValueError, struct.error: the block is damaged.
    """
    block = block_of(exif)
    if entry := entry_of(block, ORIENTATION):
        _set_integer(block, entry, 1)
    _remove_thumbnail(block)
    for tag in IN_PIXELS:
        _remove(block, tag)
    return PREFIX + bytes(block)


def with_size(exif: bytes, height: int, width: int) -> bytes:
    """Returns the block with this size of the image, wherever it states one."""
    block = block_of(exif)
    for found in directories(bytes(block)):
        for entry in found.entries:
            if entry.tag in WIDTHS + HEIGHTS:
                _set_integer(block, entry, width if entry.tag in WIDTHS else height)
    return PREFIX + bytes(block)


def without_orientation(exif: bytes) -> bytes:
    """Returns the block without its entry of the orientation; nothing else moves."""
    block = block_of(exif)
    _remove(block, ORIENTATION)
    return PREFIX + bytes(block)


def _set_integer(block: bytearray, entry: Entry, value: int) -> None:
    """Changes a value in place; a type that is too narrow for it becomes LONG, which the entry has room for."""
    order = byte_order(block)
    kind, code = (3, "H") if entry.kind == 3 and value < 1 << 16 else (4, "I")
    block[entry.offset + 2 : entry.offset + 12] = struct.pack(order + "HI", kind, 1) + struct.pack(
        order + code, value
    ).ljust(4, b"\0")


def _remove(block: bytearray, tag: int) -> None:
    """Removes an entry, after the thumbnail: the later entries move up, values stay where they are."""
    for found in directories(bytes(block)):
        for entry in found.entries:
            if entry.tag == tag:
                (count,) = struct.unpack_from(byte_order(block) + "H", block, found.start)
                struct.pack_into(byte_order(block) + "H", block, found.start, count - 1)
                rest = bytes(block[entry.offset + 12 : found.end])
                block[entry.offset : found.end] = rest + bytes(12)  # the zeros also say that no directory follows
                return


def _remove_thumbnail(block: bytearray) -> None:
    """Removes the second directory, which describes the thumbnail, and the bytes of a JPEG thumbnail."""
    order = byte_order(block)
    end = next(directories(bytes(block))).end
    if len(block) < end + 4:
        return
    (second,) = struct.unpack_from(order + "I", block, end)
    struct.pack_into(order + "I", block, end, 0)
    try:
        values = {entry.tag: integer(block, entry) for entry in directory_at(block, second).entries}
    except struct.error:
        return
    start, stop = values.get(0x0201, 0), values.get(0x0201, 0) + values.get(0x0202, 0)
    if not second or block[start : start + 2] != b"\xff\xd8" or stop > len(block):
        return
    block[start:stop] = bytes(stop - start)
    if stop >= len(block) - 1:  # nothing follows
        del block[start:]
