"""Shared functions of the metrics: channels, masks, filters and borders.

Images of different sizes can share one compilation: pad them to one canvas and pass `size`, the true height and width.
"""

import jax
import jax.numpy as jnp
import numpy as np

from srgan_jax.ops import color
from srgan_jax.runtime.errors import lookup

MIN_SIDE_PX = 11  # side of the SSIM window
Size = tuple[int, int] | None


def _gray(rgb: jax.Array) -> jax.Array:
    """Returns full-range luma, which equals the samples of a gray file."""
    return 0.299 * rgb[..., 0:1] + 0.587 * rgb[..., 1:2] + 0.114 * rgb[..., 2:3]


# "y" is MATLAB's luma without rounding, "gray" the samples of a gray file; "8" means rounded to 8 bits.
CHANNELS = {
    "y": color.rgb_to_y,
    "y8": lambda rgb: color.quantize(color.rgb_to_y(rgb)),
    "gray": _gray,
    "gray8": lambda rgb: color.quantize(_gray(rgb)),
    "rgb": lambda rgb: rgb,
}


def check_same_shape(sr: jax.Array | np.ndarray, hr: jax.Array | np.ndarray) -> None:
    """Raises ValueError unless both are images `[H, W, 3]` of the same shape."""
    if sr.shape != hr.shape or sr.ndim != 3:
        raise ValueError(f"expected two images [H, W, 3] of the same shape, got {sr.shape} and {hr.shape}")


def prepare(sr: jax.Array, hr: jax.Array, channel: str) -> tuple[jax.Array, jax.Array]:
    """Converts two images `[H, W, C]` in [0, 1] to the channels that a metric compares; all, unless they are RGB.

    Raises:
      ValueError: the images have different shapes.
    """
    check_same_shape(sr, hr)
    convert = lookup(CHANNELS, channel, "channel")
    if sr.shape[-1] != 3:  # no colours: all bands are compared
        return sr, hr
    return convert(sr), convert(hr)


def valid_mask(shape: tuple[int, ...], border: int, size: tuple[int, ...], window: int = 1) -> jax.Array:
    """Returns the mask `[H, W, 1]` of the windows inside the image of `size` without its `border`.

    An element belongs to the window whose top left pixel it is.
    """
    height, width = size
    rows = jnp.arange(shape[0])[:, None, None]
    columns = jnp.arange(shape[1])[None, :, None]
    fits = (rows >= border) & (rows + window <= height - border)
    return fits & (columns >= border) & (columns + window <= width - border)


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Returns the mean of `values [H, W, C]` where `mask [H, W, 1]` is true."""
    return jnp.sum(jnp.where(mask, values, 0.0)) / (jnp.sum(mask) * values.shape[2])


def filter_separable(x: jax.Array, taps: jax.Array | np.ndarray) -> jax.Array:
    """Filters `[H, W, C]` along both axes by `taps [K]`, valid windows only.

    It is a sum of shifted arrays and not a convolution, so that it is computed in float32 and not in bf16.
    """
    count = len(taps)
    height, width = x.shape[0] - count + 1, x.shape[1] - count + 1
    x = jnp.asarray(sum(taps[i] * x[i : i + height] for i in range(count)))
    return jnp.asarray(sum(taps[i] * x[:, i : i + width] for i in range(count)))


def crop_border(image: jax.Array | np.ndarray, border: int, size: Size) -> np.ndarray:
    """Returns the image in the top left `size` of its canvas, without its border."""
    height, width = image.shape[:2] if size is None else size
    return np.asarray(image)[border : height - border, border : width - border]
