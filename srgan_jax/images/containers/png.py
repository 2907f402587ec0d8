"""The chunks of PNG files that describe an image. W3C, Portable Network Graphics (Third Edition), section 11.3."""

import os
import struct
import zlib
from typing import BinaryIO

from srgan_jax.images.files import opened

SIGNATURE = b"\x89PNG\r\n\x1a\n"
START = 33  # the offset of other chunks: after the signature (8 bytes) and IHDR (25)
MAX_TEXT_BYTES = 1 << 26  # decompressed
SAMPLES = (b"IDAT", b"fdAT")
TEXT = (b"tEXt", b"zTXt", b"iTXt")
XMP_KEY = b"XML:com.adobe.xmp"
Chunk = tuple[bytes, bytes]  # kind, data


def read_chunks(file: str | os.PathLike | BinaryIO) -> list[Chunk]:
    """Returns the chunks of a PNG without those of samples, up to where the file ends or is damaged."""
    with opened(file) as stream:
        return _read(stream)


def _read(stream: BinaryIO) -> list[Chunk]:
    found = []
    stream.seek(len(SIGNATURE))
    while len(head := stream.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind in SAMPLES:
            stream.seek(length + 4, os.SEEK_CUR)
            continue
        data = stream.read(length)
        if len(data) < length or not kind.isalpha():
            break
        stream.seek(4, os.SEEK_CUR)
        found.append((kind, data))
    return found


def encode_chunk(kind: bytes, data: bytes) -> bytes:
    """Returns a chunk with its length and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def text_of(chunk: Chunk) -> tuple[bytes, bytes]:
    """Returns keyword and text of a text chunk, decompressed.

    Raises:
      zlib.error, ValueError: the chunk is damaged.
    """
    kind, data = chunk
    key, _, rest = data.partition(b"\0")
    if kind == b"tEXt":
        return key, rest
    if kind == b"zTXt":
        return key, _decompressed(rest[1:])
    compressed = rest[:1] == b"\1"
    _language, _translated, text = rest[2:].split(b"\0", 2)
    return key, _decompressed(text) if compressed else text


def _decompressed(data: bytes) -> bytes:
    return zlib.decompressobj().decompress(data, MAX_TEXT_BYTES)


def raw_profile(text: bytes) -> bytes:
    r"""Returns the bytes of a "Raw profile", ImageMagick's hexadecimal form: "\nname\n    length\nhex digits".

    Raises:
      ValueError: the text has another form.
    """
    lines = text.strip(b"\n").split(b"\n")
    return bytes.fromhex(b"".join(lines[2:]).decode("ascii"))[: int(lines[1])]


def raw_profile_chunk(name: str, data: bytes) -> Chunk:
    """Returns the chunk of a "Raw profile", which ImageMagick and ExifTool read."""
    text = f"\n{name}\n{len(data):8}\n{data.hex()}\n"
    return b"zTXt", f"Raw profile type {name}".encode() + b"\0\0" + zlib.compress(text.encode())


def xmp_chunk(xmp: bytes) -> Chunk:
    """Returns the chunk of XMP."""
    return b"iTXt", XMP_KEY + b"\0\0\0\0\0" + xmp
