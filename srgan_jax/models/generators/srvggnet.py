"""SRVGGNetCompact, the small generator of Real-ESRGAN that community tools call "Compact"."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from srgan_jax.models import layers


class SRVGGNetCompact(nn.Module):
    """Plain convolutions at LR's size and one pixel shuffle, added to nearest-neighbour upsampling.

    Xintao Wang's architecture (Real-ESRGAN, `srvgg_arch.py`): 3x3 convolutions with bias, an activation after each but
    the last, no normalisation, no skip but the one around the network. Per LR pixel
    9 * (3 * width + blocks * width^2 + width * 3 * scale^2) multiplications. The receptive field's radius is
    `blocks + 2` LR pixels. Arguments as of `SRResNet`: `lr [N, H, W, 3]` in [0, 1], optionally `mask [N, H, W, 1]`.
    """

    blocks: int = 16  # convolutions between the first and the last: `num_conv` there
    width: int = 64  # `num_feat` there
    scale: int = 4  # any integer from 1
    activation: str = "prelu"  # layers.ACTIVATIONS: prelu (one slope per channel), relu, leaky_relu_01
    channels: int = 3  # of LR and SR
    dtype: Any = jnp.float32
    axis_name: str | None = None  # unused: no batch statistics
    remat: bool = False  # recompute the activations for the gradient instead of storing them

    @nn.compact
    def __call__(self, lr: jax.Array, *, train: bool = False, mask: jax.Array | None = None) -> jax.Array:
        x = self._layer(lr.astype(self.dtype), "in", mask)
        for index in range(self.blocks):
            x = layers.maybe_remat(self, lambda own, x, name=f"{index:02d}": own._layer(x, name, mask))(x)
        x = self._conv(x, self.channels * self.scale**2, "conv_out", mask, init_scale=1e-4).astype(jnp.float32)
        return layers.pixel_shuffle(x, self.scale) + layers.nearest(lr.astype(jnp.float32), self.scale)

    def _layer(self, x, name, mask):
        return layers.activation(self.activation, f"act_{name}")(self._conv(x, self.width, f"conv_{name}", mask))

    def _conv(self, x, features, name, mask, init_scale=2.0):  # 2: He's, for an activation that halves the variance
        init = nn.initializers.variance_scaling(init_scale, "fan_in", "truncated_normal")
        x = x if mask is None else x * mask.astype(x.dtype)
        return layers.conv(features, 3, name, kernel_init=init, dtype=self.dtype)(x)
