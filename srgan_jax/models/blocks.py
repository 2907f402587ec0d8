"""Convolutions of feature maps whose pixels are still channels: before a pixel shuffle instead of after it.

A convolution to few channels uses a small part of a matrix unit of 128 x 128. The 9x9 convolution from 64 to 3 channels
of SRResNet is the same function of the map before the last pixel shuffle as a 5x5 convolution from 256 to 12 channels,
with 1.23 times the multiplications. Only its kernel is rearranged, inside the program. CPUs run it as it stands.
"""

from typing import Any

import jax
import jax.numpy as jnp

from srgan_jax.models import linear
from srgan_jax.models.shuffle import pixel_shuffle, pixel_unshuffle


def kernel_of_blocks(kernel: jax.Array, factor: int) -> jax.Array:
    """Returns the kernel that does the same with blocks of pixels as channels, in the order of `pixel_shuffle`.

    Args:
      kernel: `[size, size, C, c]`, odd size, of a convolution with stride 1 and padding `size // 2`.
      factor: side of a block.

    Returns:
      `[t, t, C * factor**2, c * factor**2]`, t = 2 * ceil((size // 2) / factor) + 1, for padding `t // 2`.
    """
    size, _, channels, features = kernel.shape
    radius = size // 2
    blocks = -(-radius // factor)  # that the kernel covers on each side
    taps = 2 * blocks + 1

    def placed(row: int, column: int) -> jax.Array:
        """Returns the kernel as output pixel (row, column) of a block applies it, `[t * factor, t * factor, C, c]`."""
        first = [blocks * factor + phase - radius for phase in (row, column)]
        return jnp.pad(kernel, [*((zeros, taps * factor - zeros - size) for zeros in first), (0, 0), (0, 0)])

    phases = jnp.stack([placed(row, column) for row in range(factor) for column in range(factor)])
    phases = phases.reshape(factor, factor, taps, factor, taps, factor, channels, features)
    return phases.transpose(2, 4, 6, 3, 5, 7, 0, 1).reshape(taps, taps, channels * factor**2, features * factor**2)


def convolution(
    plain: Any, factor: int, x: jax.Array, kernel: jax.Array, strides: Any, padding: Any, **options: Any
) -> jax.Array:
    """Returns `plain(pixel_shuffle(x, factor), kernel, ...)`, on other backends than CPUs without the shuffle.

    Args:
      plain: the convolution on CPUs, with the arguments of `jax.lax.conv_general_dilated`.
      factor: of the pixel shuffle.
      x: `[N, H, W, C * factor**2]`.
      kernel: `[size, size, C, c]`, odd size.
      strides: 1 along both axes.
      padding: `size // 2` at all sides.
      **options: of `conv_general_dilated`.
    """

    def shuffled(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return plain(pixel_shuffle(x, factor), kernel, strides, padding, **options)

    def in_blocks(x: jax.Array, kernel: jax.Array) -> jax.Array:
        kernel = kernel_of_blocks(kernel, factor)
        pad = kernel.shape[0] // 2
        y = jax.lax.conv_general_dilated(x, kernel, strides, ((pad, pad), (pad, pad)), **options)
        return pixel_shuffle(y, factor)

    return jax.lax.platform_dependent(x, kernel, cpu=shuffled, default=in_blocks)


def prelu(factor: int, x: jax.Array, slope: jax.Array) -> jax.Array:
    """Returns PReLU of a map `[N, H, W, C * factor**2]` before its pixel shuffle; `slope` is `[C]` or `[1]`.

    On CPUs it is computed after the shuffle, so that the gradient of the slope has the bits that it has there.
    """

    def run(x: jax.Array, slope: jax.Array) -> jax.Array:
        return jnp.where(x >= 0, x, linear.spread(slope, x) * x)

    def shuffled(x: jax.Array, slope: jax.Array) -> jax.Array:
        return pixel_unshuffle(run(pixel_shuffle(x, factor), slope), factor)

    def in_blocks(x: jax.Array, slope: jax.Array) -> jax.Array:
        return run(x, slope if slope.size == 1 else slope.repeat(factor**2))

    if factor == 1:
        return run(x, slope)

    return jax.lax.platform_dependent(x, slope, cpu=shuffled, default=in_blocks)
