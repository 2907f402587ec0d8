"""RealPLKSR: partial large kernel convolutions, for photographs with unknown degradations."""

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from srgan_jax.models import layers
from srgan_jax.models.dysample import DySample


class RealPLKSR(nn.Module):
    """PLKSR (Lee et al., arXiv 2404.11848, figure 3) as neosr changed it: normalised blocks, two 3x3 convolutions.

    A block: two 3x3 convolutions with Mish between them, a convolution with a large kernel of the first
    channels, a product with a function of itself, a 1x1 convolution, group normalisation, and the sum
    with the block's input. The result is added to nearest-neighbour upsampling, by sub-pixel convolution or by
    `DySample`. Arguments as of `SRResNet`: `lr [N, H, W, 3]` in [0, 1], optionally `mask [N, H, W, 1]`.

    Group normalisation averages over the whole image, so tiles never have quite the result of the whole image.
    """

    blocks: int = 28
    width: int = 64
    scale: int = 4  # any integer from 1
    kernel_size: int = 17  # of the large kernels; odd
    partial: float = 0.25  # fraction of the channels that they see; the others pass by
    elementwise_attention: bool = True  # the product of each block
    layer_norm: bool = False  # normalise each pixel at the block's beginning, instead of groups at its end
    groups: int = 4  # of channels, in group normalisation
    dysample: bool = False  # upsample by `DySample` instead of the pixel shuffle
    channels: int = 3  # of LR and SR
    dtype: Any = jnp.float32
    axis_name: str | None = None  # unused: no batch statistics
    remat: bool = False  # recompute the activations of blocks for the gradient instead of storing them

    @property
    def least_radius_px(self) -> float:
        """Group normalisation is over the whole image; without it, the sum over the convolutions."""
        return self.blocks * (self.kernel_size // 2 + 2) + 2 if self.layer_norm else math.inf

    @nn.compact
    def __call__(self, lr: jax.Array, *, train: bool = False, mask: jax.Array | None = None) -> jax.Array:
        x = self._conv(lr.astype(self.dtype), self.width, "conv_in", mask)
        for index in range(self.blocks):
            x = x + layers.maybe_remat(self, lambda own, x, name=f"block_{index:02d}": own._block(x, name, mask))(x)
        x = self._conv(x, self.channels * self.scale**2, "conv_out", mask)
        if not self.dysample:
            return layers.pixel_shuffle(x.astype(jnp.float32), self.scale) + layers.nearest(
                lr.astype(jnp.float32), self.scale
            )
        x = x + lr.astype(self.dtype).repeat(self.scale**2, axis=-1)
        groups = 4 if self.scale % 2 == 0 else math.gcd(3, x.shape[-1])  # 3 for RGB, as the authors
        options = {"project": self.scale != 1, "dtype": self.dtype, "name": "dysample"}
        upsample = DySample(self.scale, groups, self.channels, **options)
        return upsample(x, mask).astype(jnp.float32)

    def _block(self, x, name, mask):
        if self.layer_norm:
            x = nn.LayerNorm(epsilon=1e-6, use_fast_variance=False, dtype=self.dtype, name=f"{name}_norm")(x)
        x = _mish(self._conv(x, 2 * self.width, f"{name}_conv_1", mask))
        x = self._conv(x, self.width, f"{name}_conv_2", mask)
        split = max(1, round(self.partial * self.width))
        large = self._conv(x[..., :split], split, f"{name}_conv_large", mask)
        x = jnp.concatenate([large, x[..., split:]], axis=-1)
        if self.elementwise_attention:
            x = x * nn.sigmoid(self._conv(x, self.width, f"{name}_conv_attention", mask))
        x = self._conv(x, self.width, f"{name}_conv_refine", mask)
        if self.layer_norm:
            return x
        options = {"use_fast_variance": False, "epsilon": 1e-5, "dtype": self.dtype, "name": f"{name}_norm"}
        inside = None if mask is None else jnp.broadcast_to(mask > 0, x.shape)
        return nn.GroupNorm(self.groups, **options)(x, mask=inside)

    def _conv(self, x, features, name, mask):
        size = self.kernel_size if name.endswith("_large") else 1 if name.endswith("_refine") else 3
        x = x if mask is None else x * mask.astype(x.dtype)
        init = nn.initializers.truncated_normal(0.02)  # as the authors, except in the first convolution of a block
        init = nn.initializers.lecun_normal() if name.endswith("_conv_1") else init
        return layers.conv(features, size, name, kernel_init=init, dtype=self.dtype)(x)


def _mish(x):
    """Returns x * tanh(softplus(x)) (Misra, arXiv 1908.08681), with one exponential."""
    exponential = jnp.exp(jnp.minimum(x, 20.0))  # tanh(log(1 + e^x)) = n / (n + 2) for n = e^2x + 2 e^x
    n = exponential * (exponential + 2.0)
    return x * (n / (n + 2.0))
