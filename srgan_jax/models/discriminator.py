"""Discriminators: `[N, H, W, 3]` RGB in [0, 1] to logits (no sigmoid)."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from srgan_jax import color
from srgan_jax.models import layers


class SRGANDiscriminator(nn.Module):
    """The discriminator of SRGAN (arXiv 1609.04802, figure 4): eight convolutions, a dense head, one logit a picture.

    The dense head fixes the crop: `[N, crop_px, crop_px, 3]` in [0, 1] gives `[N, 1]` logits. The layers see [-1, 1].
    """

    crop_px: int = 96
    width: int = 64  # channels of the first convolution; 2, 4 and 8 times as many follow
    dense: int = 1024
    bn_momentum: float = 0.9  # share of the old running statistics kept at each update
    bn_epsilon: float = 1e-5
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool = False) -> jax.Array:
        if image.shape[1:] != (self.crop_px, self.crop_px, 3):
            raise ValueError(
                f"this discriminator judges {self.crop_px} x {self.crop_px} RGB crops, got {image.shape[1:]}; "
                "set discriminator.crop_px to the crop"
            )
        x = color.to_signed(image).astype(self.dtype)
        for index in range(8):
            features, stride = self.width * 2 ** (index // 2), 1 + index % 2
            x = layers.conv(features, 3, f"conv_{index + 1}", stride=stride, use_bias=index == 0, dtype=self.dtype)(x)
            x = self._norm(x, f"norm_{index + 1}", train) if index else x
            x = nn.leaky_relu(x, 0.2)
        x = x.reshape(x.shape[0], -1)
        x = nn.leaky_relu(nn.Dense(self.dense, dtype=self.dtype, name="dense_1")(x), 0.2)
        return nn.Dense(1, dtype=self.dtype, name="dense_2")(x).astype(jnp.float32)

    def _norm(self, x: jax.Array, name: str, train: bool) -> jax.Array:
        kwargs = {"momentum": self.bn_momentum, "epsilon": self.bn_epsilon, "dtype": self.dtype}
        return layers.batch_norm(name, train=train, axis_name=self.axis_name, **kwargs)(x)


DISCRIMINATORS = {"srgan": SRGANDiscriminator}
