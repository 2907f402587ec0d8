"""Convolutions arranged for speed on XLA's CPU backend; plain convolutions on all other backends.

Measured on two cores, float32, 16 images: the weight gradient of a convolution from 64 to 64 channels at 96x96 runs at
38 GFLOP/s for the whole batch and at 83 image by image; that of the 9x9 convolution from 64 to 3 channels at 20, and
with input and cotangent swapped at 76. Space-to-depth didn't make the 9x9 convolution faster.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

LARGE_MAP_PX = 48 * 48
CHUNK_PX = 9216  # pixels of the feature maps in one chunk; smaller chunks are no faster and take longer to compile


def convolution(x: jax.Array, kernel: jax.Array, strides: Any, padding: Any, **options: Any) -> jax.Array:
    """`jax.lax.conv_general_dilated` with the same arguments; on a single CPU device large maps run in chunks."""
    chunks = _chunk_count(x)
    run = functools.partial(chunked_convolution, strides=strides, padding=padding, **options)
    if chunks == 1:
        return run(1, x, kernel)
    return jax.lax.platform_dependent(x, kernel, cpu=functools.partial(run, chunks), default=functools.partial(run, 1))


def chunked_convolution(
    chunks: int, x: jax.Array, kernel: jax.Array, strides: Any, padding: Any, **options: Any
) -> jax.Array:
    """Returns the convolution of `x [N, H, W, C]`, computed in `chunks` parts of the batch, a divisor of N."""
    run = functools.partial(jax.lax.conv_general_dilated, window_strides=strides, padding=padding, **options)
    return run(x, kernel) if chunks == 1 else jnp.concatenate([run(chunk, kernel) for chunk in jnp.split(x, chunks)])


def few_channel_convolution(x: jax.Array, kernel: jax.Array, strides: Any, padding: Any, **options: Any) -> jax.Array:
    """`convolution` for training with few output channels, stride 1 and "same" padding.

    Forward-mode differentiation (`jax.jvp`) raises an error where the weight gradient is a custom one.
    """
    chunks = _chunk_count(x)
    run = functools.partial(chunked_convolution, strides=strides, padding=padding, **options)
    if chunks == 1:
        return run(1, x, kernel)
    swapped = functools.partial(with_swapped_kernel_gradient, functools.partial(run, chunks))
    return jax.lax.platform_dependent(x, kernel, cpu=swapped, default=functools.partial(run, 1))


def with_swapped_kernel_gradient(run: Any, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Returns `run(x, kernel)` with a custom weight gradient; `run` is a convolution of stride 1, padding "same".

    The gradient of a kernel from C to c channels equals, rotated by 180 degrees, the gradient of a kernel from c to C
    channels with input and cotangent swapped. XLA computes the latter faster for small c.
    """

    @jax.custom_vjp
    def convolve(x: jax.Array, kernel: jax.Array) -> jax.Array:
        return run(x, kernel)

    def forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        return run(x, kernel), (x, kernel)

    def backward(saved: tuple[jax.Array, jax.Array], cotangent: jax.Array) -> tuple[jax.Array, jax.Array]:
        x, kernel = saved
        (x_gradient,) = jax.linear_transpose(lambda x: run(x, kernel), x)(cotangent)
        swapped_shape = jax.ShapeDtypeStruct((*kernel.shape[:2], kernel.shape[3], kernel.shape[2]), kernel.dtype)
        (rotated,) = jax.linear_transpose(lambda kernel: run(cotangent, kernel), swapped_shape)(x)
        return x_gradient, rotated[::-1, ::-1].swapaxes(2, 3)

    convolve.defvjp(forward, backward)
    return convolve(x, kernel)


def depthwise_convolution(x: jax.Array, kernel: jax.Array, strides: Any, padding: Any, **options: Any) -> jax.Array:
    """`conv_general_dilated` with one input channel for each output channel and stride 1; on CPUs as a sum of products.

    Args:
      x: `[N, H, W, C]`.
      kernel: `[h, w, 1, C]`.
      strides: 1 along both axes.
      padding: pixels at both ends of both axes.
      **options: of `conv_general_dilated`.
    """
    plain = functools.partial(jax.lax.conv_general_dilated, window_strides=strides, padding=padding, **options)
    summed = functools.partial(_sum_of_products, padding=padding)
    return jax.lax.platform_dependent(x, kernel, cpu=summed, default=plain)


def _sum_of_products(x: jax.Array, kernel: jax.Array, padding: Any) -> jax.Array:
    rows, columns = kernel.shape[:2]
    padded = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    height, width = (padded.shape[1] - rows + 1, padded.shape[2] - columns + 1)
    taps = ((row, column) for row in range(rows) for column in range(columns))
    products = (padded[:, r : r + height, c : c + width] * kernel[r, c, 0] for r, c in taps)
    return functools.reduce(jnp.add, products)


def _chunk_count(x: jax.Array) -> int:
    """Returns the number of chunks for a batch `[N, H, W, C]` on a CPU; 1 where N, H or W is symbolic.

    Only float32 is split: the weight gradients of the chunks are summed in the dtype of `x`. A batch on several devices
    isn't split, because that needs communication.
    """
    images, height, width, _ = x.shape
    known = all(isinstance(size, int) for size in (images, height, width))
    if jax.device_count() > 1 or not known or not images or height * width < LARGE_MAP_PX or x.dtype != jnp.float32:
        return 1
    max_images = max(1, CHUNK_PX // (height * width))  # in a chunk
    return next(chunks for chunks in range(1, images + 1) if images % chunks == 0 and images // chunks <= max_images)
