"""SwinIR: image restoration with the Swin Transformer."""

import flax.linen as nn
import jax.numpy as jnp

from srgan_jax.models import layers
from srgan_jax.models.transformer import TransformerGenerator
from srgan_jax.models.windows import Windows, attention, extent_of


class SwinIR(TransformerGenerator):
    """Blocks with attention inside windows, shifted in every second one (Liang et al., arXiv 2108.10257, figure 2).

    Sides that windows don't divide are padded by reflection, as in the authors' evaluation. The receptive field's
    radius grows by about half a window with each block: with 24 or 36 of them tiles, which begin where windows do, have
    nearly but not quite the result of the whole image.

    The published ones: classical SR is the default; lightweight has depths and heads (6,) * 4, width 60, expansion 2
    and upsampling "direct"; real-world SR has "nearest", and its large model depths (6,) * 9, heads (8,) * 9, width 240
    and residual "3conv"; JPEG artefacts: scale 1, upsampling "none", window 7, img_range 255.
    """

    window: int = 8  # the side of a window
    expansion: float = 2.0  # channels inside the feed-forward network, in units of `width`
    unshuffle: int = 1  # pixel-unshuffle by this factor at the beginning

    @property
    def period_px(self) -> int:
        """The side of a window in LR pixels."""
        return self.window * self.unshuffle

    @property
    def least_radius_px(self) -> int:
        """Each block adds half a window."""
        return sum(self.depths) * (self.window // 2) * self.unshuffle

    def _prepare(self, image, mask):
        image, mask = layers.reflect_to_multiple(image, self.period_px, mask)
        if self.unshuffle == 1:
            return image, image, mask, self.scale
        mask = None if mask is None else layers.pixel_unshuffle(mask, self.unshuffle)[..., :1]
        return image, layers.pixel_unshuffle(image, self.unshuffle), mask, self.scale * self.unshuffle

    def _block(self, x, group, index, train, mask):
        name = f"group_{group:02d}_block_{index:02d}"
        shift = 0 if index % 2 == 0 else self.window // 2
        windows, heads = Windows((self.window, self.window), (shift, shift)), self.heads[group]
        y = self._dense(self._layer_norm(x, f"{name}_layernorm_1"), 3 * self.width, f"{name}_qkv", self.qkv_bias)
        table = ((2 * self.window - 1) ** 2, heads)
        bias = self.param(f"{name}_position", nn.initializers.truncated_normal(0.02), table)
        qkv = jnp.stack(jnp.split(y, 3, axis=-1))
        attended = attention(qkv, windows, heads, bias, extent_of(mask, self.window))
        x = x + self._dense(attended, self.width, f"{name}_proj")
        y = self._dense(self._layer_norm(x, f"{name}_layernorm_2"), int(self.width * self.expansion), f"{name}_fc_1")
        return x + self._dense(nn.gelu(y, approximate=False), self.width, f"{name}_fc_2")
