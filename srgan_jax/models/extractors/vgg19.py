"""VGG19 as a feature extractor: `[N, H, W, 3]` RGB in [0, 1] to named feature maps."""

from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from srgan_jax.models import layers
from srgan_jax.runtime.errors import lookup

CONVOLUTIONS_PER_BLOCK = (2, 2, 4, 4, 4)  # VGG19 (Simonyan & Zisserman, arXiv 1409.1556, column E)
TAPS = tuple(
    f"{kind}{block}_{index}"
    for block, count in enumerate(CONVOLUTIONS_PER_BLOCK, start=1)
    for index in range(1, count + 1)
    for kind in ("conv", "relu")
)


def _caffe(rgb: jax.Array) -> jax.Array:
    """Returns BGR in 0 to 255, minus ImageNet's mean: for the original Caffe weights and Keras'."""
    return rgb[..., ::-1] * 255.0 - jnp.asarray([103.939, 116.779, 123.68])


def _torchvision(rgb: jax.Array) -> jax.Array:
    """Returns RGB in 0 to 1, minus ImageNet's mean, divided by its standard deviation."""
    return layers.from_unit(rgb, "imagenet")


CONVENTIONS = {"caffe": _caffe, "torchvision": _torchvision}  # of the published weights
PREPROCESSING = CONVENTIONS | {  # and inputs that sources give to such weights without preprocessing
    "bgr_unit": lambda rgb: rgb[..., ::-1],  # BGR in [0, 1]
    "signed": lambda rgb: layers.from_unit(rgb, "signed"),  # RGB in [-1, 1]
}


class VGG19(nn.Module):
    """VGG19's convolutions; returns feature maps before ("conv5_4") or after ("relu5_4") the ReLU of any of them.

    Attributes:
      taps: the feature maps to return, names in `TAPS`; later layers are not computed.
      convention: the input of the first convolution, a name in `PREPROCESSING`; what the weights expect is in the
        header of a ported file.
    """

    TAPS: ClassVar[tuple[str, ...]] = TAPS

    taps: tuple[str, ...] = ("relu5_4",)
    convention: str = "caffe"
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array) -> dict[str, jax.Array]:
        for tap in self.taps:
            lookup(dict.fromkeys(TAPS), tap, "VGG19 feature")
        features = {}
        x = lookup(PREPROCESSING, self.convention, "VGG19 convention")(image).astype(self.dtype)
        for block, count in enumerate(CONVOLUTIONS_PER_BLOCK, start=1):
            x = layers.max_pool_after_relu(x) if block > 1 else x
            for index in range(1, count + 1):
                x = layers.conv(64 * min(2 ** (block - 1), 8), 3, f"block{block}_conv{index}", dtype=self.dtype)(x)
                features[f"conv{block}_{index}"] = x
                features[f"relu{block}_{index}"] = x = nn.relu(x)
                if all(tap in features for tap in self.taps):
                    return {tap: features[tap].astype(jnp.float32) for tap in self.taps}
        raise AssertionError("unreachable: every tap is a layer")
