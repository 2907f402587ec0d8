"""Full-reference metrics: PSNR, SSIM and MS-SSIM of Wang et al., and the SSIM of daala."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from srgan_jax.evaluation.metrics.common import Size, filter_separable, masked_mean, prepare, valid_mask

WINDOW, SIGMA = 11, 1.5  # the Gaussian window of Wang et al. 2004
C1, C2 = 0.01**2, 0.03**2
MS_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # Wang, Simoncelli & Bovik 2003, from fine to coarse


@functools.partial(jax.jit, static_argnames=("border", "channel"))
def psnr(sr: jax.Array, hr: jax.Array, *, border: int = 0, channel: str = "y", size: Size = None) -> jax.Array:
    """Computes the peak signal-to-noise ratio in dB, for the peak 1 (255 in 8 bits).

    Args:
      sr: `[H, W, 3]` RGB float in [0, 1].
      hr: array of the same shape.
      border: pixels ignored at each side; papers ignore `scale` pixels.
      channel: a name in `common.CHANNELS`.
      size: `(height, width)` of the image in the top left of the arrays; None for the whole arrays.

    Returns:
      A scalar; infinite for equal images.
    """
    x, y = prepare(sr, hr, channel)
    return -10.0 * jnp.log10(masked_mean(jnp.square(x - y), valid_mask(x.shape, border, size or x.shape[:2])))


def _gaussian() -> np.ndarray:
    taps = np.exp(-0.5 * ((np.arange(WINDOW) - WINDOW // 2) / SIGMA) ** 2)
    return taps / taps.sum()


def _similarity(x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns luminance and contrast-structure of each valid window, `[H - 10, W - 10, C]`."""
    moments = filter_separable(jnp.concatenate([x, y, x * x, y * y, x * y], axis=-1), _gaussian())
    mean_x, mean_y, mean_xx, mean_yy, mean_xy = jnp.split(moments, 5, axis=-1)
    luminance = (2 * mean_x * mean_y + C1) / (mean_x**2 + mean_y**2 + C1)
    covariance = mean_xy - mean_x * mean_y
    return luminance, (2 * covariance + C2) / (mean_xx - mean_x**2 + mean_yy - mean_y**2 + C2)


@functools.partial(jax.jit, static_argnames=("border", "channel"))
def ssim(sr: jax.Array, hr: jax.Array, *, border: int = 0, channel: str = "y", size: Size = None) -> jax.Array:
    """Computes the structural similarity (Wang et al. 2004): 11 x 11 Gaussian, sigma 1.5, valid windows only.

    Arguments as for `psnr`; the image without its border must be 11 x 11 or larger. For RGB it is the mean over the
    channels.

    Returns:
      A scalar in [-1, 1].
    """
    x, y = prepare(sr, hr, channel)
    luminance, structure = _similarity(x, y)
    return masked_mean(luminance * structure, valid_mask(luminance.shape, border, size or x.shape[:2], WINDOW))


@functools.partial(jax.jit, static_argnames=("border", "channel"))
def ms_ssim(sr: jax.Array, hr: jax.Array, *, border: int = 0, channel: str = "y", size: Size = None) -> jax.Array:
    """Computes the multi-scale structural similarity (Wang, Simoncelli & Bovik 2003).

    It has five scales; each halves the image by 2 x 2 means. Arguments as for `psnr`; the image without its border must
    be 176 x 176 or larger, otherwise the result is NaN.

    Returns:
      A scalar in [0, 1].
    """
    x, y = (image[border:, border:] for image in prepare(sr, hr, channel))
    height, width = sr.shape[:2] if size is None else size
    height, width = height - 2 * border, width - 2 * border
    result = jnp.ones(())
    for scale, weight in enumerate(MS_WEIGHTS):
        if min(x.shape[:2]) < WINDOW:
            return jnp.full((), jnp.nan)
        luminance, structure = _similarity(x, y)
        values = structure * luminance if scale == len(MS_WEIGHTS) - 1 else structure
        mean = masked_mean(values, valid_mask(values.shape, 0, (height, width), WINDOW))
        result *= jnp.maximum(mean, 0.0) ** weight
        x, y = _halve(x), _halve(y)
        height, width = height // 2, width // 2
    return result


