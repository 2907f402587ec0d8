"""WebP: the joining of files of one image each to an animation, and whether a file is lossless.

The format: RFC 9649.
"""

import struct
from collections.abc import Iterator
from io import BytesIO
from typing import BinaryIO

from srgan_jax.runtime.errors import UserError

MAX_BYTES = 2**32 - 10
ALPHA, ANIMATION = 0x10, 0x02  # flags of the chunk VP8X
METADATA = {b"ICCP": 0x20, b"EXIF": 0x08, b"XMP ": 0x04}
SAMPLES = (b"VP8 ", b"VP8L", b"ALPH")


def chunks(file: BinaryIO, start: int = 12, stop: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """Yields kind, offset and length of each chunk's data in an open WebP, from offset `start` on."""
    offset = start
    while stop is None or offset < stop:
        file.seek(offset)
        head = file.read(8)
        if len(head) < 8:
            return
        kind, length = struct.unpack("<4sI", head)
        yield kind, offset + 8, length
        offset += 8 + length + length % 2


def is_lossless(file: BinaryIO) -> bool:
    """Returns whether all images of an open WebP are stored without loss."""
    kinds = set()
    for kind, offset, length in chunks(file):
        kinds |= {kind} if kind != b"ANMF" else {inner for inner, _, _ in chunks(file, offset + 16, offset + length)}
    return b"VP8L" in kinds and b"VP8 " not in kinds


def chunk(kind: bytes, data: bytes) -> bytes:
    """Returns a chunk of a WebP."""
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def _bytes_of(encoded: bytes, wanted: tuple[bytes, ...]) -> Iterator[tuple[bytes, bytes]]:
    for kind, offset, length in chunks(BytesIO(encoded)):
        if kind in wanted:
            yield kind, encoded[offset : offset + length]


class WebpWriter:
    """Writes an animated WebP from frames that are encoded as WebPs."""

    def __init__(self, file: BinaryIO, size: tuple[int, int], loop: int, alpha: bool, still: bytes):
        """Writes the header: `size` is height and width; `still` is a WebP with the metadata; `loop` 0: for ever."""
        self._file, self._late_ms = file, 0.0
        found = dict(_bytes_of(still, tuple(METADATA)))
        flags = ANIMATION | (ALPHA if alpha else 0) | sum(METADATA[kind] for kind in found)
        file.write(b"RIFF\0\0\0\0WEBP")
        file.write(chunk(b"VP8X", struct.pack("<I", flags) + _three(size[1] - 1) + _three(size[0] - 1)))
        if b"ICCP" in found:
            file.write(chunk(b"ICCP", found.pop(b"ICCP")))
        file.write(chunk(b"ANIM", bytes(4) + struct.pack("<H", min(loop, 65_535))))
        self._last = b"".join(chunk(kind, data) for kind, data in found.items())

    def add(self, encoded: bytes, place: tuple[int, int], duration_ms: float, clear: bool) -> None:
        """Appends a frame, a WebP, at `place`, top and left, both even; `clear` makes it transparent after its time.

        WebP counts in milliseconds: what is rounded off is added to the next frame.

        Raises:
          UserError: the file would have more than 4 GiB.
        """
        duration = min(max(0, round(duration_ms + self._late_ms)), 2**24 - 1)
        self._late_ms += duration_ms - duration
        width, height = size_of(encoded)
        head = _three(place[1] // 2) + _three(place[0] // 2) + _three(width - 1) + _three(height - 1)
        samples = b"".join(chunk(kind, data) for kind, data in _bytes_of(encoded, SAMPLES))
        frame = chunk(b"ANMF", head + _three(duration) + bytes([2 | int(clear)]) + samples)  # 2: not blended
        if self._file.tell() + len(frame) + len(self._last) > MAX_BYTES:
            raise UserError("the animation has more than 4 GB, which WebP can't hold; --format png can")
        self._file.write(frame)

    def close(self) -> None:
        """Writes EXIF and XMP, and the size of the file."""
        self._file.write(self._last)
        size = self._file.tell()
        self._file.seek(4)
        self._file.write(struct.pack("<I", size - 8))
        self._file.seek(size)


def size_of(encoded: bytes) -> tuple[int, int]:
    """Returns width and height of a WebP of one image."""
    kind, data = next(_bytes_of(encoded, (b"VP8 ", b"VP8L")))
    if kind == b"VP8L":
        bits = struct.unpack("<I", data[1:5])[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack("<HH", data[6:10])
    return width & 0x3FFF, height & 0x3FFF


def _three(value: int) -> bytes:
    return struct.pack("<I", value)[:3]
