"""BasicSR's modified SRResNet, the generator of its published SRGAN and "MSRResNet" models."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from srgan_jax.models import layers
from srgan_jax.runtime.errors import lookup

UPSAMPLING_FACTORS = {2: (2,), 3: (3,), 4: (2, 2)}


class MSRResNet(nn.Module):
    """SRResNet without normalisation and long skip, added to bilinear upsampling (BasicSR, `srresnet_arch.py`).

    3x3 convolutions throughout, ReLU in the blocks, LeakyReLU 0.1 after the first convolution and in the upsampling.
    Arguments as of `SRResNet`: `lr [N, H, W, 3]` in [0, 1], optionally `mask [N, H, W, 1]`.
    """

    blocks: int = 16
    width: int = 64
    scale: int = 4  # 2, 3 or 4
    channels: int = 3  # of LR and SR
    dtype: Any = jnp.float32
    axis_name: str | None = None  # unused: no batch statistics
    remat: bool = False  # recompute the activations of blocks for the gradient instead of storing them

    @nn.compact
    def __call__(self, lr: jax.Array, *, train: bool = False, mask: jax.Array | None = None) -> jax.Array:
        factors = lookup(UPSAMPLING_FACTORS, self.scale, "scale")
        x = self._leaky(self._conv(lr.astype(self.dtype), self.width, "conv_in", mask))
        for index in range(self.blocks):
            x = x + layers.maybe_remat(self, lambda own, x, name=f"block_{index:02d}": own._residual(x, name, mask))(x)
        for index, factor in enumerate(factors):
            x = self._leaky(
                layers.pixel_shuffle(self._conv(x, self.width * factor**2, f"conv_up_{index}", mask), factor)
            )
            mask = None if mask is None else mask.repeat(factor, 1).repeat(factor, 2)
        x = self._leaky(self._conv(x, self.width, "conv_hr", mask))
        x = self._conv(x, self.channels, "conv_out", mask, init_scale=1e-4).astype(jnp.float32)
        return x + layers.interpolate(lr.astype(jnp.float32), self.scale, "bilinear")

    def _residual(self, x, name, mask):
        branch = nn.relu(self._conv(x, self.width, f"{name}_conv_1", mask))
        return self._conv(branch, self.width, f"{name}_conv_2", mask, init_scale=0.01)

    def _conv(self, x, features, name, mask, init_scale=1.0):
        init = nn.initializers.variance_scaling(init_scale, "fan_in", "truncated_normal")
        x = x if mask is None else x * mask.astype(x.dtype)
        return layers.conv(features, 3, name, kernel_init=init, dtype=self.dtype)(x)

    def _leaky(self, x):
        return nn.leaky_relu(x, 0.1)
