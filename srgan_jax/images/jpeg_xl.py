"""Reading and writing of JPEG XL with imagecodecs; the size is checked before the decoder runs."""

import os
from typing import Any, BinaryIO

import numpy as np

from srgan_jax.images import color_space, high_bit_depth
from srgan_jax.images.containers import jxl
from srgan_jax.images.errors import ImageError, reason
from srgan_jax.images.files import read_bytes
from srgan_jax.images.limits import check_bytes, check_pixels
from srgan_jax.images.metadata import upright_fields
from srgan_jax.images.picture import Picture
from srgan_jax.runtime import extras

CONVERT = "convert it first: djxl --bits_per_sample 16 photo.jxl photo.png"
OVERSHOOT = 0.05  # by so much, of 1, lossy coding of floats may leave [0, 1]


def read_jpeg_xl(file: str | os.PathLike | BinaryIO, max_pixels: int) -> Picture:
    """Returns a JPEG XL image, upright, 8 or 16 bits; of an animation the first image.

    Raises:
      ImageError: damaged, too large, of a kind that isn't read, or with a profile and without the extra `jxl`.
    """
    from imagecodecs import jpegxl_decode

    data = read_bytes(file)
    header = _checked_header(data, max_pixels)
    fields: dict[str, Any] = {"notes": (), **_color(data, header)}
    bytes_per_sample = 1 if header.bits <= 8 else 2 if header.bits <= 16 else 4
    dtype = np.dtype(f"{'f' if header.floats else 'u'}{bytes_per_sample}")
    channels = (1 if header.gray else 3) + (jxl.ALPHA in header.extra)
    pixels = np.empty((*_size(header), channels), dtype)
    try:  # whatever the decoder reads in the header, it fills this array or fails
        first = 0 if header.animated else None
        jpegxl_decode(data, index=first, numthreads=1, out=pixels if channels > 1 else pixels[..., 0])
    except Exception as error:  # its decoder raises exceptions of many types
        raise ImageError(f"damaged JPEG XL: {reason(error)}") from None
    if header.extra not in ((), (jxl.ALPHA,)):
        fields["notes"] += ("channels other than colour and alpha are left out",)
    if header.animated:
        fields["notes"] += ("animated JPEG XL: only the first image is upscaled",)
    try:
        fields |= jxl.metadata_of(data, _decompress)
    except Exception as error:  # damaged metadata raise exceptions of many types
        fields["notes"] += (f"metadata are damaged and not all copied: {reason(error)}",)
    lossless = not header.xyb and b"jbrd" not in data[: jxl.HEADER_BYTES]  # which a JPEG's is, in other coding
    return Picture((_as_integers(pixels, header),), lossless=lossless, **upright_fields(fields))


def jpeg_xl_size(file: str | os.PathLike | BinaryIO, max_pixels: int) -> tuple[int, int]:
    """Returns height and width of the image that `read_jpeg_xl` gives; raises the same errors."""
    return _size(_checked_header(read_bytes(file), max_pixels))


def jpeg_xl_color(file: str | os.PathLike | BinaryIO, max_pixels: int) -> color_space.ColorSpace | None:
    """Returns the colour space that the header states, if not by a profile; raises the same errors."""
    codes = _checked_header(read_bytes(file), max_pixels).codes
    return color_space.from_codes(*codes) if codes else None


def _size(header: jxl.Header) -> tuple[int, int]:
    """Returns height and width with the orientation applied."""
    return (header.width, header.height) if header.orientation > 4 else (header.height, header.width)


def _checked_header(data: bytes, max_pixels: int) -> jxl.Header:
    try:
        header = jxl.read_header(data)
    except ValueError as error:
        raise ImageError(f"damaged JPEG XL: {error}") from None
    pixels = header.width * header.height
    check_pixels(pixels, max_pixels)
    check_bytes(pixels * (3 + len(header.extra)) * (-(-header.bits // 8)), max_pixels)
    if jxl.BLACK in header.extra:
        raise ImageError(f"JPEG XL in CMYK is not read: {CONVERT}")
    if header.premultiplied:
        raise ImageError(f"JPEG XL with colours that are multiplied by alpha is not read: {CONVERT}")
    return header


def _color(data: bytes, header: jxl.Header) -> dict[str, Any]:
    """Returns the fields of `Picture` that state the colours; asks the extra where the file embeds a profile."""
    if header.codes:
        return {"color": color_space.from_codes(*header.codes)}
    if header.profile and header.xyb:  # its decoder gives linear light, for which 8 bits are too few
        raise ImageError(f"JPEG XL of lossy coding with a colour profile is not read: {CONVERT}")
    if extras.missing("jxl"):
        raise ImageError('JPEG XL with a colour profile: reading it needs pip install "srgan-jax[jxl]"')
    from pillow_jxl import Decoder

    try:
        return {"icc": bytes(Decoder(num_threads=1)(data)[3]) or None}
    except Exception as error:  # its decoder raises exceptions of many types
        raise ImageError(f"damaged JPEG XL: {reason(error)}") from None


def _as_integers(pixels: np.ndarray, header: jxl.Header) -> np.ndarray:
    """Returns uint8 or uint16 samples that fill the range of their type."""
    if pixels.dtype == np.uint8 and header.bits < 8:
        return (pixels.astype(np.uint16) * 255 // (2**header.bits - 1)).astype(np.uint8)
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    if pixels.dtype.kind == "f" and pixels.min() > -OVERSHOOT and pixels.max() < 1 + OVERSHOOT:
        pixels = np.clip(pixels, 0, 1)
    return high_bit_depth.to_uint16(np.ascontiguousarray(pixels), header.bits)


def _decompress(data: bytes, limit: int) -> bytes:
    from imagecodecs import brotli_decode

    return bytes(brotli_decode(data, out=limit))


def encode_jpeg_xl(frame: np.ndarray, quality: int, *, lossless: bool) -> bytes:
    """Returns `[H, W, C]` uint8 or uint16 as a JPEG XL in sRGB; quality 100 is lossless."""
    from imagecodecs import jpegxl_encode

    lossless = lossless or quality == 100
    deep = frame.dtype == np.uint16  # which the encoder takes for linear light, so lossy coding must get that
    samples = _linear(frame) if deep and not lossless else frame
    samples = np.ascontiguousarray(samples[..., 0] if frame.shape[-1] == 1 else samples)
    options = {"lossless": True} if lossless else {"distance": _distance(quality)}
    encoded = bytes(jpegxl_encode(samples, numthreads=1, **options))
    return jxl.as_srgb(encoded) if deep else encoded


def _linear(frame: np.ndarray) -> np.ndarray:
    """Returns `[H, W, C]` uint16 in sRGB as linear light; alpha stays."""
    light = color_space.LINEAR_LIGHT[jxl.SRGB](np.arange(65536) / 65535)
    colours = frame.shape[-1] - (frame.shape[-1] in (2, 4))
    linear = np.floor(light * 65535 + 0.5).astype(np.uint16)[frame[..., :colours]]
    return np.concatenate([linear, frame[..., colours:]], axis=-1)


def _distance(quality: int) -> float:
    """Returns libjxl's distance for a quality of 1 to 100, by the formula of its own programs."""
    return 0.1 + (100 - quality) * 0.09 if quality >= 30 else 53 / 3000 * quality**2 - 23 / 20 * quality + 25
