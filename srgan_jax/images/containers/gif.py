"""GIF: the parts of an animation, and the joining of GIFs of one image each.

The format: GIF89a specification, CompuServe 1990. Pillow decodes and encodes the samples (LZW).
"""

import struct
from collections.abc import Iterator
from io import BytesIO
from typing import BinaryIO

import numpy as np
from PIL import Image

from srgan_jax.images.containers.canvas import CLEAR, KEEP, RESTORE, Part
from srgan_jax.images.errors import ImageError
from srgan_jax.images.pillow import open_image

DISPOSALS = {2: CLEAR, 3: RESTORE}
OPAQUE = 128  # a GIF has no partial transparency: smaller alpha becomes transparent


def read_parts(file: BinaryIO) -> Iterator[Part]:
    """Yields the parts of an open GIF; a file that ends early has fewer.

    Raises:
      ImageError: an image with a rectangle of no pixels.
    """
    screen = file.read(13)
    global_table = file.read(_table_bytes(screen[10])) if len(screen) == 13 else b""
    control = bytes(4)
    while (kind := file.read(1)) and kind != b";":
        if kind == b"!":
            label, content = file.read(1), b"".join(_blocks(file))
            control = content.ljust(4, b"\0")[:4] if label == b"\xf9" else control
        elif kind == b",":
            yield _part(file, control, global_table)
            control = bytes(4)


def metadata_of(file: BinaryIO) -> dict[str, bytes]:
    """Returns those of "icc" and "xmp" that an open GIF has, from its application extensions."""
    screen, found = file.read(13), {}
    file.read(_table_bytes(screen[10]) if len(screen) == 13 else 0)
    while (kind := file.read(1)) and kind != b";":
        if kind == b"!":
            label, name = file.read(1), b""
            if label == b"\xff":
                name = file.read(file.read(1)[0])
            start = file.tell()
            content = b"".join(_blocks(file))
            if name == b"ICCRGBG1012":
                found["icc"] = content
            elif name == b"XMP DataXMP":  # not in blocks: the packet, and 258 bytes that end it for other readers
                end = file.tell()
                file.seek(start)
                found["xmp"] = file.read(end - start)[:-258]
        elif kind == b",":
            flags = file.read(9)[8]
            file.read(_table_bytes(flags) + 1)
            for _ in _blocks(file):
                pass
    return found