def _halve(x: jax.Array) -> jax.Array:
    height, width = x.shape[0] // 2 * 2, x.shape[1] // 2 * 2
    return x[:height, :width].reshape(height // 2, 2, width // 2, 2, -1).mean(axis=(1, 3))


DAALA_RADIUS = 24  # taps on each side, enough for images of 1,900 px height; longer kernels need another compilation


def daala_taps(height: int, longest: int) -> np.ndarray:
    """Returns the Gaussian of daala's `dump_ssim.c`: integers that sum to 256, with sigma = height * 1.5 / 256.

    Args:
      height: height of the image without its border.
      longest: pixels along the filtered axis.

    Returns:
      `[2 n + 1]` float32.
    """
    sigma = height * 1.5 / 256
    threshold = math.sqrt(0.5 * math.pi) * sigma / 256  # relative weight at which a tap rounds to 0
    radius = 0 if threshold >= 1 else math.floor(sigma * math.sqrt(-2 * math.log(threshold)))
    radius = min(radius, longest - 1)
    scale = 256 / (math.sqrt(2 * math.pi) * sigma)
    side = [math.floor(scale * math.exp(-0.5 * (i / sigma) ** 2) + 0.5) for i in range(radius, 0, -1)]
    return np.array([*side, 256 - 2 * sum(side), *side[::-1]], np.float32)


def ssim_daala(sr: jax.Array, hr: jax.Array, *, border: int = 0, channel: str = "y8", size: Size = None) -> jax.Array:
    """Computes the structural similarity of daala's tools, which the SRGAN paper reports.

    It uses 8-bit luma and a Gaussian whose sigma is proportional to the height of the image. Windows are truncated at
    the borders and weighted by the sum of their remaining taps. Arguments as for `psnr`.

    Returns:
      A scalar in [-1, 1].
    """
    height, width = (int(length) - 2 * border for length in (sr.shape[:2] if size is None else size))
    kernels = []
    for longest in (height, width):
        taps = daala_taps(height, longest)
        radius = max(DAALA_RADIUS, len(taps) // 2)
        kernels.append(np.pad(taps, radius - len(taps) // 2))
    channel = "y8" if channel == "y" else channel
    return _ssim_daala(sr, hr, *kernels, (height + 2 * border, width + 2 * border), border=border, channel=channel)


@functools.partial(jax.jit, static_argnames=("border", "channel"))
def _ssim_daala(sr, hr, rows, columns, size, *, border, channel):
    x, y = (jnp.floor(image * 255.0 + 0.5) for image in prepare(sr, hr, channel))
    mask = valid_mask(x.shape, border, size).astype(jnp.float32)
    stack = jnp.concatenate([jnp.ones_like(x), x, y, x * x, y * y, x * y], axis=-1) * mask
    radius = [len(taps) // 2 for taps in (rows, columns)]
    padded = jnp.pad(stack, ((radius[0], radius[0]), (radius[1], radius[1]), (0, 0)))
    height, width = x.shape[:2]
    padded = jnp.asarray(sum(rows[i] * padded[i : i + height] for i in range(len(rows))))
    moments = sum(columns[i] * padded[:, i : i + width] for i in range(len(columns)))
    weight, mean_x, mean_y, mean_xx, mean_yy, mean_xy = jnp.split(moments / 65536.0, 6, axis=-1)
    c1, c2 = (c * 255.0**2 * weight**2 for c in (C1, C2))
    values = (2 * mean_x * mean_y + c1) * (2 * (mean_xy * weight - mean_x * mean_y) + c2)
    contrast = mean_xx * weight - mean_x**2 + mean_yy * weight - mean_y**2 + c2
    values = weight * values / jnp.where(mask > 0, (mean_x**2 + mean_y**2 + c1) * contrast, 1.0)
    return jnp.sum(values * mask) / jnp.sum(weight * mask)
