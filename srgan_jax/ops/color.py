"""Value ranges and MATLAB's luma."""

from typing import TypeVar

import jax
import jax.numpy as jnp
import numpy as np

Array = TypeVar("Array", jax.Array, np.ndarray)
DType = np.dtype | type[np.generic]


def to_signed(image: jax.Array) -> jax.Array:
    """Maps [0, 1] to [-1, 1], the range in which the SRGAN paper defines its losses."""
    return image * 2.0 - 1.0


def levels_of(dtype: DType) -> float:
    """Returns the largest value of an image's integers, which stands for 1: 255 of uint8, 65535 of uint16."""
    return float(np.iinfo(dtype).max)


def from_integers(image: jax.Array | np.ndarray) -> jax.Array:
    """Converts uint8 or uint16 to float32 in [0, 1]."""
    return jnp.asarray(image, jnp.float32) / levels_of(image.dtype)


def to_integers(image: jax.Array, dtype: DType) -> jax.Array:
    """Converts floats in [0, 1] to uint8 or uint16; clips, and rounds half up as MATLAB does."""
    return jnp.floor(jnp.clip(image, 0.0, 1.0) * levels_of(dtype) + 0.5).astype(dtype)


def to_uint8(image: jax.Array) -> jax.Array:
    """Converts floats in [0, 1] to uint8; clips, and rounds half up as MATLAB does."""
    return to_integers(image, np.uint8)


def quantize(image: jax.Array, levels: float = 255.0) -> jax.Array:
    """Clips floats to [0, 1] and rounds them to multiples of 1/levels: by default as an 8-bit file does."""
    return jnp.floor(jnp.clip(image, 0.0, 1.0) * levels + 0.5) / levels


def rgb_to_y(rgb: Array) -> Array:
    """Returns ITU-R BT.601 luma with studio swing, as MATLAB's `rgb2ycbcr` does for doubles (not rounded).

    Args:
      rgb: `[..., 3]` in [0, 1].

    Returns:
      `[..., 1]`, between 16/255 and 235/255.

    Raises:
      ValueError: the image has another number of channels.
    """
    if rgb.shape[-1] != 3:
        raise ValueError(f"luma: expected RGB, got {rgb.shape[-1]} channels")
    red, green, blue = rgb[..., 0:1], rgb[..., 1:2], rgb[..., 2:3]
    return (65.481 * red + 128.553 * green + 24.966 * blue + 16.0) / 255.0  # no dot: it may run in bf16
