"""Losses of images or features. Each returns a value for each element or sample; the caller takes the mean."""

import jax
import jax.numpy as jnp


def _check_same_shape(predictions: jax.Array, targets: jax.Array) -> None:
    if predictions.shape != targets.shape:  # without this check, broadcasting would hide the error
        raise ValueError(f"expected arrays of equal shapes, got {predictions.shape} and {targets.shape}")


def mse(predictions: jax.Array, targets: jax.Array) -> jax.Array:
    """Returns the squared error, of the shape of both arguments."""
    _check_same_shape(predictions, targets)
    return jnp.square(predictions - targets)


def l1(predictions: jax.Array, targets: jax.Array) -> jax.Array:
    """Returns the absolute error, of the shape of both arguments."""
    _check_same_shape(predictions, targets)
    return jnp.abs(predictions - targets)


def charbonnier(predictions: jax.Array, targets: jax.Array, epsilon: float = 1e-3) -> jax.Array:
    """Returns `sqrt(error^2 + epsilon^2)`, a smooth L1 loss, of the shape of both arguments.

    Lai et al., LapSRN, arXiv 1704.03915.
    """
    _check_same_shape(predictions, targets)
    return jnp.sqrt(jnp.square(predictions - targets) + epsilon**2)


def psnr(predictions: jax.Array, targets: jax.Array, epsilon: float = 1e-3) -> jax.Array:
    """Returns the negative PSNR of each sample in dB, `10 log10((MSE + epsilon) / 4)`: the peak is 2, as on [-1, 1].

    The lower a sample's error, the larger its weight in the gradient, as for a mean of PSNRs (Chen et al., HINet, arXiv
    2105.06086). In evaluation, such a mean is over whole images. A crop is a part of an image, and epsilon replaces the
    error of the other parts. With epsilon 1e-3, which is 36 dB, the weight of a crop of 40 dB is 29 times that of a
    crop of 20 dB; with 0 it is 100 times that (RESULTS.md compares both).

    Args:
      predictions: `[N, H, W, C]`.
      targets: the same shape.
      epsilon: added to the mean squared error; 0 gives the exact PSNR, which is unbounded where a crop has no error.

    Returns:
      `[N]`.
    """
    error = mse(predictions, targets).mean(axis=(1, 2, 3))
    return 10.0 * jnp.log10((error + epsilon) / 4.0)


PIXEL = {"mse": mse, "l1": l1, "charbonnier": charbonnier, "psnr": psnr}
