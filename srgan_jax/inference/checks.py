"""What `upscale` and `upscale_tiled` are given: mistakes are told before JAX or NumPy trips over them."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from srgan_jax.images import Picture
from srgan_jax.runtime.errors import UserError
from srgan_jax.weights import Weights

MIN_VALUE, MAX_VALUE = -0.5, 1.5  # of floats in [0, 1]: resampling overshoots, but never by so much
SHAPES = {3: "[H, W, 3]", 4: "[N, H, W, 3]"}  # by the number of axes
WRONG_TYPES = (  # for an array: types, what they are, what to do
    ((str, os.PathLike), "a file's name", "srgan_jax.read_image(name).frames[0] reads it"),
    (Picture, "a Picture", "its array is picture.frames[0]"),
    ((Weights, Mapping), "weights", "they come first: upscale(params, img)"),
)


def checked_image(img: Any, as_array: Callable[[Any], Any], axes: tuple[int, ...]) -> Any:
    """`as_array(img)`, if that is RGB.

    Args:
      img: what the caller took for a picture. Of NumPy's arrays the values are looked at too; JAX's are not, since
        they may be traced, or still being computed.
      as_array: `jnp.asarray` or `np.asarray`.
      axes: how many there may be.

    Raises:
      UserError: no array, or one of another shape, dtype or range.
    """
    for types, found, hint in WRONG_TYPES:
        if isinstance(img, types):
            raise UserError(f"expected an array, got {found}; {hint}")
    array = as_array(img)
    if array.ndim not in axes or array.shape[-1] != 3:
        expected = " or ".join(SHAPES[count] for count in axes)
        raise UserError(f"expected RGB {expected}, got {array.shape}{_channels_hint(array.shape)}")
    if 0 in array.shape[-3:-1]:
        raise UserError(f"expected a picture, got {array.shape}, which has no pixels")
    if array.dtype != np.uint8 and not jnp.issubdtype(array.dtype, jnp.floating):
        hint = "; img / 65535 makes floats of it" if array.dtype == np.uint16 else ""
        raise UserError(f"expected uint8, or float in [0, 1], got {array.dtype}{hint}")
    if isinstance(img, np.ndarray) and img.dtype != np.uint8 and img.size:
        _check_range(float(img.min()), float(img.max()))
    return array


def _channels_hint(shape: tuple[int, ...]) -> str:
    if len(shape) == 2:
        return "; np.stack([img] * 3, axis=-1) makes gray RGB"
    if shape[-1:] == (1,):
        return "; np.repeat(img, 3, axis=-1) makes gray RGB"
    return "; img[..., :3] leaves out alpha" if shape[-1:] == (4,) else ""


def _check_range(low: float, high: float) -> None:
    if low < MIN_VALUE or high > MAX_VALUE:
        hint = "; img / 255 where 255 is white" if low >= 0 else ""
        raise UserError(f"expected floats in [0, 1], got {low:g} to {high:g}{hint}")
