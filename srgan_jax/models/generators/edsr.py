"""EDSR: the Enhanced Deep Super-Resolution network."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from srgan_jax.models import layers
from srgan_jax.runtime.errors import lookup

UPSAMPLING_FACTORS = {1: (), 2: (2,), 3: (3,), 4: (2, 2), 8: (2, 2, 2)}


class EDSR(nn.Module):
    """Residual blocks of two convolutions and a ReLU, without normalisation (Lim et al., arXiv 1707.02921, figure 3).

    Each branch is multiplied by `residual_scale` before it is added (section 3.3). Upsampling is by sub-pixel
    convolutions without activation. Arguments as of `SRResNet`: `lr [N, H, W, 3]` in [0, 1], optionally
    `mask [N, H, W, 1]`. The layers take and return (image - mean) * img_range. The receptive field's radius is at most
    2 * blocks + 5 LR pixels.

    The published ones: the default is the baseline, "EDSR-M" in BasicSR; "EDSR-L" has 32 blocks, width 256 and
    residual_scale 0.1.
    """

    blocks: int = 16
    width: int = 64
    scale: int = 4  # 1, 2, 3, 4 or 8
    residual_scale: float = 1.0
    mean: tuple[float, ...] = (0.4488, 0.4371, 0.4040)  # subtracted from LR in [0, 1]; see layers.channel_means
    img_range: float = 255.0  # the factor after that
    channels: int = 3  # of LR and SR
    dtype: Any = jnp.float32
    axis_name: str | None = None  # unused: no batch statistics
    remat: bool = False  # recompute the activations of blocks for the gradient instead of storing them

    @nn.compact
    def __call__(self, lr: jax.Array, *, train: bool = False, mask: jax.Array | None = None) -> jax.Array:
        mean = layers.channel_means(self.mean, self.channels)
        x = ((lr.astype(jnp.float32) - mean) * self.img_range).astype(self.dtype)
        x = first = self._conv(x, self.width, "conv_in", mask)
        for index in range(self.blocks):
            name = f"block_{index:02d}"
            branch = layers.maybe_remat(self, lambda own, x, name=name: own._residual(x, name, mask))(x)
            x = x + self.residual_scale * branch
        x = first + self._conv(x, self.width, "conv_trunk", mask)
        for index, factor in enumerate(lookup(UPSAMPLING_FACTORS, self.scale, "scale")):
            x = layers.pixel_shuffle(self._conv(x, self.width * factor**2, f"conv_up_{index}", mask), factor)
            mask = None if mask is None else layers.nearest(mask, factor)
        x = self._conv(x, self.channels, "conv_out", mask, init_scale=1e-2).astype(jnp.float32)
        return x / self.img_range + mean

    def _residual(self, x, name, mask):
        branch = nn.relu(self._conv(x, self.width, f"{name}_conv_1", mask))
        return self._conv(branch, self.width, f"{name}_conv_2", mask, init_scale=0.01)

    def _conv(self, x, features, name, mask, init_scale=1.0):
        init = nn.initializers.variance_scaling(init_scale, "fan_in", "truncated_normal")
        x = x if mask is None else x * mask.astype(x.dtype)
        return layers.conv(features, 3, name, kernel_init=init, dtype=self.dtype)(x)
