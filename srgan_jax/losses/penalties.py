"""Total variation, WGAN-GP's gradient penalty, and the statistics behind the terms `lattice` and `mesh`."""

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


def lattice_statistics(image: jax.Array, period: int = 4, block_px: int = 0) -> tuple[jax.Array, jax.Array]:
    """Returns the mean and the energy of high frequencies at each position of a lattice.

    Sub-pixel upsampling computes each position of the lattice by other kernels, so texture may be stronger, or pixels
    brighter, at some positions. In photographs the energies are equal, and the means are 0.

    Args:
      image: `[N, H, W, 3]` in [0, 1].
      period: side of the lattice in pixels, usually the scale.
      block_px: side of the blocks over which to average, a multiple of `period`; 0 averages over the whole batch.

    Returns:
      The mean and the mean square of luma minus its Gaussian blur with a standard deviation of 1 px. Each is
      `[period, period]`, or `[blocks, period, period]` with `block_px`.
    """
    high = _high_pass(image)
    block = (block_px or high.shape[1] // period * period, block_px or high.shape[2] // period * period)
    rows, columns = (side // part for side, part in zip(high.shape[1:], block, strict=True))
    cells = high[:, : rows * block[0], : columns * block[1]].reshape(
        -1, rows, block[0] // period, period, columns, block[1] // period, period
    )
    mean, energy = (values.mean(axis=(2, 5)).transpose(0, 1, 3, 2, 4) for values in (cells, jnp.square(cells)))
    mean, energy = (values.reshape(-1, period, period) for values in (mean, energy))
    return (mean, energy) if block_px else (mean.mean(axis=0), energy.mean(axis=0))


def _high_pass(image: jax.Array) -> jax.Array:
    """Returns luma minus a Gaussian blur with a standard deviation of 1 px, without 4 px at each border."""
    luma = color.rgb_to_y(image)[..., 0]
    taps = np.exp(-0.5 * np.arange(-4.0, 5.0) ** 2)
    taps /= taps.sum()
    blurred = luma
    for axis in (1, 2):
        length = blurred.shape[axis] - 8
        parts = [tap * jax.lax.slice_in_dim(blurred, i, i + length, axis=axis) for i, tap in enumerate(taps)]
        blurred = jnp.asarray(sum(parts))
    return luma[:, 4:-4, 4:-4] - blurred
