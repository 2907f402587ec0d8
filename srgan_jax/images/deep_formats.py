"""AVIF, HEIC, JPEG 2000 and PPM of more than 8 bits, which Pillow rounds to 8."""

import os
import re
from typing import BinaryIO, cast

import numpy as np
from PIL import Image

from srgan_jax.images import high_bit_depth
from srgan_jax.images.containers import isobmff, jp2
from srgan_jax.images.errors import ImageError
from srgan_jax.images.files import is_open, read_bytes
from srgan_jax.images.pixels import orientation_of

AVIF_BITS = 10  # of the AVIF files that are written; 12 are outside the profiles that browsers support


def read_above_8_bits(image: Image.Image, file: str | os.PathLike | BinaryIO) -> np.ndarray | None:
    """Returns a still image as `[H, W, C]` uint16, upright; None if it has 8 bits, or Pillow keeps all of its bits.

    Args:
      image: the file, opened by Pillow.
      file: the same file.
    """
    reader = {"AVIF": _avif, "HEIF": _heif, "JPEG2000": _jpeg2000, "PPM": _ppm}.get(image.format or "")
    return reader(image, file) if reader else None


def _avif(image: Image.Image, file: str | os.PathLike | BinaryIO) -> np.ndarray | None:
    from imagecodecs import avif_decode

    data = read_bytes(file)
    bits = isobmff.bits_of(data)
    if bits <= 8:
        return None
    samples = _three_axes(avif_decode(data))
    return high_bit_depth.upright(high_bit_depth.to_uint16(samples, bits), orientation_of(image))


def _heif(image: Image.Image, file: str | os.PathLike | BinaryIO) -> np.ndarray | None:
    import pillow_heif

    if image.info.get("bit_depth", 8) <= 8:
        return None
    if is_open(file):
        file.seek(0)
    decoded = pillow_heif.open_heif(cast(str, file), convert_hdr_to_8bit=False)  # scales to 16 bits; upright
    return _three_axes(np.asarray(decoded))


def _jpeg2000(image: Image.Image, file: str | os.PathLike | BinaryIO) -> np.ndarray | None:
    from imagecodecs import jpeg2k_decode

    data = read_bytes(file)
    bits = jp2.bits_of(data)
    if not 8 < bits <= 16 or image.mode not in ("RGB", "RGBA", "L", "LA", "I;16"):
        return None
    samples = _three_axes(jpeg2k_decode(data))
    if samples.dtype != np.uint16 or samples.shape[-1] > 4:  # signed, or channels of different depth
        return None
    return high_bit_depth.to_uint16(samples, bits)


def _ppm(image: Image.Image, file: str | os.PathLike | BinaryIO) -> np.ndarray | None:
    """Reads P6 and P3 with a maximum above 255; Pillow keeps the bits of gray images."""
    if image.mode != "RGB":
        return None
    data = read_bytes(file)
    match = re.match(rb"P([36])" + 3 * rb"(?:\s|#[^\n\r]*[\n\r])+(\d+)" + rb"\s", data)
    if not match or int(match[4]) <= 255:
        return None
    width, height, largest = (int(match[group]) for group in (2, 3, 4))
    count = 3 * width * height
    if match[1] == b"6":
        available = min(count, (len(data) - match.end()) // 2)
        samples = np.frombuffer(data, ">u2", available, match.end())
    else:
        samples = np.array(re.sub(rb"#[^\n\r]*", b"", data[match.end() :]).split()[:count], np.uint32)
    if len(samples) < count:
        raise ImageError(f"{len(samples)} samples, expected {count}: the file is truncated")
    scaled = np.minimum(samples.astype(np.uint64), largest) * 65535 + largest // 2
    return (scaled // largest).astype(np.uint16).reshape(height, width, 3)


def _three_axes(samples: np.ndarray) -> np.ndarray:
    return samples if samples.ndim == 3 else samples[..., None]


def _to_10_bits(frame: np.ndarray) -> np.ndarray:
    largest = np.uint32(2**AVIF_BITS - 1)
    return ((frame * largest + 32767) // 65535).astype(np.uint16)


def has_10_bits(frame: np.ndarray) -> bool:
    """Returns whether uint16 samples are those of an image of 10 bits."""
    return np.array_equal(high_bit_depth.to_uint16(_to_10_bits(frame), AVIF_BITS), frame)


def encode_avif(frame: np.ndarray, quality: int, codes: tuple[int, int] | None) -> bytes:
    """Returns `[H, W, C]` uint16 as an AVIF of 10 bits; `codes` are primaries and transfer."""
    from imagecodecs import AVIF, avif_encode

    primaries, transfer = codes or (1, 13)
    scaled = _to_10_bits(frame)
    encoded = avif_encode(
        np.ascontiguousarray(scaled[..., 0] if frame.shape[-1] == 1 else scaled),
        level=quality,
        bitspersample=AVIF_BITS,
        pixelformat=AVIF.PIXEL_FORMAT.YUV444 if frame.shape[-1] > 2 else None,
        primaries=primaries,
        transfer=transfer,
        matrix=9 if primaries == 9 else 6,  # luma of BT.2020, of BT.601
        numthreads=1,
    )
    return bytes(encoded)


def encode_jpeg2000(frame: np.ndarray) -> bytes:
    """Returns `[H, W, C]` uint16 as a lossless JPEG 2000 file."""
    from imagecodecs import jpeg2k_encode

    samples = np.ascontiguousarray(frame[..., 0] if frame.shape[-1] == 1 else frame)
    return bytes(jpeg2k_encode(samples, level=0, codecformat="jp2", reversible=True))


def encode_ppm(frame: np.ndarray) -> bytes:
    """Returns `[H, W, 1 or 3]` uint16 as a PGM or PPM file."""
    height, width, channels = frame.shape
    return b"P%d\n%d %d\n65535\n" % (6 if channels == 3 else 5, width, height) + frame.astype(">u2").tobytes()
