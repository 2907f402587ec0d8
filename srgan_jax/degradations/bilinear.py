"""A degradation of antialiased bilinear shrinking."""

import jax
import numpy as np

from srgan_jax.degradations import filters
from srgan_jax.ops import color
from srgan_jax.ops.resize_uint8 import resize_uint8


def bilinear(key: jax.Array, hr: jax.Array, *, scale: int, levels: float = 255.0) -> jax.Array:
    """Returns `hr` after bilinear shrinking with the kernel widened by the scale, as Pillow does.

    Args:
      key: unused; this degradation is deterministic.
      hr: `[H, W, C]` in [0, 1].
      scale: HR pixels per LR pixel.
      levels: LR is rounded to multiples of 1/levels; 65535 for 16-bit data.

    Returns:
      `[H / scale, W / scale, C]` in [0, 1], multiples of 1/levels.
    """
    del key
    rows, columns = (filters.resize_matrix("bilinear", side, side // scale, 1.0 / scale) for side in hr.shape[:2])
    return color.quantize(filters.apply_matrices(rows, columns, hr), levels)


def bilinear_radius_px(*, scale: int, levels: float = 255.0) -> int:
    """Returns the HR pixels around a crop that LR depends on: the radius of the widened kernel."""
    del levels
    return scale


def bilinear_of_original(original: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns `original [H, W, 3]` uint8, shrunk to `size`."""
    return resize_uint8(original, size, "bilinear")
