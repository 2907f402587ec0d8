"""Interpolation kernels: functions of the distance in samples, for NumPy and JAX arrays."""

from typing import TypeVar

import jax
import numpy as np

Array = TypeVar("Array", np.ndarray, jax.Array)


def cubic(x: Array) -> Array:
    """Returns Keys' cubic convolution kernel with a = -0.5, zero for distances of 2 or more (Keys 1981)."""
    xp = x.__array_namespace__()
    x = xp.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1.0
    far = -0.5 * x**3 + 2.5 * x**2 - 4.0 * x + 2.0
    return xp.where(x <= 1.0, near, xp.where(x <= 2.0, far, 0.0))


def triangle(x: Array) -> Array:
    """Returns the kernel of linear interpolation, zero for distances of 1 or more."""
    xp = x.__array_namespace__()
    return xp.maximum(1.0 - xp.abs(x), 0.0)


def box(x: Array) -> Array:
    """Returns the kernel of area averaging: 1 up to a distance of 0.5001 (not 0.5, as rounding could leave gaps)."""
    xp = x.__array_namespace__()
    return xp.where(xp.abs(x) < 0.5001, 1.0, 0.0)
