"""What the transformers for super-resolution have in common: everything but their blocks."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from srgan_jax.models import layers, linear
from srgan_jax.runtime.errors import lookup

UPSAMPLING_FACTORS = {1: (), 2: (2,), 3: (3,), 4: (2, 2), 8: (2, 2, 2)}


class TransformerGenerator(nn.Module):
    """Groups of transformer blocks between convolutions (Liang et al., SwinIR, arXiv 2108.10257, figure 2).

    A group is blocks, a convolution, and the sum with the group's input. Subclasses have `_block`. Arguments as of
    `SRResNet`: `lr [N, H, W, 3]` in [0, 1], optionally `mask [N, H, W, 1]`. The layers take and return
    (image - mean) * img_range. Stochastic depth, which the authors train with, isn't there.

    The upsamplings, and the authors' names of them: "subpixel" ("pixelshuffle"), convolutions to `head_width` channels
    and sub-pixel convolutions; "direct" ("pixelshuffledirect"), one sub-pixel convolution; "nearest" ("nearest+conv"),
    nearest-neighbour upsampling and convolutions; "none", the result is added to the input, at scale 1.
    """

    depths: tuple[int, ...] = (6,) * 6  # blocks of each group
    heads: tuple[int, ...] = (6,) * 6  # of the attention in each group; they divide `width`
    width: int = 180
    scale: int = 4
    residual: str = "1conv"  # at the end of a group: one 3x3 convolution, or "3conv", three of a quarter of the width
    upsampling: str = "subpixel"  # or "direct", "nearest", "none"
    head_width: int = 64  # channels of "subpixel" and "nearest"
    qkv_bias: bool = True
    mean: tuple[float, ...] = (0.4488, 0.4371, 0.4040)  # see layers.channel_means
    img_range: float = 1.0
    channels: int = 3  # of LR and SR
    dtype: Any = jnp.float32
    axis_name: str | None = None  # under pmap: the axis over which batch statistics are shared
    remat: bool = False  # recompute the activations of blocks for the gradient instead of storing them

    @nn.compact
    def __call__(self, lr: jax.Array, *, train: bool = False, mask: jax.Array | None = None) -> jax.Array:
        height, width = lr.shape[1:3]
        mean = layers.channel_means(self.mean, self.channels)
        image, x, mask, scale = self._prepare((lr.astype(jnp.float32) - mean) * self.img_range, mask)
        first = self._conv(x.astype(self.dtype), self.width, "conv_in", mask)
        x = self._layer_norm(first, "layernorm_in")
        for group, depth in enumerate(self.depths):
            start = x
            for index in range(depth):
                at = (group, index, train, mask)
                x = layers.maybe_remat(self, lambda own, x, at=at: own._block(x, *at))(x)
            x = start + self._residual_conv(x, f"group_{group:02d}_conv", mask)
        x = first + self._residual_conv(self._layer_norm(x, "layernorm_out"), "conv_trunk", mask)
        x = lookup(UPSAMPLINGS, self.upsampling, "upsampling")(self, x, scale, mask).astype(jnp.float32)
        x = image + x if self.upsampling == "none" else x
        return (x / self.img_range + mean)[:, : height * self.scale, : width * self.scale]

    def _prepare(self, image, mask):
        """Returns image and network input, perhaps padded, their mask, and the scale from there."""
        return image, image, mask, self.scale

    def _block(self, x, group, index, train, mask):
        raise NotImplementedError

    def _residual_conv(self, x, name, mask):
        if lookup({"1conv": True, "3conv": False}, self.residual, "residual"):
            return self._conv(x, self.width, name, mask)
        x = self._leaky(self._conv(x, self.width // 4, f"{name}_1", mask))
        x = self._leaky(self._conv(x, self.width // 4, f"{name}_2", mask, size=1))
        return self._conv(x, self.width, f"{name}_3", mask)

    def _upsample_subpixel(self, x, scale, mask):
        x = nn.leaky_relu(self._conv(x, self.head_width, "conv_head", mask), 0.01)
        for index, factor in enumerate(lookup(UPSAMPLING_FACTORS, scale, "scale")):
            x = layers.pixel_shuffle(self._conv(x, self.head_width * factor**2, f"conv_up_{index}", mask), factor)
            mask = None if mask is None else layers.nearest(mask, factor)
        return self._conv(x, self.channels, "conv_out", mask)

    def _upsample_direct(self, x, scale, mask):
        return layers.pixel_shuffle(self._conv(x, self.channels * scale**2, "conv_out", mask), scale)

    def _upsample_nearest(self, x, scale, mask):
        x = nn.leaky_relu(self._conv(x, self.head_width, "conv_head", mask), 0.01)
        for index in range(lookup({1: 0, 2: 1, 4: 2, 8: 3}, scale, "scale")):
            x, mask = layers.nearest(x, 2), None if mask is None else layers.nearest(mask, 2)
            x = self._leaky(self._conv(x, self.head_width, f"conv_up_{index}", mask))
        x = self._leaky(self._conv(x, self.head_width, "conv_hr", mask))
        return self._conv(x, self.channels, "conv_out", mask)

    def _upsample_none(self, x, scale, mask):
        lookup({1: None}, scale, "scale")
        return self._conv(x, self.channels, "conv_out", mask)

    def _conv(self, x, features, name, mask, size=3):
        x = x if mask is None else x * mask.astype(x.dtype)
        return layers.conv(features, size, name, dtype=self.dtype)(x)

    def _dense(self, x, features, name, use_bias=True):
        init = nn.initializers.truncated_normal(0.02)
        return linear.Dense(features, use_bias=use_bias, kernel_init=init, dtype=self.dtype, name=name)(x)

    def _layer_norm(self, x, name):
        return nn.LayerNorm(epsilon=1e-5, use_fast_variance=False, dtype=self.dtype, name=name)(x)

    def _leaky(self, x):
        return nn.leaky_relu(x, 0.2)


UPSAMPLINGS = {
    "subpixel": TransformerGenerator._upsample_subpixel,
    "direct": TransformerGenerator._upsample_direct,
    "nearest": TransformerGenerator._upsample_nearest,
    "none": TransformerGenerator._upsample_none,
}
