"""Losses without a target: total variation and WGAN-GP's gradient penalty."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from srgan_jax.ops import color


def total_variation(image: jax.Array) -> jax.Array:
    """Returns the norm of the forward-difference gradient at each pixel (SRGAN's regulariser, arXiv 1609.04802v2).

    Args:
      image: `[N, H, W, C]`.

    Returns:
      `[N, H - 1, W - 1, C]`.
    """
    down = image[:, 1:, :-1] - image[:, :-1, :-1]
    right = image[:, :-1, 1:] - image[:, :-1, :-1]
    return jnp.sqrt(jnp.square(down) + jnp.square(right) + 1e-12)  # the gradient of sqrt is infinite at 0


def gradient_penalty(
    critic: Callable[[jax.Array], jax.Array], real: jax.Array, fake: jax.Array, keys: jax.Array
) -> jax.Array:
    """Returns WGAN-GP's penalty `(|gradient of D| - 1)^2` (arXiv 1704.00028, equation 3).

    The gradient is taken at random interpolations between real and generated images.

    Args:
      critic: `images -> [N, ...]` logits; the mean of a map is used.
      real: `[N, H, W, 3]` in [0, 1]; the gradient is with respect to values in [-1, 1].
      fake: the same shape and range.
      keys: `[N]` random keys, one for each interpolation.

    Returns:
      `[N]`.
    """
    fraction = jax.vmap(lambda key: jax.random.uniform(key, (1, 1, 1)))(keys)

    def logit_sum(image):
        logits = critic(image)
        return logits.reshape(len(logits), -1).mean(axis=1).sum()

    mixed = fraction * real + (1.0 - fraction) * fake
    gradient = jax.grad(logit_sum)(mixed) / 2.0  # from [0, 1] to [-1, 1], which is twice as wide
    return jnp.square(jnp.sqrt(jnp.square(gradient).sum(axis=(1, 2, 3)) + 1e-12) - 1.0)


def lattice_statistics(image: jax.Array, period: int = 4) -> tuple[jax.Array, jax.Array]:
    """Returns the mean and the energy of high frequencies at each position of a lattice, averaged over a batch.

    Sub-pixel upsampling by a factor makes each of its positions by other kernels, so that texture may be stronger at
    some of them, or brighter. In photographs the energies are equal, and the means 0.

    Args:
      image: `[N, H, W, 3]` in [0, 1].
      period: of the lattice, usually the scale.

    Returns:
      Mean and mean square, each `[period, period]`, of luma minus a Gaussian blur with a standard deviation of 1 px.
    """
    luma = color.rgb_to_y(image)[..., 0]
    taps = np.exp(-0.5 * np.arange(-4.0, 5.0) ** 2)
    taps /= taps.sum()
    blurred = luma
    for axis in (1, 2):
        length = blurred.shape[axis] - 8
        parts = [tap * jax.lax.slice_in_dim(blurred, i, i + length, axis=axis) for i, tap in enumerate(taps)]
        blurred = jnp.asarray(sum(parts))
    high = luma[:, 4:-4, 4:-4] - blurred
    rows, columns = (side // period for side in high.shape[1:])
    blocks = high[:, : rows * period, : columns * period].reshape(-1, rows, period, columns, period)
    return blocks.mean(axis=(0, 1, 3)), jnp.square(blocks).mean(axis=(0, 1, 3))
