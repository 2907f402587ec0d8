"""The discriminator of ESRGAN's published code, in the manner of VGG: two convolutions for each resolution."""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from srgan_jax.models import layers, linear

LAST_PX = 4  # side of the last feature maps


class VGGDiscriminator(nn.Module):
    """A 3x3 convolution and a 4x4 one of stride 2 for each resolution, down to 4 x 4 pixels, then two dense layers.

    ESRGAN's code has this network where the paper (Wang et al., arXiv 1809.00219) names SRGAN's; XPixelGroup/BasicSR
    calls it `VGGStyleDiscriminator`. Maps `[N, crop_px, crop_px, 3]` in [0, 1] to `[N, 1]` logits. Batch normalisation
    follows all convolutions but the first. The first convolution takes images in [0, 1].
    """

    TAKES: ClassVar[tuple[str, ...]] = ("image",)

    crop_px: int = 128  # 4 times a power of 2; the published files have 128 or 256
    width: int = 64  # channels of the first two convolutions; then 2, 4 and at most 8 times as many
    dense: int = 100
    bn_momentum: float = 0.9  # fraction of the old running statistics kept at each update
    bn_epsilon: float = 1e-5
    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, image: jax.Array, *, train: bool = False, keys: jax.Array | None = None) -> jax.Array:
        del keys  # no dropout
        x = image.astype(self.dtype)
        for level in range(self._levels(image)):
            features = self.width * min(2**level, 8)
            for index, (size, stride) in enumerate(((3, 1), (4, 2))):
                has_norm = (level, index) != (0, 0)
                options = {"stride": stride, "pad": 1, "use_bias": not has_norm, "dtype": self.dtype}
                x = layers.conv(features, size, f"conv_{level}_{index}", **options)(x)
                x = self._norm(f"norm_{level}_{index}", train)(x) if has_norm else x
                x = nn.leaky_relu(x, 0.2)
        x = x.reshape(x.shape[0], -1)
        x = nn.leaky_relu(linear.Dense(self.dense, dtype=self.dtype, name="dense_1")(x), 0.2)
        return linear.Dense(1, dtype=self.dtype, name="dense_2")(x).astype(jnp.float32)

    def _levels(self, image: jax.Array) -> int:
        levels = (self.crop_px // LAST_PX).bit_length() - 1
        if levels < 1 or self.crop_px != LAST_PX * 2**levels:
            raise ValueError(f"VGG discriminator: expected crops with a side of 8, 16, 32, ... px, got {self.crop_px}")
        if image.shape[1:3] != (self.crop_px, self.crop_px):
            raise ValueError(f"VGG discriminator: expected {self.crop_px} x {self.crop_px} crops, got "
                             f"{image.shape[1:]}; set discriminator.crop_px to the side of the crops")  # fmt: skip
        return levels

    def _norm(self, name: str, train: bool) -> nn.BatchNorm:
        options = {"momentum": self.bn_momentum, "epsilon": self.bn_epsilon, "dtype": self.dtype}
        return layers.batch_norm(name, train=train, axis_name=self.axis_name, **options)
