"""A degradation of Gaussian blur and bilinear shrinking."""

import jax
import numpy as np

from srgan_jax.degradations import filters
from srgan_jax.ops import color
from srgan_jax.ops.resize_uint8 import blur_uint8, resize_uint8


def gaussian_blur(
    key: jax.Array, hr: jax.Array, *, scale: int, size_px: int = 5, sigma_px: float = 4.0, antialias: bool = False,
    levels: float = 255.0,
) -> jax.Array:  # fmt: skip
    """Returns `hr` after Gaussian blur and bilinear shrinking.

    Args:
      key: unused; this degradation is deterministic.
      hr: `[H, W, C]` in [0, 1].
      scale: HR pixels per LR pixel.
      size_px: side of the blur kernel in HR pixels, odd.
      sigma_px: std of the blur in HR pixels.
      antialias: True widens the bilinear kernel by the scale; False reads two samples per axis, as OpenCV does.
      levels: LR is rounded to multiples of 1/levels; 65535 for 16-bit data.

    Returns:
      `[H / scale, W / scale, C]` in [0, 1], multiples of 1/levels.
    """
    del key
    size = (hr.shape[0] // scale, hr.shape[1] // scale)
    rows, columns = (
        filters.resize_matrix("bilinear", before, after, 1.0 / scale, antialias=antialias)
        @ filters.gaussian_matrix(before, sigma_px, size_px // 2)
        for before, after in zip(hr.shape[:2], size, strict=True)
    )
    return color.quantize(filters.apply_matrices(rows, columns, hr), levels)


def gaussian_blur_radius_px(
    *, scale: int, size_px: int = 5, sigma_px: float = 4.0, antialias: bool = False, levels: float = 255.0
) -> int:
    """Returns the HR pixels around a crop that LR depends on: the radii of the blur and of the shrinking kernel."""
    del sigma_px, levels
    return size_px // 2 + (scale if antialias else 1)


def gaussian_blur_of_original(
    original: np.ndarray, size: tuple[int, int], *, size_px: int = 5, sigma_px: float = 4.0, antialias: bool = False
) -> np.ndarray:
    """Returns `original [H, W, 3]` uint8, blurred in its own size and then shrunk to `size`."""
    return resize_uint8(blur_uint8(original, size_px, sigma_px), size, "bilinear" if antialias else "bilinear_opencv")
