"""The boxes of JPEG 2000 files that Pillow doesn't read or write: colour profile, XMP and EXIF. ISO/IEC 15444-1."""

import struct

from srgan_jax.images.containers.isobmff import boxes

UUIDS = {  # content of "uuid" boxes
    "xmp": bytes.fromhex("be7acfcb97a942e89c71999491e3afac"),
    "exif": b"JpgTiffExif->JP2",
    "iptc": bytes.fromhex("33c7a4d2b81d4723a0baf1a3e097ad38"),
    "geo": bytes.fromhex("b14bf8bd083d4b43a5ae8cd7d5a6ce03"),
}
SIZ = b"\xff\x4f\xff\x51"  # the markers at the beginning of the code stream
SOT = b"\xff\x90"  # marker of a part of a tile
ICC, RESTRICTED_ICC = 3, 2  # methods of a "colr" box


def bits_of(data: bytes) -> int:
    """Returns the largest number of bits per sample of the channels, from the code stream; 0 if there is none."""
    start = data.find(SIZ)
    if start < 0:
        return 0
    (channels,) = struct.unpack_from(">H", data, start + 40)
    return max((data[start + 42 + 3 * channel] & 0x7F) + 1 for channel in range(channels))


def missing_tiles(data: bytes) -> int:
    """Returns how many tiles of the image have no part in the code stream; decoders leave them gray, without an error.

    Raises:
      struct.error, ZeroDivisionError: the header is damaged.
    """
    start = data.find(SIZ)
    if start < 0:
        return 0
    width, height, _, _, tile_width, tile_height, left, top = struct.unpack_from(">8I", data, start + 8)
    expected = -(-(width - left) // tile_width) * -(-(height - top) // tile_height)
    position, found = start + 2, set()
    while position + 4 <= len(data):
        marker, length = data[position : position + 2], int.from_bytes(data[position + 2 : position + 4], "big")
        if marker == SOT:
            tile, part = struct.unpack_from(">HI", data, position + 4)
            found.add(tile)
            if part == 0:  # to the end
                break
            position += max(part, 2)
        elif found or marker[0] != 0xFF:  # the end of the code stream
            break
        else:
            position += 2 + max(length, 2)
    return expected - len(found)


def metadata_of(data: bytes) -> dict[str, bytes]:
    """Returns those of "icc", "xmp", "exif", "iptc" and "geo" that the file has."""
    found = {}
    for kind, start, end in boxes(data, 0, len(data)):
        if kind == b"uuid":
            found |= {name: data[start + 16 : end] for name, uuid in UUIDS.items() if data[start : start + 16] == uuid}
        if kind == b"jp2h":
            for inner, offset, stop in boxes(data, start, end):
                if inner == b"colr" and data[offset] in (ICC, RESTRICTED_ICC):
                    found["icc"] = data[offset + 3 : stop]
    return found


def with_metadata(data: bytes, metadata: dict[str, bytes]) -> bytes:
    """Returns the file with these, as `metadata_of` gives them; the profile replaces the colour space of its header."""
    parts = []
    for kind, start, end in boxes(data, 0, len(data)):
        content = data[start:end]
        if kind == b"jp2h" and "icc" in metadata:
            inner = [(name, data[offset:stop]) for name, offset, stop in boxes(data, start, end)]
            colour = bytes((RESTRICTED_ICC, 0, 0)) + metadata["icc"]
            content = b"".join(_box(name, colour if name == b"colr" else value) for name, value in inner)
        if kind == b"jp2c":
            parts += [_box(b"uuid", UUIDS[name] + metadata[name]) for name in UUIDS if name in metadata]
        parts.append(_box(kind, content))
    return b"".join(parts)


def _box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), kind) + content
