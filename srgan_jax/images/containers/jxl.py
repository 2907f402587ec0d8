"""The header and the boxes of JPEG XL files. ISO/IEC 18181-1, annexes B and D (the header), and 18181-2 (the boxes)."""

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple

from srgan_jax.images.containers.isobmff import boxes

SIGNATURE = b"\0\0\0\x0cJXL \r\n\x87\n"
FILE_TYPE = b"\0\0\0\x14ftypjxl \0\0\0\0jxl "
CODE_STREAM = b"\xff\x0a"
HEADER_BYTES = 1 << 16  # of the code stream; its header, without a profile, has a few dozen
MAX_METADATA_BYTES = 1 << 26  # of a compressed box
RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
ALPHA, SPOT, BLACK, CFA = 0, 2, 4, 5  # kinds of extra channels
GRAY, CUSTOM = 1, 2
H273_PRIMARIES = {(1, 1): 1, (1, 9): 9, (1, 11): 12, (11, 11): 11}  # of white point and primaries
LINEAR, SRGB = 8, 13
H273_TRANSFERS = (1, LINEAR, SRGB, 16, 17, 18)
HEAD_BYTES = 64  # of the code stream, which hold the header of a file without profile and names


class Header(NamedTuple):
    """What the header of a JPEG XL file says about its samples.

    Attributes:
      width: in pixels, before the orientation is applied.
      height: in pixels.
      orientation: 1 to 8, as in EXIF.
      animated: whether it may have several frames.
      bits: per sample.
      floats: whether the samples are floats.
      gray: whether there is one channel besides the extra ones.
      extra: the kinds of the extra channels.
      premultiplied: whether the colours are multiplied by alpha.
      xyb: whether the samples are stored in XYB, which is not lossless.
      codes: primaries and transfer, ITU-T H.273; None where they have no codes, or a profile states them.
      profile: whether an ICC profile is embedded.
      after_transfer: the number of bits of the code stream up to the end of the transfer's code; 0 if it has none.
    """

    width: int
    height: int
    orientation: int = 1
    animated: bool = False
    bits: int = 8
    floats: bool = False
    gray: bool = False
    extra: tuple[int, ...] = ()
    premultiplied: bool = False
    xyb: bool = True
    codes: tuple[int, int] | None = (1, 13)
    profile: bool = False
    after_transfer: int = 0


class _Bits:
    """Reads numbers from the code stream, the lowest bit first. Each method takes one kind of field of the standard."""

    def __init__(self, data: bytes):
        self._value, self._left, self.offset = int.from_bytes(data, "little"), 8 * len(data), 0

    def __call__(self, count: int) -> int:
        """Returns an unsigned number of `count` bits; raises ValueError at the end of the data."""
        if count > self._left:
            raise ValueError("JPEG XL without a complete header")
        found = self._value & ((1 << count) - 1)
        self._value >>= count
        self._left -= count
        self.offset += count
        return found

    def u32(self, *ways: tuple[int, int]) -> int:
        """Returns a number coded in one of four ways, each an offset and a number of bits."""
        offset, count = ways[self(2)]
        return offset + self(count)

    def enum(self) -> int:
        """Returns the number of a named value."""
        return self.u32((0, 0), (1, 0), (2, 4), (18, 6))


def is_jxl(head: bytes) -> bool:
    """Returns whether these are the first bytes of a JPEG XL file."""
    return head.startswith((CODE_STREAM, SIGNATURE))


def read_header(data: bytes) -> Header:
    """Returns the header of a file.

    Raises:
      ValueError: the file is damaged.
    """
    bits = _Bits(_code_stream(data)[:HEADER_BYTES])
    if bits(16) != int.from_bytes(CODE_STREAM, "little"):
        raise ValueError("JPEG XL without a code stream")
    width, height = _size(bits)
    if bits(1):
        return Header(width, height)
    orientation, animated = _extra_fields(bits) if bits(1) else (1, False)
    depth, floats = _bit_depth(bits)
    bits(1)  # whether 16 bits are enough for a decoder's buffers
    channels = [_extra_channel(bits) for _ in range(bits.u32((0, 0), (1, 0), (2, 4), (1, 12)))]
    xyb = bool(bits(1))
    gray, codes, profile, after_transfer = _color(bits)
    return Header(
        width, height, orientation, animated, depth, floats, gray, tuple(kind for kind, _ in channels),
        any(associated for _, associated in channels), xyb, codes, profile, after_transfer,
    )  # fmt: skip


def _code_stream(data: bytes) -> bytes:
    """Returns the code stream of a file, whose parts may be in several boxes."""
    if data.startswith(CODE_STREAM):
        return data
    parts = []
    for kind, start, end in boxes(data, 0, len(data)):
        if kind == b"jxlc":
            return data[start:end]
        if kind == b"jxlp":
            parts.append(data[start + 4 : end])
    return b"".join(parts)


def _size(bits: _Bits) -> tuple[int, int]:
    """Returns width and height."""
    small = bits(1)

    def side() -> int:
        return 8 * (1 + bits(5)) if small else 1 + bits.u32((0, 9), (0, 13), (0, 18), (0, 30))

    height, ratio = side(), bits(3)
    if not ratio:
        return side(), height
    above, below = RATIOS[ratio]
    return height * above // below, height


