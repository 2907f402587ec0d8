"""A small generator for CPUs: all layers run at LR resolution."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from srgan_jax.models import layers


class CompactResNet(nn.Module):
    """Residual blocks at LR resolution and one sub-pixel convolution; the result is added to bilinear upsampling.

    About a twelfth of SRResNet's operations by default: per LR pixel 9 * (3 * 40 + 12 * 40^2 + 40 * 48) = 191,160
    multiplications against 2.2 million. No normalisation; 3x3 convolutions; one PReLU slope per channel in each block.
    Arguments as of `SRResNet`: `lr [N, H, W, 3]` in [0, 1], optionally `mask [N, H, W, 1]`.
    """

    blocks: int = 6
    width: int = 40
    scale: int = 4  # an integer >= 1
    channels: int = 3  # of LR and SR
    dtype: Any = jnp.float32
    axis_name: str | None = None  # unused: no batch statistics
    remat: bool = False  # recompute the activations of blocks for the gradient instead of storing them

    @nn.compact
    def __call__(self, lr: jax.Array, *, train: bool = False, mask: jax.Array | None = None) -> jax.Array:
        x = self._conv(lr.astype(self.dtype) - 0.5, self.width, "conv_in", mask)
        for index in range(self.blocks):
            x = x + layers.maybe_remat(self, lambda own, x, name=f"block_{index:02d}": own._residual(x, name, mask))(x)
        x = self._conv(x, self.channels * self.scale**2, "conv_out", mask, init_scale=1e-4).astype(jnp.float32)
        return layers.pixel_shuffle(x, self.scale) + layers.interpolate(lr.astype(jnp.float32), self.scale, "bilinear")

    def _residual(self, x, name, mask):
        branch = layers.PReLU(name=f"{name}_act")(self._conv(x, self.width, f"{name}_conv_1", mask))
        return self._conv(branch, self.width, f"{name}_conv_2", mask, init_scale=0.1)

    def _conv(self, x, features, name, mask, init_scale=1.0):
        init = nn.initializers.variance_scaling(init_scale, "fan_in", "truncated_normal")
        x = x if mask is None else x * mask.astype(x.dtype)
        return layers.conv(features, 3, name, kernel_init=init, dtype=self.dtype)(x)
