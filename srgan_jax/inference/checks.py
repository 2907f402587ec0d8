"""Input checks of `upscale` and `upscale_tiled`, with error messages that state the fix."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from srgan_jax.images import Picture
from srgan_jax.runtime.errors import UserError
from srgan_jax.weights import Weights


class NonFiniteError(UserError):
    """SR of an image has values that aren't finite."""

    def __init__(self, name: str):
        super().__init__(f"{name} gave values that aren't finite for this image; the result would be black there")


MIN_VALUE, MAX_VALUE = -0.5, 1.5  # accepted floats: resampling overshoots [0, 1] by less
SHAPES = {3: "[H, W, 3]", 4: "[N, H, W, 3]"}  # by number of axes
WRONG_TYPES = (  # passed in place of an array: types, their description, the fix
    ((str, os.PathLike), "a file name", "srgan_jax.read_image(name).frames[0] reads it"),
    (Picture, "a Picture", "its array is picture.frames[0]"),
    ((Weights, Mapping), "weights", "they are the first argument: upscale(params, img)"),
)


def check_is_array(img: Any) -> None:
    """Raises UserError if `img` is a file name, a `Picture` or weights, passed in place of an array."""
    for types, found, hint in WRONG_TYPES:
        if isinstance(img, types):
            raise UserError(f"expected an array, got {found}; {hint}")


def checked_image(img: Any, as_array: Callable[[Any], Any], axes: tuple[int, ...], channels: int = 3) -> Any:
    """Returns `as_array(img)` if it is an image of the generator's channels, by default RGB.

    Args:
      img: the argument to check. The range is checked for NumPy arrays only: a JAX array may be traced, or still being
        computed.
      as_array: `jnp.asarray` or `np.asarray`.
      axes: the valid numbers of axes.
      channels: of the generator.

    Raises:
      UserError: `img` is not an array, or has another shape, dtype or range.
    """
    check_is_array(img)
    array = as_array(img)
    if array.ndim not in axes or array.shape[-1] != channels:
        expected = " or ".join(SHAPES[count] for count in axes).replace("3]", f"{channels}]")
        hint = _channels_hint(array.shape) if channels == 3 else ""
        raise UserError(f"expected {'RGB ' * (channels == 3)}{expected}, got {array.shape}{hint}")
    if 0 in array.shape[-3:-1]:
        raise UserError(f"expected an image, got {array.shape}, which has no pixels")
    if array.dtype != np.uint8 and not jnp.issubdtype(array.dtype, jnp.floating):
        hint = "; img / 65535 converts it to float" if array.dtype == np.uint16 else ""
        raise UserError(f"expected uint8, or float in [0, 1], got {array.dtype}{hint}")
    if isinstance(img, np.ndarray) and img.dtype != np.uint8 and img.size:
        _check_range(float(img.min()), float(img.max()))
    return array


def _channels_hint(shape: tuple[int, ...]) -> str:
    if len(shape) == 2:
        return "; np.stack([img] * 3, axis=-1) converts gray to RGB"
    if shape[-1:] == (1,):
        return "; np.repeat(img, 3, axis=-1) converts gray to RGB"
    return "; img[..., :3] drops alpha" if shape[-1:] == (4,) else ""


def _check_range(low: float, high: float) -> None:
    if low < MIN_VALUE or high > MAX_VALUE:
        hint = "; if 255 is white, pass img / 255" if low >= 0 else ""
        raise UserError(f"expected floats in [0, 1], got {low:g} to {high:g}{hint}")
