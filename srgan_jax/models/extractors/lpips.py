"""LPIPS: its backbones (AlexNet, VGG16) and the distance between their features."""

import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from srgan_jax.runtime.errors import lookup

VGG_BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class Layer(NamedTuple):
    """A convolution followed by ReLU."""

    features: int
    size: int = 3
    stride: int = 1
    padding: int = 1
    pool: int = 0  # side of the max pooling with stride 2 before it; 0: none
    compared: bool = True  # whether LPIPS compares its output


ALEX = (Layer(64, 11, 4, 2), Layer(192, 5, 1, 2, pool=3), Layer(384, pool=3), Layer(256), Layer(256))


def layers_of(backbone: str) -> tuple[Layer, ...]:
    """Returns the convolutions of "alex" (AlexNet) or "vgg" (VGG16)."""
    if lookup({"alex": True, "vgg": False}, backbone, "LPIPS backbone"):
        return ALEX
    return tuple(
        Layer(width, pool=2 if block and not index else 0, compared=index == count - 1)
        for block, (width, count) in enumerate(VGG_BLOCKS)
        for index in range(count)
    )


def _max_pool(x: jax.Array, side: int) -> jax.Array:
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, side, side, 1), (1, 2, 2, 1), "VALID")


def _compared_features(weights: Mapping[str, jax.Array], x: jax.Array, backbone: str) -> list[jax.Array]:
    features = []
    for index, layer in enumerate(layers_of(backbone)):
        x = _max_pool(x, layer.pool) if layer.pool else x
        x = jax.lax.conv_general_dilated(
            x, weights[f"conv{index}/kernel"], (layer.stride, layer.stride), [(layer.padding, layer.padding)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"), precision="highest",
        )  # fmt: skip
        x = jax.nn.relu(x + weights[f"conv{index}/bias"])
        features += [x] if layer.compared else []
    return features


@functools.partial(jax.jit, static_argnames="backbone")
def lpips_distance(weights: Mapping[str, jax.Array], x: jax.Array, y: jax.Array, backbone: str) -> jax.Array:
    """Computes LPIPS (Zhang et al., arXiv 1801.03924), version 0.1 with linear heads; lower is better.

    Args:
      weights: "convN/kernel" (HWIO) and "convN/bias" of the backbone, "linN" `[C]` of the linear heads.
      x: `[N, H, W, 3]` RGB in [-1, 1].
      y: the same shape.
      backbone: "alex" or "vgg" (VGG16).

    Returns:
      `[N]` distances.
    """
    both = ((image - jnp.array(SHIFT)) / jnp.array(SCALE) for image in (x, y))
    total = jnp.zeros(len(x))
    for index, (a, b) in enumerate(zip(*(_compared_features(weights, image, backbone) for image in both), strict=True)):
        a, b = (t / (jnp.linalg.norm(t, axis=-1, keepdims=True) + 1e-10) for t in (a, b))
        total += jnp.sum(jnp.square(a - b) * weights[f"lin{index}"], axis=-1).mean(axis=(1, 2))
    return total
