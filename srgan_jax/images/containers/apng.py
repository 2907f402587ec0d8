"""APNG: the parts of an animation, and the joining of PNGs of one image each.

The format: PNG specification, 3rd edition (W3C 2025), section 11.3.6.
"""

import struct
from collections.abc import Iterator
from fractions import Fraction
from io import BytesIO
from typing import BinaryIO

import numpy as np

from srgan_jax.images import high_bit_depth
from srgan_jax.images.containers.canvas import CLEAR, KEEP, RESTORE, Part
from srgan_jax.images.containers.png import SIGNATURE
from srgan_jax.images.containers.png import encode_chunk as chunk
from srgan_jax.images.errors import ImageError
from srgan_jax.images.pillow import open_image

END = chunk(b"IEND", b"")
DISPOSALS = {1: CLEAR, 2: RESTORE}
CONTROL = ">IIIIIHHBB"  # sequence number, width, height, left, top, duration: numerator, denominator, disposal, blend


def chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Yields kind, offset and length of each chunk's data in an open PNG; a file that ends early has fewer."""
    offset = len(SIGNATURE)
    while len(head := _at(file, offset, 8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        yield kind, offset + 8, length
        offset += 12 + length


def _at(file: BinaryIO, offset: int, length: int) -> bytes:
    file.seek(offset)
    return file.read(length)


def read_parts(file: BinaryIO) -> Iterator[Part]:
    """Yields the parts of an open APNG. The default image is one of them only if an fcTL chunk precedes it."""
    header, shared, control, spans = b"", b"", b"", []
    for kind, offset, length in chunks(file):
        if kind == b"IHDR":
            header = _at(file, offset, length)
        elif kind in (b"PLTE", b"tRNS"):
            shared += chunk(kind, _at(file, offset, length))
        elif kind in (b"fcTL", b"IEND"):
            if control and spans:
                yield _part(control, header, shared, spans)
            control, spans = (_at(file, offset, length) if kind == b"fcTL" else b""), []
        elif kind == b"IDAT" and control:
            spans.append((offset, length))
        elif kind == b"fdAT":
            spans.append((offset + 4, length - 4))
    if control and spans:  # the file ends early
        yield _part(control, header, shared, spans)


def _part(control: bytes, header: bytes, shared: bytes, spans: list[tuple[int, int]]) -> Part:
    if len(control) != struct.calcsize(CONTROL) or len(header) != 13:
        raise ImageError("damaged animation: expected an fcTL chunk of 26 bytes")
    _, width, height, left, top, above, below, disposal, blend = struct.unpack(CONTROL, control)
    canvas = struct.unpack(">II", header[:8])
    if not (width and height and left + width <= canvas[0] and top + height <= canvas[1]):
        raise ImageError(f"damaged animation: a frame of {width} x {height} pixels at {left}, {top} of {canvas}")
    single = SIGNATURE + chunk(b"IHDR", struct.pack(">II", width, height) + header[8:]) + shared
    duration = Fraction(1000 * above, below or 100)
    duration = int(duration) if duration.denominator == 1 else float(duration)
    return Part(left, top, width, height, duration, DISPOSALS.get(disposal, KEEP), blend == 1, single, tuple(spans))


def decode(part: Part, data: bytes) -> np.ndarray:
    """Returns the samples of a part, `[h, w, 4]`, uint16 if it has 16 bits, otherwise uint8."""
    png = BytesIO(part.header + chunk(b"IDAT", data) + END)
    if bit_depth(part) == 16:
        return to_rgba(high_bit_depth.png_pixels(png, 1))
    with open_image(png) as image:
        return np.asarray(image.convert("RGBA"))


def bit_depth(part: Part) -> int:
    """Returns the bits of a sample."""
    return part.header[24]


def has_colour(part: Part) -> bool:
    """Returns whether the file has channels of colour; False for gray, and for a palette, whatever its colours."""
    return part.header[25] in (2, 6)


def has_alpha(part: Part) -> bool:
    """Returns whether the file has an alpha channel, or a transparent colour."""
    return part.header[25] in (4, 6) or b"tRNS" in part.header


def to_rgba(samples: np.ndarray) -> np.ndarray:
    """Returns gray, gray and alpha, RGB or RGBA, `[H, W, C]`, as `[H, W, 4]`."""
    colours = samples[..., : samples.shape[-1] - (samples.shape[-1] in (2, 4))]
    opaque = np.full((*samples.shape[:2], 1), np.iinfo(samples.dtype).max, samples.dtype)
    alpha = samples[..., -1:] if samples.shape[-1] in (2, 4) else opaque
    return np.concatenate([np.broadcast_to(colours, (*samples.shape[:2], 3)), alpha], axis=-1)


class ApngWriter:
    """Writes an APNG from frames that are encoded as PNGs."""

    def __init__(self, file: BinaryIO, size: tuple[int, int], loop: int, count: int, still: bytes):
        """Writes the header: `size` is height and width; `still` is a PNG with the metadata; `loop` 0: for ever."""
        self._file, self._size, self._number, self._started = file, size, 0, False
        self._control, self._before = chunk(b"acTL", struct.pack(">II", count, loop)), b""
        source = BytesIO(still)
        for kind, offset, length in chunks(source):
            if kind == b"IDAT":
                break
            if kind not in (b"IHDR", b"PLTE", b"tRNS"):
                self._before += chunk(kind, _at(source, offset, length))

    def add(self, encoded: bytes, place: tuple[int, int], duration_ms: float, clear: bool) -> None:
        """Appends a frame, a PNG, at `place`, top and left; `clear` makes it transparent after its time."""
        source, samples, header = BytesIO(encoded), b"", b""
        for kind, start, length in chunks(source):
            samples += _at(source, start, length) if kind == b"IDAT" else b""
            header = _at(source, start, length) if kind == b"IHDR" else header
        width, height = struct.unpack(">II", header[:8])
        if not self._started:
            screen = struct.pack(">II", self._size[1], self._size[0]) + header[8:]
            self._file.write(SIGNATURE + chunk(b"IHDR", screen) + self._control + self._before)
        time = duration(duration_ms)
        fields = (width, height, place[1], place[0], time.numerator, time.denominator, int(clear), 0)
        self._file.write(chunk(b"fcTL", struct.pack(CONTROL, self._next(), *fields)))
        if self._started:
            self._file.write(chunk(b"fdAT", struct.pack(">I", self._next()) + samples))
        else:
            self._file.write(chunk(b"IDAT", samples))
        self._started = True

    def _next(self) -> int:
        self._number += 1
        return self._number - 1

    def close(self) -> None:
        """Writes the end mark."""
        self._file.write(END)


def duration(duration_ms: float) -> Fraction:
    """Returns a duration in seconds as a fraction of two 16-bit numbers."""
    seconds = min(Fraction(duration_ms) / 1000, Fraction(65_535))
    return seconds.limit_denominator(max(1, 65_535 // max(1, -(-seconds.numerator // seconds.denominator))))
