"""Convolutions in the order of work that XLA's CPU backend does fastest; plain ones on everything else.

Measured on two cores, float32, 16 images: the weight gradient of 64 to 64 channels at 96x96 runs at 38 GFLOP/s for
the batch and at 83 picture by picture, that of the 9x9 convolution from 64 to 3 channels at 20 and, its two sides
exchanged, at 76. Rewriting the 9x9 convolution with space-to-depth gained nothing.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

LARGE_MAP_PX = 48 * 48
CHUNK_PX = 9216  # of a map, the work that XLA is given at once: smaller gains nothing more and takes longer to compile


def convolution(x: jax.Array, kernel: jax.Array, strides: Any, padding: Any, **options: Any) -> jax.Array:
    """`jax.lax.conv_general_dilated` with the same arguments; large maps on a lone CPU in chunks of the batch."""
    chunks = _chunk_count(x) if _on_single_cpu() else 1
    return chunked_convolution(chunks, x, kernel, strides, padding, **options)


def chunked_convolution(
    chunks: int, x: jax.Array, kernel: jax.Array, strides: Any, padding: Any, **options: Any
) -> jax.Array:
    """The convolution of `x [N, H, W, C]` as `chunks` smaller ones, a divisor of N."""
    run = functools.partial(jax.lax.conv_general_dilated, window_strides=strides, padding=padding, **options)
    return run(x, kernel) if chunks == 1 else jnp.concatenate([run(chunk, kernel) for chunk in jnp.split(x, chunks)])


def few_channel_convolution(x: jax.Array, kernel: jax.Array, strides: Any, padding: Any, **options: Any) -> jax.Array:
    """`convolution` to very few channels, with stride 1 and the size kept, for training.

    Forward-mode differentiation (`jax.jvp`) is not possible where the weight gradient is computed in its own way.
    """
    run = functools.partial(convolution, strides=strides, padding=padding, **options)
    if not _on_single_cpu() or _chunk_count(x) == 1:
        return run(x, kernel)
    return with_swapped_kernel_gradient(run, x, kernel)


def with_swapped_kernel_gradient(run: Any, x: jax.Array, kernel: jax.Array) -> jax.Array:
    """`run(x, kernel)`, a convolution of stride 1 that keeps the size, with another way to its weight gradient.

    The gradient of a kernel from C to c channels is, rotated by 180 degrees, that of one from c to C whose input is the
    cotangent and whose cotangent is the input; XLA's way to it is the faster the more channels the latter has.
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


def _on_single_cpu() -> bool:
    """Pictures of a batch that lies on several devices can't be taken apart without sending them around."""
    return jax.default_backend() == "cpu" and jax.device_count() == 1


def _chunk_count(x: jax.Array) -> int:
    """How many parts a batch `[N, H, W, C]` is taken apart in; 1 where N, H or W is unknown.

    Only in float32: the parts' weight gradients are added in the dtype of `x`.
    """
    images, height, width, _ = x.shape
    known = all(isinstance(size, int) for size in (images, height, width))
    if not known or not images or height * width < LARGE_MAP_PX or x.dtype != jnp.float32:
        return 1
    max_images = max(1, CHUNK_PX // (height * width))  # images in a part
    return next(chunks for chunks in range(1, images + 1) if images % chunks == 0 and images // chunks <= max_images)
