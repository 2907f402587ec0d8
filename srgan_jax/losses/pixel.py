"""Losses over images or features: a value for each element or each sample, of which the caller takes the mean."""

import jax
import jax.numpy as jnp


def _check_same_shape(predictions: jax.Array, targets: jax.Array) -> None:
    if predictions.shape != targets.shape:  # broadcasting would hide the mistake
        raise ValueError(f"shape mismatch: got {predictions.shape} and {targets.shape}")


def mse(predictions: jax.Array, targets: jax.Array) -> jax.Array:
    """Squared error, same shape as both arguments."""
    _check_same_shape(predictions, targets)
    return jnp.square(predictions - targets)


def l1(predictions: jax.Array, targets: jax.Array) -> jax.Array:
    """Absolute error, same shape as both arguments."""
    _check_same_shape(predictions, targets)
    return jnp.abs(predictions - targets)


def charbonnier(predictions: jax.Array, targets: jax.Array, epsilon: float = 1e-3) -> jax.Array:
    """`sqrt(error^2 + epsilon^2)`, a smooth L1 (Lai et al., LapSRN, arXiv 1704.03915), same shape as both arguments."""
    _check_same_shape(predictions, targets)
    return jnp.sqrt(jnp.square(predictions - targets) + epsilon**2)


def psnr(predictions: jax.Array, targets: jax.Array, epsilon: float = 1e-3) -> jax.Array:
    """Minus the PSNR of each sample in dB, with a peak of 2 as on [-1, 1]: `10 log10((MSE + epsilon) / 4)`.

    It weighs a sample by how well it is known already, as a mean of PSNRs does (Chen et al., HINet, arXiv 2105.06086).
    Such means are over pictures, of which a crop is a part: epsilon stands for the rest. With 1e-3, which are 36 dB, a
    crop of 40 dB weighs 29 times as much as one of 20 dB instead of 100 times (compared in RESULTS.md).

    Args:
      predictions: `[N, H, W, C]`.
      targets: the same shape.
      epsilon: added to the mean squared error; 0 gives the PSNR itself, without bounds where a crop is of one colour.

    Returns:
      `[N]`.
    """
    error = mse(predictions, targets).mean(axis=(1, 2, 3))
    return 10.0 * jnp.log10((error + epsilon) / 4.0)


PIXEL = {"mse": mse, "l1": l1, "charbonnier": charbonnier, "psnr": psnr}
