"""RRDBNet: the generator of ESRGAN, Real-ESRGAN and ESRGAN+."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from srgan_jax.models import layers
from srgan_jax.runtime.errors import lookup

UPSAMPLING_STEPS = {1: 0, 2: 1, 4: 2, 8: 3, 16: 4}  # scale * unshuffle -> number of 2x upsampling steps


class RRDBNet(nn.Module):
    """Residual-in-residual dense blocks, no normalisation (Wang et al., ESRGAN, arXiv 1809.00219, figures 3 and 4).

    Each block consists of three dense blocks of five convolutions; the input of each convolution is the concatenation
    of all maps before it. Residuals are scaled by 0.2. Upsampling is nearest-neighbour, then a convolution. Arguments
    as of `SRResNet`: `lr [N, H, W, 3]` in [0, 1], optionally `mask [N, H, W, 1]`. The layers take and return [0, 1].

    With `unshuffle`, blocks of unshuffle x unshuffle pixels of LR become channels, as Real-ESRGAN does for scales 2 and
    1 (Wang et al., arXiv 2107.10833, section 3.3); an LR image of another size is first padded by reflection.
    """

    blocks: int = 23
    width: int = 64
    growth: int = 32  # channels that each convolution of a dense block adds
    scale: int = 4  # 1, 2, 4 or 8
    residual_scale: float = 0.2
    unshuffle: int = 1  # side of the blocks of LR pixels that become channels: 1, 2 or 4
    conv1x1: bool = False  # ESRGAN+'s residuals inside a dense block (Rakotonirina and Rasoanaivo, arXiv 2001.08073)
    channels: int = 3  # of LR and SR
    dtype: Any = jnp.float32
    axis_name: str | None = None  # unused: no batch statistics
    remat: bool = False  # recompute the activations of blocks for the gradient instead of storing them

    @nn.compact
    def __call__(self, lr: jax.Array, *, train: bool = False, mask: jax.Array | None = None) -> jax.Array:
        height, width = lr.shape[1:3]
        upsampling_steps = lookup(UPSAMPLING_STEPS, self.scale * self.unshuffle, "scale * unshuffle")
        if self.unshuffle > 1:
            lr, mask = layers.reflect_to_multiple(lr, self.unshuffle, mask)
            lr = layers.pixel_unshuffle(lr, self.unshuffle)
            mask = None if mask is None else layers.pixel_unshuffle(mask, self.unshuffle)[..., :1]
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
        x = self._conv(x, self.channels, "conv_out", mask).astype(jnp.float32)
        return x[:, : height * self.scale, : width * self.scale]

    @property
    def period_px(self) -> int:
        """The side of the blocks of LR pixels that become channels: tiles start at multiples of it."""
        return max(2, self.unshuffle)

    def _dense(self, x, name, mask):
        maps = [x]
        for index in range(1, 5):
            grown = self._leaky(self._conv(jnp.concatenate(maps, -1), self.growth, f"{name}_conv_{index}", mask, 0.1))
            if self.conv1x1 and index == 2:
                grown += layers.conv(self.growth, 1, f"{name}_conv1x1", use_bias=False, dtype=self.dtype)(x)
            if self.conv1x1 and index == 4:
                grown += maps[2]
            maps.append(grown)
        return self._conv(jnp.concatenate(maps, -1), self.width, f"{name}_conv_5", mask, 0.1)

    def _conv(self, x, features, name, mask, init_scale=1.0):
        # As the authors: a tenth of Kaiming initialisation in the dense blocks ("smaller initialization", section 3.1).
        init = nn.initializers.variance_scaling(2.0 * init_scale**2, "fan_in", "truncated_normal")
        init = init if init_scale < 1.0 else nn.initializers.lecun_normal()
        x = x if mask is None else x * mask.astype(x.dtype)
        return layers.conv(features, 3, name, kernel_init=init, dtype=self.dtype)(x)

    def _leaky(self, x):
        return nn.leaky_relu(x, 0.2)
