"""A residual network for restoration: low-quality images to high-quality images of the same size."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from srgan_jax.models import layers
from srgan_jax.runtime.errors import UserError, lookup


class RestorationNet(nn.Module):
    """Downsamples by 2, runs residual blocks, upsamples, downsamples and upsamples again (see configs/restoration.py).

    Arguments as of `SRResNet`: `lr [N, H, W, 3]` in [0, 1], optionally `mask [N, H, W, 1]`; the result has the size of
    `lr`. The first layer takes and the last one returns [-1, 1]. Halving rounds odd sides up; the result is cropped.
    """

    blocks: int = 16
    width: int = 64
    upsampling_width: int = 256
    scale: int = 1  # the only valid value
    bn_momentum: float = 0.8  # fraction of the old running statistics kept at each update
    bn_epsilon: float = 1e-3
    padding: str = "symmetric"  # a name in layers.PADDINGS, for stride 2
    initialization: str = "lecun"  # a name in layers.INITIALIZATIONS
    channels: int = 3  # of LR and SR
    dtype: Any = jnp.float32
    axis_name: str | None = None  # under pmap: the axis over which batch statistics are shared
    remat: bool = False  # recompute the activations of blocks for the gradient instead of storing them

    @nn.compact
    def __call__(self, lr: jax.Array, *, train: bool = False, mask: jax.Array | None = None) -> jax.Array:
        if self.scale != 1:
            raise UserError(f"generator.scale={self.scale}: expected 1, because the restoration network keeps the size")
        half_mask = None if mask is None else mask[:, ::2, ::2]  # stride 2 halves, and rounds odd sides up
        upsampled_mask = None if half_mask is None else layers.nearest(half_mask, 2)

        x = layers.from_unit(lr, "signed").astype(self.dtype)
        x = first = self._conv(x, self.width, "conv_in", mask, size=9, stride=2)
        for index in range(self.blocks):
            x = x + layers.maybe_remat(
                self, lambda own, x, name=f"block_{index:02d}": own._residual(x, name, train, half_mask)
            )(x)
        x = first + self._norm("norm_trunk", train)(self._conv(x, self.width, "conv_trunk", half_mask, use_bias=False))
        x = self._leaky(self._conv(layers.nearest(x, 2), self.upsampling_width, "conv_up_0", upsampled_mask, stride=2))
        for index in (1, 2, 3):
            x = self._leaky(self._conv(x, self.upsampling_width, f"conv_up_{index}", half_mask))
        x = nn.relu(self._conv(layers.nearest(x, 2), self.upsampling_width, "conv_up_4", upsampled_mask))
        x = nn.tanh(self._conv(x, self.channels, "conv_out", upsampled_mask, size=9).astype(jnp.float32))
        return layers.to_unit(x[:, : lr.shape[1], : lr.shape[2]], "signed")

    def _residual(self, x, name, train, mask):
        branch = nn.relu(self._conv(x, self.width, f"{name}_conv_1", mask))
        branch = self._norm(f"{name}_norm_1", train)(branch)
        branch = self._conv(branch, self.width, f"{name}_conv_2", mask, use_bias=False)
        return self._norm(f"{name}_norm_2", train)(branch)

    def _norm(self, name, train):
        options = {"momentum": self.bn_momentum, "epsilon": self.bn_epsilon, "dtype": self.dtype}
        return layers.batch_norm(name, train=train, axis_name=self.axis_name, **options)

    def _conv(self, x, features, name, mask, *, size=3, stride=1, use_bias=True):
        x = x if mask is None else x * mask.astype(x.dtype)
        rows, columns = (layers.padding_of(self.padding, size, stride, side) for side in x.shape[1:3])
        options = lookup(layers.INITIALIZATIONS, self.initialization, "initialization")(size * size * x.shape[-1])
        options |= {"stride": stride, "pad": (rows, columns), "use_bias": use_bias, "dtype": self.dtype}
        return layers.conv(features, size, name, **options)(x)

    def _leaky(self, x):
        return nn.leaky_relu(x, 0.1)
