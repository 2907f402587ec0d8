"""SPAN: the Swift Parameter-free Attention Network."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from srgan_jax.models import layers, linear
from srgan_jax.models.convolution import convolution
from srgan_jax.runtime.types import PyTree

GAIN = 2  # channels of the convolutions inside a layer, in units of those around it
INIT_VARIANCE = 1 / 3  # over the number of inputs: initialisation as in PyTorch, which the authors keep


class SPAN(nn.Module):
    """Blocks whose output is multiplied by a function of itself (Wan et al., arXiv 2311.12770, figure 2).

    A block is three 3x3 convolutions with SiLU between them; its result is (result + input) * (sigmoid(result) - 0.5).
    Each 3x3 convolution is trained as the sum of two branches (`BranchedConv`). The input of the upsampling is a
    convolution of four maps: the first one, the results of the first and of the last block, and the first map inside
    the last block. Arguments as of `SRResNet`: `lr [N, H, W, 3]` in [0, 1], optionally `mask [N, H, W, 1]`. The layers
    take (lr - mean) * img_range and return [0, 1]. The receptive field's radius is 3 * blocks + 3 LR pixels.
    """

    blocks: int = 6
    width: int = 48
    scale: int = 4  # any integer from 1
    mean: tuple[float, ...] = (0.4488, 0.4371, 0.4040)  # subtracted from LR in [0, 1]; see layers.channel_means
    img_range: float = 255.0  # the factor after that; mean 0 and factor 1 are the variant "no_norm"
    channels: int = 3  # of LR and SR
    fused: bool = False  # the branches of each layer are added up to one convolution, for inference; see `fold`
    dtype: Any = jnp.float32
    axis_name: str | None = None  # unused: no batch statistics
    remat: bool = False  # recompute the activations of blocks for the gradient instead of storing them

    @nn.compact
    def __call__(self, lr: jax.Array, *, train: bool = False, mask: jax.Array | None = None) -> jax.Array:
        x = (lr.astype(jnp.float32) - layers.channel_means(self.mean, self.channels)) * self.img_range
        x = first = self._branched(x.astype(self.dtype), "conv_in", mask)
        first_block = inner = x
        for index in range(self.blocks):
            run = layers.maybe_remat(self, lambda own, x, name=f"block_{index:02d}": own._block(x, name, mask))
            x, inner = run(x)
            first_block = x if index == 0 else first_block
        x = self._branched(x, "conv_trunk", mask)
        x = self._conv(jnp.concatenate([first, x, first_block, inner], axis=-1), self.width, 1, "conv_fuse", mask)
        x = self._conv(x, self.channels * self.scale**2, 3, "conv_out", mask, init_scale=1e-3).astype(jnp.float32)
        return layers.pixel_shuffle(x, self.scale)

    def _block(self, x, name, mask):
        inner = nn.silu(self._branched(x, f"{name}_conv_1", mask))
        y = nn.silu(self._branched(inner, f"{name}_conv_2", mask))
        y = self._branched(y, f"{name}_conv_3", mask)
        return (y + x) * (nn.sigmoid(y) - 0.5), inner

    def _branched(self, x, name, mask):
        if self.fused:
            return self._conv(x, self.width, 3, name, mask)
        x = x if mask is None else x * mask.astype(x.dtype)
        return BranchedConv(self.width, self.dtype, name=name)(x)

    def _conv(self, x, features, size, name, mask, init_scale=1.0):
        init = nn.initializers.variance_scaling(INIT_VARIANCE * init_scale, "fan_in", "uniform")
        x = x if mask is None else x * mask.astype(x.dtype)
        return layers.conv(features, size, name, kernel_init=init, dtype=self.dtype)(x)

    @staticmethod
    def fold(variables: PyTree, architecture: Mapping[str, Any]) -> tuple[PyTree, dict[str, Any]]:
        """Returns variables and architecture with the branches of each layer added up to one 3x3 convolution."""
        params = {
            name: add_branches(layer) if "skip" in layer else layer for name, layer in variables["params"].items()
        }
        return {"params": params}, dict(architecture) | {"fused": True}


class BranchedConv(nn.Module):
    """A 3x3 convolution whose kernel is the sum of two branches ("Conv3XC" there), added up at each call.

    One branch is a 1x1, a 3x3 and a 1x1 convolution with nothing between them, the other a 1x1 convolution. The sum is
    differentiated through, so training costs hardly more than one 3x3 convolution. The authors' training runs the
    branches one by one and pads by zeros in front of the first: at the outermost pixels their 3x3 convolution reads the
    first one's bias there. Inference, theirs and this, reads zeros, as here in both cases.
    """

    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        inputs, wide = x.shape[-1], GAIN * self.features
        shapes = {
            "expand": (1, 1, inputs, GAIN * inputs),
            "conv": (3, 3, GAIN * inputs, wide),
            "reduce": (1, 1, wide, self.features),
            "skip": (1, 1, inputs, self.features),
        }
        branches = {name: KernelAndBias(shape, name=name)() for name, shape in shapes.items()}
        total = add_branches(branches)

        def run(x, kernel, bias):
            options = {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}
            y = convolution(x, kernel.astype(x.dtype), (1, 1), ((1, 1), (1, 1)), **options)
            return y + linear.spread(bias, y)

        return linear.apply_parameters(run, x, total["kernel"], total["bias"])


class KernelAndBias(nn.Module):
    """The parameters of a convolution, without the convolution: a dict of "kernel" of this shape, and "bias"."""

    shape: tuple[int, int, int, int]

    @nn.compact
    def __call__(self) -> dict[str, jax.Array]:
        return {
            "kernel": self.param(
                "kernel", nn.initializers.variance_scaling(INIT_VARIANCE, "fan_in", "uniform"), self.shape
            ),
            "bias": self.param("bias", nn.initializers.zeros_init(), self.shape[-1:]),
        }


def add_branches(branches: Mapping[str, Mapping[str, jax.Array]]) -> dict[str, jax.Array]:
    """Returns "kernel" `[3, 3, in, out]` and "bias" `[out]` of the convolution that equals the branches' sum."""
    expand, conv, reduce, skip = (branches[name] for name in ("expand", "conv", "reduce", "skip"))
    with jax.default_matmul_precision("highest"):
        narrowed = jnp.einsum("hwmn,no->hwmo", conv["kernel"], reduce["kernel"][0, 0])
        kernel = jnp.einsum("im,hwmo->hwio", expand["kernel"][0, 0], narrowed).at[1, 1].add(skip["kernel"][0, 0])
        bias = expand["bias"] @ narrowed.sum(axis=(0, 1)) + conv["bias"] @ reduce["kernel"][0, 0]
    return {"kernel": kernel, "bias": bias + reduce["bias"] + skip["bias"]}
