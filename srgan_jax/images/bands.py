"""Images of any number of bands, 8 or 16 bits: what a data set holds, and what a network of such channels upscales."""

import dataclasses
import os
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np

from srgan_jax.images import high_bit_depth, isolation
from srgan_jax.images.decode import decode_image
from srgan_jax.images.encode import encode_png, encode_still
from srgan_jax.images.errors import ImageError
from srgan_jax.images.limits import MAX_PIXELS, MAX_SECONDS
from srgan_jax.images.picture import Picture
from srgan_jax.images.pillow import kind_of_path
from srgan_jax.images.rgb import composite_on_white, decode_rgb
from srgan_jax.images.tiff_reader import tiff_contents

PNG_BANDS = 4  # the most bands of a PNG; more are encoded as TIFF
LUMA = (0.299, 0.587, 0.114)  # of RGB, for one band


@dataclasses.dataclass(frozen=True)
class Bands:
    """What images hold; `str` describes it: "8-bit RGB", "16-bit gray", "16-bit images of 4 bands".

    Attributes:
      count: number of bands.
      bits: 8 or 16 per sample; for reading also 0, those of the file.
    """

    count: int = 3
    bits: int = 8

    def __str__(self) -> str:
        colours = {1: "gray", 3: "RGB"}.get(self.count)
        return f"{self.bits}-bit {colours or f'images of {self.count} bands'}"


RGB = Bands()


def decode_bands(file: str | os.PathLike | BinaryIO, bands: Bands = RGB, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Returns the first frame of an image with these bands.

    For three bands gray is repeated, for one band RGB becomes luma, and for both transparency is composited on white.
    Otherwise the file has exactly these bands: the fourth may be PNG's alpha.

    Args:
      file: path or open binary file.
      bands: their number, and the bits to which samples are rounded or spread.
      max_pixels: largest number of pixels.

    Returns:
      `[H, W, bands.count]` uint8 or uint16.

    Raises:
      ImageError: not an image, damaged, too large, or with other bands.
    """
    if bands == RGB:
        return decode_rgb(file, max_pixels=max_pixels)
    frame = _all_bands(file, max_pixels) if bands.count not in (1, 3) else _colours(file, bands.count, max_pixels)
    if frame.shape[-1] != bands.count:
        raise ImageError(f"{frame.shape[-1]} bands, expected {bands.count}")
    if bands.bits == 0:
        return frame
    return high_bit_depth.to_uint8(frame) if bands.bits == 8 else high_bit_depth.to_uint16(frame)


def read_bands(path: str | os.PathLike, bands: Bands = RGB) -> np.ndarray:
    """Returns `decode_bands` of a file; error messages begin with its path."""
    try:
        return decode_bands(path, bands)
    except ImageError as error:
        raise ImageError(f"{os.fspath(path)}: {error}") from None


def _colours(file: str | os.PathLike | BinaryIO, channels: int, max_pixels: int) -> np.ndarray:
    """Returns one or three bands in the depth of the file."""
    frame = decode_image(file, max_pixels=max_pixels, first_frame=True).frames[0]
    frame = composite_on_white(frame) if frame.shape[-1] in (2, 4) else frame
    if frame.shape[-1] == channels:
        return frame
    if channels == 3:
        return np.repeat(frame, 3, axis=-1)
    return np.floor(frame @ np.asarray(LUMA)[:, None] + 0.5).astype(frame.dtype)


def _all_bands(file: str | os.PathLike | BinaryIO, max_pixels: int) -> np.ndarray:
    if kind_of_path(file).name != "TIFF":
        return decode_image(file, max_pixels=max_pixels, first_frame=True).frames[0]
    return isolation.call(MAX_SECONDS, max_pixels, _tiff_bands, file, max_pixels)


def _tiff_bands(file: str | os.PathLike | BinaryIO, max_pixels: int) -> np.ndarray:
    with tiff_contents(file, max_pixels) as contents:
        return high_bit_depth.tiff_bands(contents.pages[0][1])


def visible(image: np.ndarray) -> np.ndarray:
    """Returns an image of any bands as 8-bit RGB to look at: gray for one or two bands, the first three of more."""
    bands = image[..., :3] if image.shape[-1] >= 3 else image[..., :1].repeat(3, axis=-1)
    return high_bit_depth.to_uint8(bands)


def encode_bands(image: np.ndarray) -> bytes:
    """Returns `[H, W, C]` uint8 or uint16 as the bytes of a PNG, or for more than four bands of a TIFF."""
    if image.shape[-1] <= PNG_BANDS:
        is_8_bit = image.dtype == np.uint8
        plain = image[..., 0] if image.shape[-1] == 1 else image
        return encode_png(plain) if is_8_bit else encode_still(Picture((image,)), ".png", 95)
    buffer = BytesIO()
    write_bands(buffer, image)
    return buffer.getvalue()


def write_bands(file: str | os.PathLike | BinaryIO, image: np.ndarray) -> None:
    """Writes `[H, W, C]` uint8 or uint16 as a TIFF of C gray bands, or as a PNG if the file name ends in `.png`."""
    from tifffile import imwrite

    if isinstance(file, str | os.PathLike) and os.fspath(file).lower().endswith(".png"):
        Path(file).write_bytes(encode_bands(image))
        return

    options = {"photometric": "minisblack", "planarconfig": "contig", "metadata": None}
    imwrite(file, image, compression="zlib", predictor=True, **options)
