"""Decoding of images that Pillow truncates to 8 bits or can't read: 16-bit PNGs and TIFFs, rare kinds of TIFF."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np
from PIL import Image, ImageFile, TiffImagePlugin

from srgan_jax.images.errors import ImageError
from srgan_jax.images.files import read_bytes

if TYPE_CHECKING:
    from tifffile import TiffPage
BAND_PX = 256  # rows that are converted at a time


def png_pixels(file: str | os.PathLike | BinaryIO, orientation: int) -> np.ndarray:
    """Returns a PNG as `[H, W, C]` uint16, with the EXIF orientation applied."""
    from imagecodecs import png_decode

    pixels = png_decode(read_bytes(file))
    return upright(pixels if pixels.ndim == 3 else pixels[..., None], orientation)


def unify_bit_depth(frames: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Converts all frames to 16 bits if one of them has 16 bits."""
    has_16_bits = any(frame.dtype == np.uint16 for frame in frames)
    return tuple(map(to_uint16, frames) if has_16_bits else frames)


def orientation(page: "TiffPage") -> int:
    """Returns the orientation of a TIFF page, 1 to 8 as in EXIF."""
    tag = page.tags.get(274)
    return int(tag.value) if tag else 1


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Returns the array with the EXIF orientation 1 to 8 applied."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _samples(page: Any) -> np.ndarray:
    """Returns the samples of a page as `[H, W, C]`; raises ImageError for a page without samples."""
    pixels = page.asarray()
    if not pixels.size:
        raise ImageError("damaged TIFF: a page without samples")
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    return np.moveaxis(pixels, 0, -1) if int(page.planarconfig or 1) == 2 else pixels  # 2: separate planes


def tiff_pixels(page: Any) -> np.ndarray:
    """Returns a page as `[H, W, C]` uint16, with its orientation applied."""
    photometric = page.photometric.name
    colours = {"MINISBLACK": 1, "MINISWHITE": 1, "RGB": 3}.get(photometric)
    if colours is None or page.ndim not in (2, 3):
        raise ImageError(f"TIFF with photometric {photometric} and more than 8 bits; expected gray or RGB")
    pixels = _samples(page)
    alpha = pixels.shape[-1] > colours and page.extrasamples and page.extrasamples[0].name != "UNSPECIFIED"
    premultiplied = alpha and page.extrasamples[0].name == "ASSOCALPHA"
    converted = np.empty((*pixels.shape[:2], colours + bool(alpha)), np.uint16)
    for top in range(0, len(pixels), BAND_PX):  # those of a whole image would take several times its bytes
        band = to_uint16(pixels[top : top + BAND_PX], page.bitspersample)
        if photometric == "MINISWHITE":
            band = 65535 - band
        if premultiplied:
            opacity = np.maximum(band[..., colours : colours + 1], 1) / 65535.0
            band[..., :colours] = np.minimum(band[..., :colours] / opacity + 0.5, 65535).astype(np.uint16)
        converted[top : top + BAND_PX] = band[..., : colours + bool(alpha)]
    return upright(converted, orientation(page))


def tiff_bands(page: Any) -> np.ndarray:
    """Returns all samples of a page as `[H, W, C]` uint8 or uint16, upright, whatever they stand for."""
    pixels = _samples(page)
    pixels = pixels if pixels.dtype == np.uint8 else to_uint16(pixels, page.bitspersample)
    return upright(pixels, orientation(page))


def to_uint8(frame: np.ndarray) -> np.ndarray:
    """Rounds uint16 samples to 8 bits; returns uint8 samples unchanged."""
    return np.floor(frame / 257.0 + 0.5).astype(np.uint8) if frame.dtype == np.uint16 else frame


def to_uint16(samples: np.ndarray, bits: int = 16) -> np.ndarray:
    """Converts samples to 16 bits: floats from [0, 1], integers from the range of their `bits`."""
    if samples.dtype == np.uint16 and 8 < bits < 16:
        return (samples.astype(np.uint32) * 65535 // (2**bits - 1)).astype(np.uint16)
    if samples.dtype == np.uint16:
        return samples
    if samples.dtype == np.uint8:
        return samples.astype(np.uint16) * np.uint16(257)
    if samples.dtype == np.uint32:
        if 16 < bits < 32:  # tifffile reads the two byte orders in different ways
            raise ImageError(f"{bits} bits per sample; expected 16 or 32")
        return (samples >> 16).astype(np.uint16)
    if samples.dtype.kind == "f" and np.isfinite(samples).all() and samples.min() >= 0 and samples.max() <= 1:
        return np.floor(samples.astype(np.float64) * 65535.0 + 0.5).astype(np.uint16)  # float16 ends at 65504
    raise ImageError(
        f"{samples.dtype} samples from {samples.min()} to {samples.max()}; "
        "expected uint8, uint16, uint32, or floats in [0, 1]"
    )


def exceeds_8_bits(image: Image.Image) -> bool:
    """Returns whether Pillow would truncate the samples to 8 bits or misread them.

    Pillow supports 16 bits for gray without alpha only.
    """
    if image.format == "PNG":
        tiles = cast(ImageFile.ImageFile, image).tile
        args = tiles[0].args if tiles else ""
        return "16" in str(args) and (image.mode[0] != "I" or "transparency" in image.info)
    if image.format == "TIFF":
        bits = _tags(image).get(258, (8,))
        bits = max(bits if isinstance(bits, tuple) else (bits,))
        native_16_bit = image.mode.startswith("I;16") and bits == 16 and _tags(image).get(262) == 1  # black is zero
        return bits > 8 and not native_16_bit
    return False


def _tags(image: Image.Image) -> TiffImagePlugin.ImageFileDirectory_v2:
    """Returns the tags of a TIFF that Pillow opened."""
    return cast(TiffImagePlugin.TiffImageFile, image).tag_v2
