"""How LR images come about from HR images, on the device: `(key, hr, scale=) -> lr`.

A new degradation is one function and one line in `DEGRADATIONS`.
"""

import jax

from srgan_jax import resize


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


DEGRADATIONS = {"bicubic": bicubic}
