"""Pixel shuffle and its inverse. Feature maps are NHWC."""

import jax


def pixel_shuffle(x: jax.Array, factor: int) -> jax.Array:
    """Upsamples by rearranging channels to pixels (Shi et al., arXiv 1609.05158), as PyTorch's `PixelShuffle`.

    Args:
      x: `[N, H, W, C * factor**2]`; channel `c * factor**2 + i * factor + j` becomes channel c at sub-pixel (i, j).
      factor: upsampling factor of each axis.

    Returns:
      `[N, H * factor, W * factor, C]`.

    Raises:
      ValueError: the number of channels is not a multiple of `factor**2`.
    """
    n, height, width, channels = x.shape
    if channels % factor**2:
        raise ValueError(f"pixel_shuffle by {factor} needs channels divisible by {factor**2}, got {channels}")
    x = x.reshape(n, height, width, channels // factor**2, factor, factor)
    return x.transpose(0, 1, 4, 2, 5, 3).reshape(n, height * factor, width * factor, channels // factor**2)


def pixel_unshuffle(x: jax.Array, factor: int) -> jax.Array:
    """Returns the blocks of factor x factor pixels of `x [N, H, W, C]` as channels, the inverse of `pixel_shuffle`.

    Returns:
      `[N, H / factor, W / factor, C * factor**2]`; H and W must be multiples of `factor`.
    """
    n, height, width, channels = x.shape
    x = x.reshape(n, height // factor, factor, width // factor, factor, channels)
    return x.transpose(0, 1, 3, 5, 2, 4).reshape(n, height // factor, width // factor, channels * factor**2)
