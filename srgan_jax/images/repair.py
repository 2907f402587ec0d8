"""Damage that every viewer overlooks: PNG chunks beside the image, and the end of a JPEG."""

import io
import zlib
from collections.abc import Callable
from typing import BinaryIO

import numpy as np

from srgan_jax.images.containers import png
from srgan_jax.images.errors import ImageError
from srgan_jax.images.picture import Picture

MAX_TEXT_BYTES = 64 << 20  # of all texts and profiles of a PNG, after decompression
MAX_DECOMPRESSED = 2 * MAX_TEXT_BYTES  # what is left out included; behind that all texts and profiles are left out
ANIMATION_CHUNKS = (b"acTL", b"fcTL", b"fdAT")  # ancillary by name, but they hold frames
CHUNK_BYTES = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1, b"pHYs": 9, b"iCCP": 3, b"cICP": 4, b"tIME": 7, b"sBIT": 1}
END_OF_IMAGE = b"\xff\xd9"
FILLER = b"\x5a\x96\x3c\xa5" * 256  # compressed data of no image
LOST_FRACTION, LOST_PIXELS = 0.01, 256  # the end of a JPEG that may be missing; 256 is a block of 16 x 16


def readable_png(stream: BinaryIO) -> tuple[BinaryIO, tuple[str, ...]]:
    """Returns a PNG without the damaged or oversized chunks beside the image, and a note for each kind of them.

    A file without such chunks is returned itself. Chunks of the image are never left out.
    """
    kept, left_out, texts, spent = [], [], 0, 0
    end = stream.seek(0, io.SEEK_END)
    position = len(png.SIGNATURE)
    while position + 12 <= end:
        stream.seek(position)
        head = stream.read(8)
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if position + 12 + length > end or not kind.isalpha():
            break
        problem = ""
        if kind[0] & 32 and kind not in ANIMATION_CHUNKS:
            data, checksum = stream.read(length), stream.read(4)
            size = _text_bytes(kind, data, min(MAX_TEXT_BYTES - texts, MAX_DECOMPRESSED - spent))
            texts, spent = texts + size, spent + size
            if zlib.crc32(kind + data) != int.from_bytes(checksum, "big"):
                problem = "a wrong checksum"
            elif length < CHUNK_BYTES.get(kind, 0):
                problem = f"{length} bytes"
            elif size and (texts > MAX_TEXT_BYTES or spent > MAX_DECOMPRESSED):
                problem, texts = f"more than {MAX_TEXT_BYTES >> 20} MB", texts - size
        if problem:
            left_out.append(f"PNG chunk {kind.decode()} with {problem}: left out")
        else:
            kept.append((position, 12 + length))
        position += 12 + length
    if not left_out:
        stream.seek(0)
        return stream, ()
    kept.append((position, end - position))
    copied = [png.SIGNATURE]
    for start, length in kept:
        stream.seek(start)
        copied.append(stream.read(length))
    return io.BytesIO(b"".join(copied)), tuple(dict.fromkeys(left_out))


def _text_bytes(kind: bytes, data: bytes, limit: int) -> int:
    """Returns the bytes of a text or profile chunk after decompression; at most one more than `limit`."""
    if kind not in (b"tEXt", b"zTXt", b"iTXt", b"iCCP"):
        return 0
    start = data.find(b"\0") + 2  # after the keyword, and the method of compression
    if kind == b"iTXt":
        start = data.find(b"\0", data.find(b"\0", start + 1) + 1) + 1  # after flag, method, language and keyword
    try:
        return len(data) if kind == b"tEXt" else len(zlib.decompressobj().decompress(data[start:], max(0, limit) + 1))
    except zlib.error:  # not compressed, or damaged: readers ignore it
        return len(data)


def complete_jpeg(data: bytes, decode: Callable[[BinaryIO], Picture]) -> Picture | None:
    """Returns a JPEG that lacks its end; None where more than the last hundredth of its pixels is lost.

    What is lost is found by decoding twice, once with other data in place of what is missing: where the two differ,
    the pixels are not those of the file.
    """
    data = data.rstrip(b"\xff")
    try:
        first, second = (decode(io.BytesIO(data + filler + END_OF_IMAGE)) for filler in (b"", FILLER))
    except ImageError:
        return None
    differs = (first.frames[0] != second.frames[0]).any(axis=-1)
    rows, columns = np.flatnonzero(differs.any(axis=1)), np.flatnonzero(differs.any(axis=0))
    height, width = differs.shape
    lost = 0
    if rows.size:
        band = height - rows[0]
        one_row_of_blocks = band <= 18  # with the smoothed colours above it
        lost = band * (width - columns[0] if one_row_of_blocks else width)
    return first if lost <= max(LOST_PIXELS, LOST_FRACTION * differs.size) else None
