"""The boxes of AVIF files that describe their colours, bit depth and EXIF. ISO/IEC 14496-12 and 23008-12."""

import re
import struct
from collections.abc import Iterator

Box = tuple[bytes, int, int]  # kind, first byte of its contents, the byte after it


def boxes(data: bytes | bytearray, start: int, end: int) -> Iterator[Box]:
    """Yields the boxes between two offsets, up to a damaged one."""
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        head = 8
        if size == 1 and start + 16 <= end:
            (size,), head = struct.unpack_from(">Q", data, start + 8), 16
        size = size or end - start
        if size < head or start + size > end:
            return
        yield kind, start + head, start + size
        start += size


def _meta(data: bytes | bytearray) -> dict[bytes, tuple[int, int]]:
    """Returns where the boxes of the "meta" box are."""
    for kind, start, end in boxes(data, 0, len(data)):
        if kind == b"meta":
            return {kind: (start, end) for kind, start, end in boxes(data, start + 4, end)}
    return {}


def primary_properties(data: bytes | bytearray) -> list[Box]:
    """Returns the properties of the primary image ("colr", "pixi", "av1C", ...).

    Raises:
      struct.error, IndexError: the file is damaged.
    """
    meta = _meta(data)
    if not {b"pitm", b"iprp"} <= meta.keys():
        return []
    start = meta[b"pitm"][0]
    (primary,) = struct.unpack_from(">I" if data[start] else ">H", data, start + 4)
    parts = {kind: (start, end) for kind, start, end in boxes(data, *meta[b"iprp"])}
    properties = list(boxes(data, *parts[b"ipco"]))
    return [properties[index - 1] for index in _associations(data, parts[b"ipma"][0]).get(primary, []) if index]


def _associations(data: bytes | bytearray, start: int) -> dict[int, list[int]]:
    """Returns the numbers of the properties of each item, from the "ipma" box."""
    wide_items, wide_indices = data[start] > 0, data[start + 3] & 1
    (count,), offset = struct.unpack_from(">I", data, start + 4), start + 8
    found = {}
    for _ in range(count):
        (item,) = struct.unpack_from(">I" if wide_items else ">H", data, offset)
        offset += 4 if wide_items else 2
        number, step = data[offset], 2 if wide_indices else 1
        indices = struct.unpack_from(f">{number}{'H' if wide_indices else 'B'}", data, offset + 1)
        found[item] = [index & (0x7FFF if wide_indices else 0x7F) for index in indices]
        offset += 1 + number * step
    return found


def color_of(data: bytes | bytearray) -> tuple[int, int] | None:
    """Returns primaries and transfer (ITU-T H.273) of the primary image; None if its file doesn't give them."""
    for kind, start, _ in primary_properties(data):
        if kind == b"colr" and data[start : start + 4] == b"nclx":
            primaries, transfer = struct.unpack_from(">HH", data, start + 4)
            return primaries, transfer
    return None


def bits_of(data: bytes | bytearray) -> int:
    """Returns the bits per sample of the primary image."""
    found = {kind: start for kind, start, _ in primary_properties(data)}
    if b"pixi" in found:
        return data[found[b"pixi"] + 5]
    flags = data[found[b"av1C"] + 2] if b"av1C" in found else 0
    return 8 if not flags & 0x40 else 12 if flags & 0x20 else 10


def has_item(data: bytes | bytearray, kind: bytes) -> bool:
    """Returns whether the file has an item of a kind, such as b"tmap", which applies a gain map."""
    return any(found == kind for _, found in _items(data))


def _items(data: bytes | bytearray) -> Iterator[tuple[int, bytes]]:
    """Yields number and kind of the items, from the "iinf" box."""
    start, end = _meta(data).get(b"iinf", (0, 0))
    if end:
        for kind, entry, _ in boxes(data, start + (8 if data[start] else 6), end):
            if kind == b"infe" and data[entry] >= 2:
                wide = data[entry] == 3
                (item,) = struct.unpack_from(">I" if wide else ">H", data, entry + 4)
                offset = entry + 4 + (6 if wide else 4)
                yield item, bytes(data[offset : offset + 4])


def with_color(data: bytes, primaries: int, transfer: int) -> bytes:
    """Returns the file with these primaries and this transfer in every "colr" box, those of animations too."""
    stated = b"colrnclx" + struct.pack(">HH", primaries, transfer)
    return re.sub(rb"colrnclx.{4}", lambda match: stated, data, flags=re.DOTALL)


def exif_of(data: bytes) -> bytes | None:
    """Returns the EXIF of the file as it is written there; None if it has none, or holds it in several pieces."""
    item = next((number for number, kind in _items(data) if kind == b"Exif"), None)
    start, end = _meta(data).get(b"iloc", (0, 0))
    if item is None or not end:
        return None
    version, sizes = data[start], struct.unpack_from(">H", data, start + 4)[0]
    widths = [sizes >> shift & 15 for shift in (12, 8, 4, 0)]  # bytes of an offset, a length, a base, an index
    wide, offset = version == 2, start + 6
    count, offset = int.from_bytes(data[offset : offset + (4 if wide else 2)]), offset + (4 if wide else 2)

    def number(width: int) -> int:
        nonlocal offset
        offset += width
        return int.from_bytes(data[offset - width : offset])

    for _ in range(count):
        found = number(4 if wide else 2)
        method = number(2) if version else 0
        number(2)  # the file of the data: this one
        base, extents = number(widths[2]), number(2)
        for _ in range(extents):
            number(widths[3] if version else 0)
            extent, length = number(widths[0]), number(widths[1])
            if found == item:
                content = data[base + extent : base + extent + length]
                return content[4:] if extents == 1 and method == 0 else None  # after the offset of the TIFF header
    return None
