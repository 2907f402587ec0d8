"""Picture quality, as papers on super-resolution measure it: per image, NHWC without N, jitted once per canvas size.

Pictures of different sizes share one compilation: lay them into one canvas and pass `size`, the true height and width.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from srgan_jax import color
from srgan_jax.errors import lookup

CHANNELS = {"y": color.rgb_to_y, "rgb": lambda rgb: rgb}
SSIM_WINDOW, SSIM_SIGMA = 11, 1.5


def _prepare(sr: jax.Array, hr: jax.Array, channel: str) -> tuple[jax.Array, jax.Array]:
    if sr.shape != hr.shape or sr.ndim != 3:
        raise ValueError(f"expected two pictures [H, W, 3] of one shape, got {sr.shape} and {hr.shape}")
    convert = lookup(CHANNELS, channel, "channel")
    return convert(sr), convert(hr)


def _masked_mean(values: jax.Array, border: int, size: tuple[int, int], window: int = 1) -> jax.Array:
    """Mean over the positions whose window lies in the picture of `size` without its `border`."""
    rows = jnp.arange(values.shape[0])[:, None, None]
    columns = jnp.arange(values.shape[1])[None, :, None]
    inside = (rows >= border) & (rows + window <= size[0] - border)
    inside &= (columns >= border) & (columns + window <= size[1] - border)
    return jnp.sum(jnp.where(inside, values, 0.0)) / (jnp.sum(inside) * values.shape[2])


@functools.partial(jax.jit, static_argnames=("border", "channel"))
def psnr(sr: jax.Array, hr: jax.Array, *, border: int = 0, channel: str = "y", size=None) -> jax.Array:
    """Peak signal-to-noise ratio in dB, peak 1 (that is 255 for 8 bits).

    Args:
      sr: `[H, W, 3]` RGB float in [0, 1].
      hr: the same shape.
      border: pixels left out at each side; papers leave out `scale`.
      channel: "y" (MATLAB's luma, not rounded) or "rgb".
      size: `(height, width)` of the picture in the top left of the arrays; None is all of them.

    Returns:
      A scalar; infinite for equal pictures.
    """
    x, y = _prepare(sr, hr, channel)
    error = _masked_mean(jnp.square(x - y), border, sr.shape[:2] if size is None else size)
    return -10.0 * jnp.log10(error)


@functools.partial(jax.jit, static_argnames=("border", "channel"))
def ssim(sr: jax.Array, hr: jax.Array, *, border: int = 0, channel: str = "y", size=None) -> jax.Array:
    """Structural similarity (Wang et al. 2004): 11 x 11 gaussian, sigma 1.5, only windows wholly inside.

    Arguments as for `psnr`; what is left of the picture within its border must be 11 x 11 or larger. RGB is the mean
    of the channels' values.

    Returns:
      A scalar in [-1, 1].
    """
    x, y = _prepare(sr, hr, channel)
    c1, c2 = 0.01**2, 0.03**2
    stack = jnp.concatenate([x, y, x * x, y * y, x * y], axis=-1)
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = jnp.split(_gaussian_filter(stack), 5, axis=-1)
    variances = mean_xx - mean_x**2 + mean_yy - mean_y**2
    covariance = mean_xy - mean_x * mean_y
    values = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    values /= (mean_x**2 + mean_y**2 + c1) * (variances + c2)
    return _masked_mean(values, border, sr.shape[:2] if size is None else size, SSIM_WINDOW)


def _gaussian_filter(x: jax.Array) -> jax.Array:
    """`[H, W, C]` to `[H - 10, W - 10, C]`; shifted sums, which are exact float32 on every device."""
    taps = np.exp(-0.5 * ((np.arange(SSIM_WINDOW) - SSIM_WINDOW // 2) / SSIM_SIGMA) ** 2)
    taps /= taps.sum()
    height, width = x.shape[0] - SSIM_WINDOW + 1, x.shape[1] - SSIM_WINDOW + 1
    x = sum(float(tap) * x[i : i + height] for i, tap in enumerate(taps))
    return sum(float(tap) * x[:, i : i + width] for i, tap in enumerate(taps))


METRICS = {  # (sr, hr, border=, size=) -> scalar
    "psnr_y": functools.partial(psnr, channel="y"),
    "psnr_rgb": functools.partial(psnr, channel="rgb"),
    "ssim_y": functools.partial(ssim, channel="y"),
}
