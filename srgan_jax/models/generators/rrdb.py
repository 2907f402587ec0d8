"""RRDBNet: the generator of ESRGAN and Real-ESRGAN."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from srgan_jax.models import layers
from srgan_jax.runtime.errors import lookup

UPSAMPLING_STEPS = {1: 0, 2: 1, 4: 2, 8: 3}  # scale -> number of 2x upsampling steps


class RRDBNet(nn.Module):
    """Residual-in-residual dense blocks, no normalisation (Wang et al., ESRGAN, arXiv 1809.00219, figures 3 and 4).

    Each block consists of three dense blocks of five convolutions; the input of each convolution is the concatenation
    of all maps before it. Residuals are scaled by 0.2. Upsampling is nearest-neighbour, then a convolution. Arguments
    as of `SRResNet`: `lr [N, H, W, 3]` in [0, 1], optionally `mask [N, H, W, 1]`. The layers take and return [0, 1].
    """

    blocks: int = 23
    width: int = 64
    growth: int = 32  # channels that each convolution of a dense block adds
    scale: int = 4  # 1, 2, 4 or 8
    residual_scale: float = 0.2
    dtype: Any = jnp.float32
    axis_name: str | None = None  # unused: no batch statistics
    remat: bool = False  # recompute the activations of blocks for the gradient instead of storing them

    @nn.compact
    def __call__(self, lr: jax.Array, *, train: bool = False, mask: jax.Array | None = None) -> jax.Array:
        upsampling_steps = lookup(UPSAMPLING_STEPS, self.scale, "scale")
        x = first = self._conv(lr.astype(self.dtype), self.width, "conv_in", mask)
        for index in range(self.blocks):
            branch = x
            for dense in (1, 2, 3):
                name = f"block_{index:02d}_dense_{dense}"
                grown = layers.maybe_remat(self, lambda own, x, name=name: own._dense(x, name, mask))(branch)
                branch = branch + self.residual_scale * grown
            x = x + self.residual_scale * branch
        x = first + self._conv(x, self.width, "conv_trunk", mask)
        for index in range(upsampling_steps):
            x, mask = layers.nearest(x, 2), None if mask is None else layers.nearest(mask, 2)
            x = self._leaky(self._conv(x, self.width, f"conv_up_{index}", mask))
        x = self._leaky(self._conv(x, self.width, "conv_hr", mask))
        return self._conv(x, 3, "conv_out", mask).astype(jnp.float32)

    def _dense(self, x, name, mask):
        for index in range(1, 5):
            grown = self._leaky(self._conv(x, self.growth, f"{name}_conv_{index}", mask, init_scale=0.1))
            x = jnp.concatenate([x, grown], axis=-1)
        return self._conv(x, self.width, f"{name}_conv_5", mask, init_scale=0.1)

    def _conv(self, x, features, name, mask, init_scale=1.0):
        # As the authors: a tenth of Kaiming initialisation in the dense blocks ("smaller initialization", section 3.1).
        init = nn.initializers.variance_scaling(2.0 * init_scale**2, "fan_in", "truncated_normal")
        init = init if init_scale < 1.0 else nn.initializers.lecun_normal()
        x = x if mask is None else x * mask.astype(x.dtype)
        return layers.conv(features, 3, name, kernel_init=init, dtype=self.dtype)(x)

    def _leaky(self, x):
        return nn.leaky_relu(x, 0.2)
