"""Images as 8-bit RGB arrays, the form that training and evaluation use: a reduction of what `decode_picture` gives."""

import os
from typing import BinaryIO

import numpy as np

from srgan_jax.images.decode import MAX_PIXELS, decode_picture, is_deep, open_picture
from srgan_jax.images.errors import ImageError


def decode_rgb(file: str | os.PathLike | BinaryIO, *, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """The first frame of `decode_picture` as 8-bit RGB, the form that training and evaluation use.

    Gray is repeated, transparency laid on white, 16 bits are rounded to 8.

    Args:
      file: path or open binary file.
      max_pixels: refuse larger pictures.

    Returns:
      `[H, W, 3]` uint8.

    Raises:
      ImageError: not a picture, damaged, too large, or not readable.
    """
    frame = decode_picture(file, max_pixels=max_pixels, first_frame=True).frames[0]
    frame = to_uint8(on_white(frame) if frame.shape[-1] in (2, 4) else frame)
    return np.repeat(frame, 3, axis=-1) if frame.shape[-1] == 1 else frame


def read_rgb(path: str | os.PathLike) -> np.ndarray:
    """`decode_rgb` of a file, with its path in the error message."""
    try:
        return decode_rgb(path)
    except ImageError as error:
        raise ImageError(f"{os.fspath(path)}: {error}") from None


def to_uint8(frame: np.ndarray) -> np.ndarray:
    """uint16 samples rounded to 8 bits; uint8 as they are."""
    return np.floor(frame / 257.0 + 0.5).astype(np.uint8) if frame.dtype == np.uint16 else frame


def on_white(frame: np.ndarray) -> np.ndarray:
    """`[H, W, 2 or 4]` laid on white: `[H, W, 1 or 3]`, same dtype."""
    largest = np.iinfo(frame.dtype).max
    colour, alpha = frame[..., :-1].astype(np.float64), frame[..., -1:] / largest
    return np.floor(colour * alpha + largest * (1.0 - alpha) + 0.5).astype(frame.dtype)


def conversion(path: str | os.PathLike) -> str:
    """What `decode_rgb` changes in a file, in a few words: "CMYK", "first of 12 frames"; "" for 8-bit RGB."""
    try:
        with open_picture(path) as image:
            kinds = {"L": "gray", "1": "gray", "P": "palette", "RGB": "", "RGBA": "alpha", "LA": "gray, alpha"}
            kind = "gray" if image.mode.startswith("I") else kinds.get(image.mode, image.mode)
            found = ["16 bits"] * (is_deep(image) or image.mode.startswith("I")) + [kind] * bool(kind)
            frames = getattr(image, "n_frames", 1)
            return ", ".join(found + [f"first of {frames} frames"] * (frames > 1))
    except Exception:  # Pillow's plug-ins raise nearly everything; whoever decodes it says why
        return ""
