"""What metrics share: channels, pictures that lie in a larger canvas, and the weights that some of them need.

Pictures of different sizes share one compilation: lay them into one canvas and pass `size`, the true height and width.
"""

import jax
import jax.numpy as jnp
import numpy as np

from srgan_jax.ops import color
from srgan_jax.runtime.errors import lookup

MIN_SIDE_PX = 11  # a window of SSIM
Size = tuple[int, int] | None


def _gray(rgb: jax.Array) -> jax.Array:
    """Full-range luma: a gray file's samples as they are."""
    return 0.299 * rgb[..., 0:1] + 0.587 * rgb[..., 1:2] + 0.114 * rgb[..., 2:3]


# "y" is MATLAB's luma on doubles, "gray" a gray file's own samples; with "8" rounded to 8 bits.
CHANNELS = {
    "y": color.rgb_to_y,
    "y8": lambda rgb: color.quantize(color.rgb_to_y(rgb)),
    "gray": _gray,
    "gray8": lambda rgb: color.quantize(_gray(rgb)),
    "rgb": lambda rgb: rgb,
}


def prepare(sr: jax.Array, hr: jax.Array, channel: str) -> tuple[jax.Array, jax.Array]:
    """Two pictures `[H, W, 3]` in [0, 1] in the channels that a metric compares, `[H, W, 1 or 3]`.

    Raises:
      ValueError: they are not of one shape.
    """
    if sr.shape != hr.shape or sr.ndim != 3:
        raise ValueError(f"expected two pictures [H, W, 3] of one shape, got {sr.shape} and {hr.shape}")
    convert = lookup(CHANNELS, channel, "channel")
    return convert(sr), convert(hr)


def inside(shape: tuple[int, ...], border: int, size: tuple[int, ...], window: int = 1) -> jax.Array:
    """`[H, W, 1]` whether the window that begins there lies in the picture of `size` without its `border`."""
    height, width = size
    rows = jnp.arange(shape[0])[:, None, None]
    columns = jnp.arange(shape[1])[None, :, None]
    fits = (rows >= border) & (rows + window <= height - border)
    return fits & (columns >= border) & (columns + window <= width - border)


def masked_mean(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Mean of `values [H, W, C]` where `mask [H, W, 1]`."""
    return jnp.sum(jnp.where(mask, values, 0.0)) / (jnp.sum(mask) * values.shape[2])


def smooth(x: jax.Array, taps: jax.Array | np.ndarray) -> jax.Array:
    """`[H, W, C]` filtered along both axes by `taps [K]`, valid windows only; sums, not products: never bf16."""
    count = len(taps)
    height, width = x.shape[0] - count + 1, x.shape[1] - count + 1
    x = jnp.asarray(sum(taps[i] * x[i : i + height] for i in range(count)))
    return jnp.asarray(sum(taps[i] * x[:, i : i + width] for i in range(count)))


def cut(image: jax.Array, border: int, size: Size) -> np.ndarray:
    """The picture without its border, out of its canvas."""
    height, width = image.shape[:2] if size is None else size
    return np.asarray(image)[border : height - border, border : width - border]
