"""Value ranges and MATLAB's luma."""

from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

Array = TypeVar("Array", jax.Array, np.ndarray)


def to_signed(image: jax.Array) -> jax.Array:
    """Maps [0, 1] to [-1, 1], the range in which the SRGAN paper defines its losses."""
    return image * 2.0 - 1.0


def from_uint8(image: jax.Array | np.ndarray) -> jax.Array:
    """Converts uint8 to float32 in [0, 1]."""
    return jnp.asarray(image, jnp.float32) / 255.0


def to_uint8(image: jax.Array) -> jax.Array:
    """Converts floats in [0, 1] to uint8; clips, and rounds half up as MATLAB does."""
    return jnp.floor(jnp.clip(image, 0.0, 1.0) * 255.0 + 0.5).astype(jnp.uint8)


def quantize(image: jax.Array) -> jax.Array:
    """Clips floats to [0, 1] and rounds them to multiples of 1/255, as an 8-bit file does."""
    return jnp.floor(jnp.clip(image, 0.0, 1.0) * 255.0 + 0.5) / 255.0


def rgb_to_y(rgb: Array) -> Array:
    """Returns ITU-R BT.601 luma with studio swing, as MATLAB's `rgb2ycbcr` does for doubles (not rounded).

    Args:
      rgb: `[..., 3]` in [0, 1].

    Returns:
      `[..., 1]`, between 16/255 and 235/255.
    """
    red, green, blue = rgb[..., 0:1], rgb[..., 1:2], rgb[..., 2:3]
    return (65.481 * red + 128.553 * green + 24.966 * blue + 16.0) / 255.0  # no dot: it may run in bf16
