"""The bicubic degradation of MATLAB's `imresize`, which the standard test sets use."""

import jax
import numpy as np

from srgan_jax.ops import resize
from srgan_jax.ops.resize_uint8 import resize_uint8


def bicubic(key: jax.Array, hr: jax.Array, *, scale: int, levels: float = 255.0) -> jax.Array:
    """Returns `hr` shrunk as by MATLAB's `imresize` (convention A of `ops.resize`) and rounded to 8 bits.

    Args:
      key: unused; this degradation is deterministic.
      hr: `[H, W, C]` in [0, 1].
      scale: HR pixels per LR pixel.
      levels: LR is rounded to multiples of 1/levels; 65535 for 16-bit data.

    Returns:
      `[H / scale, W / scale, C]` in [0, 1].
    """
    del key
    return resize.downscale(hr, scale, convention="A", levels=levels)


def bicubic_radius_px(*, scale: int, levels: float = 255.0) -> int:
    """Returns the HR pixels around a crop that LR depends on: 8 at x4."""
    del levels
    return resize.kernel_radius_px(scale)


def bicubic_of_original(original: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns `original [H, W, 3]` uint8, shrunk to `size`."""
    return resize_uint8(original, size, "bicubic")