def _part(file: BinaryIO, control: bytes, global_table: bytes) -> Part:
    descriptor = file.read(9)
    if len(descriptor) < 9:
        raise ImageError("image file is truncated")
    left, top, width, height, flags = struct.unpack("<4HB", descriptor)
    if not width or not height:
        raise ImageError(f"damaged animation: a frame of {width} x {height} pixels")
    table = file.read(_table_bytes(flags)) or global_table
    start = file.tell()
    file.read(1)  # bits of an index
    for _ in _blocks(file):
        pass
    depth = max(0, (len(table) // 3 - 1).bit_length() - 1)
    header = b"GIF89a" + struct.pack("<HHBBB", width, height, (0x80 if table else 0) | depth, 0, 0) + table
    header += b"!\xf9\4" + bytes([control[0] & 1]) + control[1:] + b"\0"
    header += b"," + struct.pack("<4HB", 0, 0, width, height, flags & 0x40)  # interlaced
    disposal = DISPOSALS.get(control[0] >> 2 & 7, KEEP)
    duration = 10 * struct.unpack("<H", control[1:3])[0]
    return Part(left, top, width, height, duration, disposal, True, header, ((start, file.tell() - start),))


def _table_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    """Yields the data blocks at the position of the file, up to their end mark or the end of the file."""
    while (size := file.read(1)) and size != b"\0":
        yield file.read(size[0])


def decode(part: Part, data: bytes) -> np.ndarray:
    """Returns the samples of a part, `[h, w, 4]` uint8."""
    with open_image(BytesIO(part.header + data + b";")) as image:
        return np.asarray(image.convert("RGBA"))


def with_palette(frame: np.ndarray) -> tuple[Image.Image, int | None]:
    """Returns a frame `[H, W, C]` uint8 with a palette of its own, and the index of transparency, if it has any.

    Alpha of less than a half becomes transparent. The colours are chosen from the opaque pixels alone, by median cut.
    """
    gray = frame.shape[-1] <= 2
    alpha = frame[..., -1] if frame.shape[-1] in (2, 4) else None
    if alpha is None or (alpha >= OPAQUE).all():
        image = Image.fromarray(np.ascontiguousarray(frame[..., 0] if gray else frame[..., :3]))
        return (image if gray else image.quantize(256, Image.Quantize.MEDIANCUT)), None
    opaque = alpha >= OPAQUE
    colours = np.repeat(frame[..., :1], 3, axis=-1)[opaque] if gray else frame[..., :3][opaque]
    indices, palette = np.full(alpha.shape, 255, np.uint8), [0, 0, 0]
    if len(colours):
        quantized = Image.fromarray(colours[None]).quantize(255, Image.Quantize.MEDIANCUT)
        indices[opaque], palette = np.asarray(quantized)[0], quantized.getpalette("RGB") or palette
    image = Image.fromarray(indices)
    image.putpalette(palette[: 3 * 255] + [0] * (3 * 256 - len(palette[: 3 * 255])))
    return image, 255


def encode_gif(frame: np.ndarray, comment: bytes | None = None) -> bytes:
    """Returns a frame `[H, W, C]` uint8 as a GIF of its own."""
    image, transparent = with_palette(frame)
    buffer = BytesIO()
    options = {"transparency": transparent, "comment": comment}
    image.save(buffer, "GIF", interlace=0, **{name: value for name, value in options.items() if value is not None})
    return buffer.getvalue()


class GifWriter:
    """Writes an animated GIF from frames; each has a palette of its own."""

    def __init__(self, file: BinaryIO, size: tuple[int, int], loop: int, comment: bytes = b""):
        """Writes the header: `size` is height and width; `loop` 0 repeats for ever, 1 plays once.

        The file has the number of repetitions after the first time.
        """
        self._file, self._late_ms = file, 0.0
        file.write(b"GIF89a" + struct.pack("<HHBBB", size[1], size[0], 0x70, 0, 0))
        if loop != 1:
            file.write(b"!\xff\x0bNETSCAPE2.0\3\1" + struct.pack("<H", min(max(0, loop - 1), 65_535)) + b"\0")
        if comment:
            blocks = (comment[start : start + 255] for start in range(0, len(comment), 255))
            file.write(b"!\xfe" + b"".join(bytes([len(block)]) + block for block in blocks) + b"\0")

    def add(self, encoded: bytes, place: tuple[int, int], duration_ms: float, clear: bool) -> None:
        """Appends a frame that `encode_gif` gave, at `place`, top and left; `clear`: it is then made transparent.

        GIF counts in hundredths of a second: what is rounded off is added to the next frame.
        """
        (part,) = read_parts(BytesIO(encoded))
        hundredths = max(round((duration_ms + self._late_ms) / 10), 1 if duration_ms else 0)
        hundredths = min(hundredths, 65_535)
        self._late_ms += duration_ms - 10 * hundredths
        at = part.header.index(b"!\xf9\4", 13 + _table_bytes(part.header[10]))
        transparent = part.header[at + 3] & 1
        flags = transparent | (2 if clear else 1) << 2
        self._file.write(b"!\xf9\4" + struct.pack("<BH", flags, hundredths) + part.header[at + 6 : at + 8])
        table = part.header[13:at]
        depth = (len(table) // 3).bit_length() - 2
        descriptor = struct.pack("<4HB", place[1], place[0], part.width, part.height, 0x80 | depth)
        ((start, length),) = part.spans
        self._file.write(b"," + descriptor + table + encoded[start : start + length])

    def close(self) -> None:
        """Writes the end mark."""
        self._file.write(b";")
