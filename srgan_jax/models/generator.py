"""Generators: `[N, H, W, 3]` RGB in [0, 1] to `[N, H * scale, W * scale, 3]` in about [0, 1]."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from srgan_jax.errors import lookup
from srgan_jax.models import layers
from srgan_jax.models.compact import CompactResNet
from srgan_jax.models.msrresnet import MSRResNet

OUTPUTS = {"linear": lambda x: x, "tanh": jnp.tanh}
UPSAMPLING_FACTORS = {2: (2,), 3: (3,), 4: (2, 2), 8: (2, 2, 2)}


class SRResNet(nn.Module):
    """The generator of SRGAN (Ledig et al., arXiv 1609.04802, figure 4) with its common variations as fields.

    Call it with `lr [N, H, W, 3]` in [0, 1], whatever `input_range` and `output_range` are: those say what the layers
    see and give. The result is not clipped.

    With `mask [N, H, W, 1]` (1 inside the picture, 0 outside) every convolution sees zeros outside, so a picture laid
    into a larger canvas, its outermost pixels repeated outwards, gives the values it gives alone.
    """

    # The architecture: JSON values only, they travel in the header of a weights file.
    blocks: int = 16
    width: int = 64
    scale: int = 4  # 2, 3, 4 or 8
    activation: str = "prelu"  # a name in layers.ACTIVATIONS; "prelu_shared" has one slope per layer
    norm: str = "batch"  # or "none"
    bn_momentum: float = 0.9  # share of the old running statistics kept at each update
    bn_epsilon: float = 1e-5
    norm_upsampling: bool = False  # normalise in the upsampling too
    bn_epsilon_upsampling: float = 1e-5
    trunk: str = "norm"  # what follows the convolution after the blocks; or "activation"
    bias_before_norm: bool = False  # does nothing in front of batch normalisation; other people's weights have it
    output: str = "linear"  # or "tanh"
    base: str = "none"  # or "bilinear", "bicubic": the network adds to the interpolated input
    input_range: tuple[float, float] | str = (0.0, 1.0)  # or "imagenet": minus its mean, over its deviation
    output_range: tuple[float, float] | str = (-1.0, 1.0)
    # How it runs, not what it is.
    dtype: Any = jnp.float32
    axis_name: str | None = None  # under pmap: the axis over which batch statistics are shared

    @nn.compact
    def __call__(self, lr: jax.Array, *, train: bool = False, mask: jax.Array | None = None) -> jax.Array:
        factors = lookup(UPSAMPLING_FACTORS, self.scale, "scale")
        lookup(dict.fromkeys(("batch", "none")), self.norm, "norm")
        x = layers.from_unit(lr, self.input_range).astype(self.dtype)
        x = first = self._activation("act_in")(self._conv(x, self.width, 9, "conv_in", mask))
        for index in range(self.blocks):
            x = x + self._residual(x, f"block_{index:02d}", train, mask)
        x = first + self._trunk(x, train, mask)
        for index, factor in enumerate(factors):
            normed = self.norm_upsampling
            x = self._conv(x, self.width * factor**2, 3, f"conv_up_{index}", mask, before_norm=normed)
            x = self._norm(x, f"norm_up_{index}", train, self.bn_epsilon_upsampling) if normed else x
            x = self._activation(f"act_up_{index}")(layers.pixel_shuffle(x, factor))
            mask = None if mask is None else mask.repeat(factor, 1).repeat(factor, 2)
        return self._finish(self._conv(x, 3, 9, "conv_out", mask, init_scale=1e-4 if self.base != "none" else 1.0), lr)

    def _finish(self, x: jax.Array, lr: jax.Array) -> jax.Array:
        x = x.astype(jnp.float32)
        if self.base != "none":
            base = layers.interpolate(lr.astype(jnp.float32), self.scale, self.base)
            x = x + layers.from_unit(base, self.output_range)
        x = lookup(OUTPUTS, self.output, "output activation")(x)
        return layers.to_unit(x, self.output_range)

    def _trunk(self, x: jax.Array, train: bool, mask: jax.Array | None) -> jax.Array:
        normed = lookup({"norm": True, "activation": False}, self.trunk, "trunk")
        x = self._conv(x, self.width, 3, "conv_trunk", mask, before_norm=normed)
        return self._norm(x, "norm_trunk", train) if normed else self._activation("act_trunk")(x)

    def _residual(self, x: jax.Array, name: str, train: bool, mask: jax.Array | None) -> jax.Array:
        # Without normalisation the branch starts small, or the sum of many blocks starts far too large.
        last_scale = 0.01 if self.norm == "none" else 1.0
        x = self._conv(x, self.width, 3, f"{name}_conv_1", mask, before_norm=True)
        x = self._activation(f"{name}_act")(self._norm(x, f"{name}_norm_1", train))
        x = self._conv(x, self.width, 3, f"{name}_conv_2", mask, before_norm=True, init_scale=last_scale)
        return self._norm(x, f"{name}_norm_2", train)

    def _conv(self, x, features, size, name, mask, *, before_norm=False, init_scale=1.0):
        init = nn.initializers.variance_scaling(init_scale, "fan_in", "truncated_normal")
        bias = not before_norm or self.norm == "none" or self.bias_before_norm
        x = x if mask is None else x * mask.astype(x.dtype)
        return layers.conv(features, size, name, use_bias=bias, kernel_init=init, dtype=self.dtype)(x)

    def _norm(self, x, name, train, epsilon=None):
        if self.norm == "none":
            return x
        kwargs = {"momentum": self.bn_momentum, "epsilon": epsilon or self.bn_epsilon, "dtype": self.dtype}
        return layers.batch_norm(name, train=train, axis_name=self.axis_name, **kwargs)(x)

    def _activation(self, name):
        return layers.activation(self.activation, name)


GENERATORS = {"srresnet": SRResNet, "msrresnet": MSRResNet, "compact": CompactResNet}
