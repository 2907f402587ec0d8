"""The first layers of ResNet152V2 (He et al., arXiv 1603.05027) as a feature extractor, as in Keras."""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from srgan_jax.models import layers
from srgan_jax.runtime.errors import lookup

TAPS = ("conv2_block1_preact_relu", "conv2_block1_1_relu")  # Keras' layers 6 and 9
PREPROCESSING = {"signed": lambda rgb: layers.from_unit(rgb, "signed")}


class ResNet152V2(nn.Module):
    """ResNet152V2 up to `conv2_block1_1_relu`: `[N, H, W, 3]` to `[N, H / 4, W / 4, 64]`.

    Batch normalisation is in inference mode, ported as a factor and an offset per channel.

    Attributes:
      taps: the feature maps to return, names in `TAPS`.
      convention: the input that the weights expect, a name in `PREPROCESSING`; in the header of a ported file.
    """

    TAPS: ClassVar[tuple[str, ...]] = TAPS

    taps: tuple[str, ...] = ("conv2_block1_1_relu",)
    convention: str = "signed"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array) -> dict[str, jax.Array]:
        for tap in self.taps:
            lookup(dict.fromkeys(TAPS), tap, "ResNet152V2 feature")
        x = lookup(PREPROCESSING, self.convention, "ResNet152V2 convention")(image).astype(self.dtype)
        x = layers.conv(64, 7, "conv1_conv", stride=2, dtype=self.dtype)(x)
        x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))  # as Keras: the maximum includes the padded zeros
        x = nn.max_pool(x, (3, 3), (2, 2))
        scale = self.param("conv2_block1_preact_bn_scale", nn.initializers.ones, (64,))
        offset = self.param("conv2_block1_preact_bn_offset", nn.initializers.zeros, (64,))
        preact = nn.relu(x * scale.astype(x.dtype) + offset.astype(x.dtype))
        last = nn.relu(layers.conv(64, 1, "conv2_block1_1_conv", dtype=self.dtype)(preact))
        features: dict[str, jax.Array] = dict(zip(TAPS, (preact, last), strict=True))
        return {tap: features[tap].astype(jnp.float32) for tap in self.taps}