def _extra_fields(bits: _Bits) -> tuple[int, bool]:
    """Returns the orientation, and whether the file is an animation."""
    orientation = 1 + bits(3)
    if bits(1):
        _size(bits)  # in which it is meant to be shown
    if bits(1):  # a preview
        ways = ((16, 0), (32, 0), (1, 5), (33, 9)) if bits(1) else ((1, 6), (65, 8), (321, 10), (1345, 12))
        bits.u32(*ways)
        if not bits(3):
            bits.u32(*ways)
    if animated := bool(bits(1)):
        bits.u32((100, 0), (1000, 0), (1, 10), (1, 30))  # ticks a second
        bits.u32((1, 0), (1001, 0), (1, 8), (1, 10))
        bits.u32((0, 0), (0, 3), (0, 16), (0, 32))  # repetitions
        bits(1)
    return orientation, animated


def _bit_depth(bits: _Bits) -> tuple[int, bool]:
    """Returns the bits per sample, and whether the samples are floats."""
    if not bits(1):
        return bits.u32((8, 0), (10, 0), (12, 0), (1, 6)), False
    depth = bits.u32((32, 0), (16, 0), (24, 0), (1, 6))
    bits(4)  # of the exponent
    return depth, True


def _extra_channel(bits: _Bits) -> tuple[int, bool]:
    """Returns the kind of an extra channel, and whether colours are multiplied by it."""
    if bits(1):
        return ALPHA, False
    kind = bits.enum()
    _bit_depth(bits)
    bits.u32((0, 0), (3, 0), (4, 0), (1, 3))  # subsampling
    bits(8 * bits.u32((0, 0), (0, 4), (16, 5), (48, 10)))  # name
    if kind == SPOT:
        bits(64)
    if kind == CFA:
        bits.u32((1, 0), (0, 2), (3, 4), (19, 8))
    return kind, kind == ALPHA and bool(bits(1))


def _color(bits: _Bits) -> tuple[bool, tuple[int, int] | None, bool, int]:
    """Returns the fields `gray`, `codes`, `profile` and `after_transfer` of a header."""
    if bits(1):
        return False, (1, 13), False, 0
    profile, space = bool(bits(1)), bits.enum()
    if profile or space not in (0, GRAY):
        return space == GRAY, None, profile, 0

    def chromaticity(count: int) -> None:
        for _ in range(2 * count):
            bits.u32((0, 19), (524288, 19), (1048576, 20), (2097152, 21))

    white = bits.enum()
    chromaticity(white == CUSTOM)
    primaries = 1 if space == GRAY else bits.enum()
    chromaticity(3 * (primaries == CUSTOM))
    gamma = bits(1)
    transfer = -bits(24) if gamma else bits.enum()
    known = H273_PRIMARIES.get((white, primaries))
    codes = (known, transfer) if known and transfer in H273_TRANSFERS else None
    return space == GRAY, codes, False, 0 if gamma else bits.offset


def as_srgb(encoded: bytes) -> bytes:
    """Returns a file whose header states linear light with the statement of sRGB in its place, which is as long."""
    header = read_header(encoded)
    if header.codes != (1, LINEAR):
        raise ValueError(f"expected a file of linear light, found the codes {header.codes}")
    start = encoded.index(_code_stream(encoded))
    head = int.from_bytes(encoded[start : start + HEAD_BYTES], "little")
    head ^= ((LINEAR - 2) ^ (SRGB - 2)) << (header.after_transfer - 4)  # of 4 bits, from 2 on
    return (
        encoded[:start]
        + head.to_bytes(len(encoded[start : start + HEAD_BYTES]), "little")
        + encoded[start + HEAD_BYTES :]
    )


def metadata_of(data: bytes, decompress: Callable[[bytes, int], bytes]) -> dict[str, bytes]:
    """Returns those of "exif" and "xmp" that the file has.

    Args:
      data: the file.
      decompress: of Brotli; gets the data and the largest number of bytes.
    """
    found = {}
    for kind, content in _metadata_boxes(data, decompress):
        if kind == b"Exif" and len(content) > 4:
            found["exif"] = content[4 + int.from_bytes(content[:4], "big") :]
        if kind == b"xml " and b"adobe:ns:meta" in content:
            found["xmp"] = content
    return found


def _metadata_boxes(data: bytes, decompress: Callable[[bytes, int], bytes]) -> Iterator[tuple[bytes, bytes]]:
    for kind, start, end in boxes(data, 0, len(data)) if data.startswith(SIGNATURE) else ():
        if kind == b"brob" and data[start : start + 4] in (b"Exif", b"xml "):
            yield data[start : start + 4], decompress(data[start + 4 : end], MAX_METADATA_BYTES)
        elif kind in (b"Exif", b"xml "):
            yield kind, data[start:end]


def with_metadata(encoded: bytes, exif: bytes | None, xmp: bytes | None) -> bytes:
    """Returns the file, or bare code stream, with an EXIF block and an XMP packet."""
    added = b"".join(
        struct.pack(">I4s", 8 + len(content), kind) + content
        for kind, content in ((b"Exif", exif and bytes(4) + exif), (b"xml ", xmp))
        if content
    )
    if not added:
        return encoded
    if encoded.startswith(CODE_STREAM):
        encoded = SIGNATURE + FILE_TYPE + struct.pack(">I4s", 8 + len(encoded), b"jxlc") + encoded
    kinds = {kind: start - 8 for kind, start, _ in boxes(encoded, 0, len(encoded))}
    offset = min(kinds[kind] for kind in (b"jxlc", b"jxlp") if kind in kinds)
    return encoded[:offset] + added + encoded[offset:]
