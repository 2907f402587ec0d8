"""Generators: `[N, H, W, C]` in [0, 1] to `[N, H * scale, W * scale, C]`, by default RGB; one file each."""

from srgan_jax.models.generators.compact import CompactResNet
from srgan_jax.models.generators.dat import DAT
from srgan_jax.models.generators.edsr import EDSR
from srgan_jax.models.generators.msrresnet import MSRResNet
from srgan_jax.models.generators.realplksr import RealPLKSR
from srgan_jax.models.generators.restoration import RestorationNet
from srgan_jax.models.generators.rrdb import RRDBNet
from srgan_jax.models.generators.span import SPAN
from srgan_jax.models.generators.srresnet import SRResNet
from srgan_jax.models.generators.srvggnet import SRVGGNetCompact
from srgan_jax.models.generators.swinir import SwinIR

GENERATORS = {
    "srresnet": SRResNet,
    "msrresnet": MSRResNet,
    "compact": CompactResNet,
    "srvggnet_compact": SRVGGNetCompact,
    "rrdb": RRDBNet,
    "restoration": RestorationNet,
    "span": SPAN,
    "realplksr": RealPLKSR,
    "dat": DAT,
    "swinir": SwinIR,
    "edsr": EDSR,
}
