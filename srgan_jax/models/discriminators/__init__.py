"""Discriminators: `[N, H, W, 3]` RGB in [0, 1] to logits (no sigmoid), one per image or a map; one file each."""

from typing import TYPE_CHECKING

from srgan_jax.runtime.lazy_table import LazyTable

if TYPE_CHECKING:
    import flax.linen as nn

DISCRIMINATORS: "LazyTable[type[nn.Module]]" = LazyTable(
    __name__,
    {
        "srgan": "srgan:SRGANDiscriminator",
        "unet": "unet:UNetDiscriminator",
        "features": "features:FeatureDiscriminator",
        "vgg": "vgg:VGGDiscriminator",
    },
)
