"""Images of any number of bands, 8 or 16 bits: what a data set holds, and what a network of such channels upscales."""

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


def decode_bands(
    file: str | os.PathLike | BinaryIO, channels: int = 3, bits: int = 8, *, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """Returns the first frame of an image with this number of bands.

    For three bands gray is repeated, for one band RGB becomes luma, and for both transparency is composited on white.
    Otherwise the file has exactly these bands: the fourth may be PNG's alpha.

    Args:
      file: path or open binary file.
      channels: number of bands.
      bits: 8 or 16 per sample, to which the others are rounded or spread; 0 for those of the file.
      max_pixels: largest number of pixels.

    Returns:
      `[H, W, channels]` uint8 or uint16.

    Raises:
      ImageError: not an image, damaged, too large, or with other bands.
    """
    if channels == 3 and bits == 8:
        return decode_rgb(file, max_pixels=max_pixels)
    frame = _all_bands(file, max_pixels) if channels not in (1, 3) else _colours(file, channels, max_pixels)
    if frame.shape[-1] != channels:
        raise ImageError(f"{frame.shape[-1]} bands, expected {channels}")
    if bits == 0:
        return frame
    return high_bit_depth.to_uint8(frame) if bits == 8 else high_bit_depth.to_uint16(frame)


def read_bands(path: str | os.PathLike, channels: int = 3, bits: int = 8) -> np.ndarray:
    """Returns `decode_bands` of a file; error messages begin with its path."""
    try:
        return decode_bands(path, channels, bits)
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
