"""Reading of images as 8-bit RGB arrays, which training and evaluation use."""

import os
from typing import BinaryIO

import numpy as np

from srgan_jax.images.decode import decode_image, frame_count
from srgan_jax.images.errors import ImageError
from srgan_jax.images.high_bit_depth import exceeds_8_bits, to_uint8
from srgan_jax.images.limits import MAX_PIXELS
from srgan_jax.images.pillow import open_image


def decode_rgb(file: str | os.PathLike | BinaryIO, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Returns the first frame of `decode_image` as 8-bit RGB.

    Gray is repeated to three channels, transparency is composited on white, and 16 bits are rounded to 8.

    Args:
      file: path or open binary file.
      max_pixels: largest number of pixels.

    Returns:
      `[H, W, 3]` uint8.

    Raises:
      ImageError: not an image, damaged, too large, or not readable.
    """
    frame = decode_image(file, max_pixels=max_pixels, first_frame=True).frames[0]
    frame = to_uint8(composite_on_white(frame) if frame.shape[-1] in (2, 4) else frame)
    return np.repeat(frame, 3, axis=-1) if frame.shape[-1] == 1 else frame


def read_rgb(path: str | os.PathLike) -> np.ndarray:
    """Returns `decode_rgb` of a file; error messages begin with its path."""
    try:
        return decode_rgb(path)
    except ImageError as error:
        raise ImageError(f"{os.fspath(path)}: {error}") from None


def composite_on_white(frame: np.ndarray) -> np.ndarray:
    """Composites `[H, W, 2 or 4]` on white; returns `[H, W, 1 or 3]` of the same dtype."""
    largest = np.iinfo(frame.dtype).max
    colour, alpha = frame[..., :-1].astype(np.float64), frame[..., -1:] / largest
    return np.floor(colour * alpha + largest * (1.0 - alpha) + 0.5).astype(frame.dtype)


def conversion(path: str | os.PathLike) -> str:
    """Returns a short description of what `decode_rgb` converts: "CMYK", "first of 12 frames"; "" for 8-bit RGB."""
    try:
        with open_image(path) as image:
            kinds = {"L": "gray", "1": "gray", "P": "palette", "RGB": "", "RGBA": "alpha", "LA": "gray, alpha"}
            kind = "gray" if image.mode.startswith("I") else kinds.get(image.mode, image.mode)
            conversions = ["16 bits"] * (exceeds_8_bits(image) or image.mode.startswith("I")) + [kind] * bool(kind)
            frames = frame_count(path, image)
            return ", ".join(conversions + [f"first of {frames} frames"] * (frames > 1))
    except Exception:  # Pillow's plug-ins raise exceptions of many types; decoding the file reports the reason
        return ""
