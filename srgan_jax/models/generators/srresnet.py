"""SRResNet, the generator of SRGAN."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from srgan_jax.models import layers
from srgan_jax.models.blocks import convolution as on_blocks
from srgan_jax.models.convolution import convolution, few_channel_convolution
from srgan_jax.runtime.errors import lookup

OUTPUTS = {"linear": lambda x: x, "tanh": jnp.tanh}
UPSAMPLING_FACTORS = {2: (2,), 3: (3,), 4: (2, 2), 8: (2, 2, 2)}


class SRResNet(nn.Module):
    """The generator of SRGAN (Ledig et al., arXiv 1609.04802, figure 4) with its common variations as fields.

    Maps `lr [N, H, W, 3]` in [0, 1] to `[N, H * scale, W * scale, 3]` in about [0, 1], not clipped. `input_range` and
    `output_range` are the ranges inside: of the first convolution's input and the last one's output.

    `mask [N, H, W, 1]` is 1 inside the image and 0 outside; the input of every convolution is zeroed outside. So an
    image in a larger canvas, padded with its outermost pixels, has the same result as alone.
    """

    # The architecture: JSON values only, stored in the header of a weights file.
    blocks: int = 16
    width: int = 64
    scale: int = 4  # 2, 3, 4 or 8
    activation: str = "prelu"  # a name in layers.ACTIVATIONS; "prelu_shared" has one slope per layer
    block_order: str = "norm_activation"  # inside a block; or "activation_norm"
    shared_blocks: bool = False  # one convolution and norm for all blocks and the trunk, one activation for all layers
    norm: str = "batch"  # or "none"
    bn_momentum: float = 0.9  # fraction of the old running statistics kept at each update
    bn_epsilon: float = 1e-5
    norm_upsampling: bool = False  # batch normalisation in the upsampling too
    bn_epsilon_upsampling: float = 1e-5
    trunk: str = "norm"  # follows the convolution after the blocks; or "activation"
    use_bias: bool = True  # of the convolutions that no norm follows
    bias_before_norm: bool = False  # has no effect before batch normalisation; for imported weights
    upsampling: str = "subpixel"  # or "nearest", then a convolution: no checkerboard artefacts
    upsampling_width: int = 0  # channels of the convolutions of "nearest"; 0: `width`
    initialization: str = "lecun"  # a name in layers.INITIALIZATIONS
    output: str = "linear"  # or "tanh"
    base: str = "none"  # or "bilinear", "bicubic": the result is added to the interpolated input
    input_range: str = "unit"  # a name in layers.RANGES
    output_range: str = "signed"
    channels: int = 3  # of LR and SR
    # Options of the computation, not part of the architecture.
    dtype: Any = jnp.float32
    axis_name: str | None = None  # under pmap: the axis over which batch statistics are shared
    remat: bool = False  # recompute the activations of blocks for the gradient instead of storing them

    @nn.compact
    def __call__(self, lr: jax.Array, *, train: bool = False, mask: jax.Array | None = None) -> jax.Array:
        factors = lookup(UPSAMPLING_FACTORS, self.scale, "scale")
        lookup(dict.fromkeys(("batch", "none")), self.norm, "norm")
        x = layers.from_unit(lr, self.input_range).astype(self.dtype)
        shared = self._activation("act_shared") if self.shared_blocks else None
        x = first = (shared or self._activation("act_in"))(self._conv(self.width, 9, "conv_in", mask)(x))
        residual, trunk = self._shared_layers(shared, train, mask) if shared else self._separate_layers(train, mask)
        for index in range(self.blocks):
            x = x + residual(index, x)
        x = first + trunk(x)
        can_shuffle_last = self.upsampling == "subpixel" and not shared and self.activation in layers.ON_BLOCKS
        blocks = factors[-1] if can_shuffle_last else 1  # the last convolution also does the last pixel shuffle
        for index, factor in enumerate(factors):
            stays = blocks if index == len(factors) - 1 else 1
            upsample = lambda own, x, at=(index, factor, stays, shared, train, mask): own._upsample(x, *at)  # noqa: E731
            x = upsample(self, x) if shared else layers.maybe_remat(self, upsample)(x)
            mask = mask if mask is None or stays > 1 else layers.nearest(mask, factor)
        options = {"init_scale": 1e-4 if self.base != "none" else 1.0, "blocks": blocks}
        run = few_channel_convolution if train else convolution
        return self._finish(self._conv(self.channels, 9, "conv_out", mask, run=run, **options)(x), lr)

    def _finish(self, x: jax.Array, lr: jax.Array) -> jax.Array:
        x = x.astype(jnp.float32)
        if self.base != "none":
            base = layers.interpolate(lr.astype(jnp.float32), self.scale, self.base)
            x = x + layers.from_unit(base, self.output_range)
        x = lookup(OUTPUTS, self.output, "output activation")(x)
        return layers.to_unit(x, self.output_range)

    def _upsample(self, x, index, factor, stays, shared, train, mask):
        subpixel = lookup({"subpixel": True, "nearest": False}, self.upsampling, "upsampling")
        upsampled_mask = None if mask is None else layers.nearest(mask, factor)
        width = self.width * factor**2 if subpixel else self.upsampling_width or self.width
        x = x if subpixel else layers.nearest(x, factor)
        conv_mask = mask if subpixel else upsampled_mask
        x = self._conv(width, 3, f"conv_up_{index}", conv_mask, before_norm=self.norm_upsampling)(x)
        x = self._norm(f"norm_up_{index}", train, self.bn_epsilon_upsampling)(x) if self.norm_upsampling else x
        if stays > 1:
            return layers.ON_BLOCKS[self.activation](f"act_up_{index}", factor)(x)
        x = layers.pixel_shuffle(x, factor) if subpixel else x
        return (shared or self._activation(f"act_up_{index}"))(x)

    def _separate_layers(self, train, mask):
        """Returns the residual branches of the blocks and the trunk after them."""

        def residual(index, x):
            return layers.maybe_remat(self, lambda own, x: own._residual(x, f"block_{index:02d}", train, mask))(x)

        def trunk(x):
            has_norm = lookup({"norm": True, "activation": False}, self.trunk, "trunk")
            x = self._conv(self.width, 3, "conv_trunk", mask, before_norm=has_norm)(x)
            return (self._norm("norm_trunk", train) if has_norm else self._activation("act_trunk"))(x)

        return residual, trunk

    def _residual(self, x, name, train, mask):
        # Without normalisation the branch is initialised small; else the sum of many blocks is far too large at first.
        last_scale = 0.01 if self.norm == "none" else 1.0
        norm_first = lookup(layers.BLOCK_ORDERS, self.block_order, "block order")
        conv_1 = self._conv(self.width, 3, f"{name}_conv_1", mask, before_norm=norm_first)
        norm_1, act = self._norm(f"{name}_norm_1", train), self._activation(f"{name}_act")
        conv_2 = self._conv(self.width, 3, f"{name}_conv_2", mask, before_norm=True, init_scale=last_scale)
        return self._branch(x, conv_1, norm_1, act, conv_2, self._norm(f"{name}_norm_2", train))

    def _shared_layers(self, act, train, mask):
        """As `_separate_layers`, with one convolution, norm and activation for all."""
        conv = self._conv(self.width, 3, "block_shared_conv", mask, before_norm=True)
        norm = self._norm("block_shared_norm", train)
        return lambda index, x: self._branch(x, conv, norm, act, conv, norm), lambda x: norm(conv(x))

    def _branch(self, x, conv_1, norm_1, act, conv_2, norm_2):
        norm_first = lookup(layers.BLOCK_ORDERS, self.block_order, "block order")
        x = conv_1(x)
        return norm_2(conv_2(act(norm_1(x)) if norm_first else norm_1(act(x))))

    def _conv(self, features, size, name, mask, *, before_norm=False, init_scale=1.0, run=convolution, blocks=1):
        initialization = lookup(layers.INITIALIZATIONS, self.initialization, "initialization")
        small = {"kernel_init": nn.initializers.variance_scaling(init_scale, "fan_in", "truncated_normal")}
        bias = self.norm == "none" or self.bias_before_norm if before_norm else self.use_bias
        run = functools.partial(on_blocks, run, blocks) if blocks > 1 else run
        options = {"use_bias": bias, "dtype": self.dtype, "conv_general_dilated": run, "blocks": blocks}

        @functools.cache  # one layer, which the blocks may share
        def layer(channels):
            initializers: dict[str, Any] = (
                initialization(size * size * channels // blocks**2) if init_scale == 1.0 else small
            )
            return layers.conv(features, size, name, **options, **initializers)

        return lambda x: layer(x.shape[-1])(x if mask is None else x * mask.astype(x.dtype))

    def _norm(self, name, train, epsilon=None):
        if self.norm == "none":
            return lambda x: x
        kwargs = {"momentum": self.bn_momentum, "epsilon": epsilon or self.bn_epsilon, "dtype": self.dtype}
        return layers.batch_norm(name, train=train, axis_name=self.axis_name, **kwargs)

    def _activation(self, name):
        return layers.activation(self.activation, name)
