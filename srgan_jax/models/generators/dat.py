"""DAT: the Dual Aggregation Transformer."""

import math

import flax.linen as nn
import jax.numpy as jnp

from srgan_jax.models import layers, linear
from srgan_jax.models.convolution import depthwise_convolution
from srgan_jax.models.transformer import TransformerGenerator
from srgan_jax.models.windows import Windows, attention, extent_of, relative_offsets


class DAT(TransformerGenerator):
    """Blocks with attention between pixels and between channels in turn (Chen et al., arXiv 2308.03364, figure 2).

    Spatial attention is inside windows: half of the channels in windows of `split` rows and columns, the other half in
    windows of `split` columns and rows, shifted in every second spatial block. Channel attention is over the whole
    image, so tiles never have quite its result. Both are combined with a depthwise convolution of the values by the
    adaptive interaction module (section 3.3). Queries, keys and values are padded by zeros to whole windows, as there.

    The published ones: DAT is the default; DAT-S has split (8, 16) and expansion 2; DAT-2 expansion 2; DAT-light
    depths (18,), heads (6,), width 60, expansion 2, residual "3conv" and upsampling "direct".
    """

    split: tuple[int, int] = (8, 32)  # the sides of a window
    expansion: float = 4.0  # channels inside the feed-forward network, in units of `width`
    norm: str = "batch"  # or "none": folded into the convolutions, for inference
    bn_epsilon: float = 1e-5

    @property
    def period_px(self) -> int:
        """The side of the blocks that windows of both directions fill."""
        return max(self.split)

    @property
    def least_radius_px(self) -> float:
        """Channel attention, and the means of the interaction module, are over the whole image."""
        return math.inf

    def _block(self, x, group, index, train, mask):
        name = f"group_{group:02d}_block_{index:02d}"
        # As the authors: shifted are blocks 2, 6, 10, ... of even groups, and 0, 4, 8, ... of odd ones.
        shifted = index % 4 == (2 if group % 2 == 0 else 0)
        normal = self._layer_norm(x, f"{name}_layernorm_1")
        qkv = self._dense(normal, 3 * self.width, f"{name}_qkv", self.qkv_bias)
        attend = self._attend_to_pixels if index % 2 == 0 else self._attend_to_channels
        x = x + self._dense(attend(qkv, name, self.heads[group], shifted, train, mask), self.width, f"{name}_proj")
        hidden = int(self.width * self.expansion)
        y = nn.gelu(self._dense(self._layer_norm(x, f"{name}_layernorm_2"), hidden, f"{name}_fc_1"), approximate=False)
        y, gate = jnp.split(y, 2, axis=-1)
        gate = self._depthwise(self._layer_norm(gate, f"{name}_layernorm_gate"), f"{name}_conv_gate", mask)
        return x + self._dense(y * gate, self.width, f"{name}_fc_2")

    def _attend_to_pixels(self, qkv, name, heads, shifted, train, mask):
        height, width = qkv.shape[1:3]
        local = self._local(qkv[..., 2 * self.width :], name, train, mask)
        whole = max(self.split)
        padded = qkv if mask is None else qkv * mask.astype(qkv.dtype)
        padded = jnp.pad(padded, ((0, 0), (0, -height % whole), (0, -width % whole), (0, 0)))
        q, k, v = jnp.split(padded, 3, axis=-1)
        half, parts = self.width // 2, []
        for branch, size in enumerate((self.split, (self.split[1], self.split[0]))):
            windows = Windows(size, (size[0] // 2, size[1] // 2) if shifted else (0, 0))
            channels = slice(0, half) if branch == 0 else slice(half, None)
            bias = self._position_bias(size, heads // 2, f"{name}_position_{branch}")
            part = jnp.stack([x[..., channels] for x in (q, k, v)])
            parts.append(attention(part, windows, heads // 2, bias, extent_of(mask, whole)))
        attended = jnp.concatenate(parts, axis=-1)[:, :height, :width]
        attended, local = (
            attended * nn.sigmoid(self._channel_map(local, name, train, mask)),
            local * nn.sigmoid(self._spatial_map(attended, name, train)),
        )
        return attended + local

    def _attend_to_channels(self, qkv, name, heads, shifted, train, mask):
        n, height, width, _ = qkv.shape
        local = self._local(qkv[..., 2 * self.width :], name, train, mask)
        qkv = qkv if mask is None else qkv * mask.astype(qkv.dtype)
        q, k, v = (x.reshape(n, height * width, heads, -1) for x in jnp.split(qkv, 3, axis=-1))
        q, k = (x / jnp.maximum(jnp.linalg.norm(x.astype(jnp.float32), axis=1, keepdims=True), 1e-12) for x in (q, k))
        temperature = self.param(f"{name}_temperature", nn.initializers.ones_init(), (heads,))
        logits = jnp.einsum("nphd,nphe->nhde", q, k) * temperature[:, None, None]
        attended = jnp.einsum("nhde,nphe->nphd", nn.softmax(logits, axis=-1).astype(v.dtype), v)
        attended = attended.reshape(n, height, width, self.width)
        attended, local = (
            attended * nn.sigmoid(self._spatial_map(local, name, train)),
            local * nn.sigmoid(self._channel_map(attended, name, train, mask)),
        )
        return attended + local

    def _local(self, values, name, train, mask):
        """Returns the depthwise convolution of the values, normalised and activated."""
        return self._norm_gelu(self._depthwise(values, f"{name}_conv_local", mask), f"{name}_norm_local", train)

    def _channel_map(self, x, name, train, mask):
        """Returns logits of each channel, `[N, 1, 1, C]`, from means over the image."""
        if mask is None:
            means = x.mean(axis=(1, 2), keepdims=True)
        else:
            inside = mask.astype(jnp.float32)
            means = ((x * inside).sum(axis=(1, 2), keepdims=True) / inside.sum(axis=(1, 2), keepdims=True)).astype(
                x.dtype
            )
        y = self._pointwise(means, max(1, self.width // 8), f"{name}_conv_channels")
        return self._pointwise(self._norm_gelu(y, f"{name}_norm_channels", train), self.width, f"{name}_conv_channel")

    def _spatial_map(self, x, name, train):
        """Returns logits of each pixel, `[N, H, W, 1]`."""
        y = self._pointwise(x, max(1, self.width // 16), f"{name}_conv_pixels")
        return self._pointwise(self._norm_gelu(y, f"{name}_norm_pixels", train), 1, f"{name}_conv_pixel")

    def _position_bias(self, size, heads, name):
        """Returns a bias for each difference of two positions, `[differences, heads]`, from a small network."""
        width = max(1, self.width // 2 // 4 // 4)
        x = self._dense(jnp.asarray(relative_offsets(size)), width, f"{name}_in")
        for index, features in enumerate((width, width, heads)):
            x = self._dense(nn.relu(self._layer_norm(x, f"{name}_layernorm_{index}")), features, f"{name}_{index}")
        return x

    def _norm_gelu(self, x, name, train):
        if self.norm == "batch":
            options = {"momentum": 0.9, "epsilon": self.bn_epsilon, "dtype": self.dtype}
            x = layers.batch_norm(name, train=train, axis_name=self.axis_name, **options)(x)
        return nn.gelu(x, approximate=False)

    def _depthwise(self, x, name, mask):
        x = x if mask is None else x * mask.astype(x.dtype)
        options = {"feature_group_count": x.shape[-1], "conv_general_dilated": depthwise_convolution}
        return layers.conv(x.shape[-1], 3, name, dtype=self.dtype, **options)(x)

    def _pointwise(self, x, features, name):
        return linear.Dense(features, dtype=self.dtype, name=name)(x)
