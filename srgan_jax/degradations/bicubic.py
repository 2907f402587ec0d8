"""MATLAB's bicubic: what the classic test sets and papers use."""

import jax

from srgan_jax.ops import resize


def bicubic(key: jax.Array, hr: jax.Array, *, scale: int) -> jax.Array:
    """MATLAB's bicubic by convention A, rounded to 8 bits: what the classic test sets and papers use.

    Args:
      key: unused, nothing is random here.
      hr: `[H, W, 3]` in [0, 1].
      scale: shrinking factor.

    Returns:
      `[H / scale, W / scale, 3]` in [0, 1].
    """
    del key
    return resize.downscale(hr, scale, convention="A")


def bicubic_radius_px(*, scale: int) -> int:
    """8 at x4."""
    return resize.kernel_radius_px(scale)
