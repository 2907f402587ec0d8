"""Discriminators: `[N, H, W, 3]` RGB in [0, 1] to logits (no sigmoid), one per image or a map; one file each."""

from srgan_jax.models.discriminators.features import FeatureDiscriminator
from srgan_jax.models.discriminators.srgan import SRGANDiscriminator
from srgan_jax.models.discriminators.unet import UNetDiscriminator
from srgan_jax.models.discriminators.vgg import VGGDiscriminator

DISCRIMINATORS = {
    "srgan": SRGANDiscriminator,
    "unet": UNetDiscriminator,
    "features": FeatureDiscriminator,
    "vgg": VGGDiscriminator,
}
