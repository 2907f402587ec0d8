"""Generators: `[N, H, W, C]` in [0, 1] to `[N, H * scale, W * scale, C]`, by default RGB; one file each."""

from typing import TYPE_CHECKING

from srgan_jax.runtime.lazy_table import LazyTable

if TYPE_CHECKING:
    import flax.linen as nn

GENERATORS: "LazyTable[type[nn.Module]]" = LazyTable(
    __name__,
    {
        "srresnet": "srresnet:SRResNet",
        "msrresnet": "msrresnet:MSRResNet",
        "compact": "compact:CompactResNet",
        "srvggnet_compact": "srvggnet:SRVGGNetCompact",
        "rrdb": "rrdb:RRDBNet",
        "restoration": "restoration:RestorationNet",
        "span": "span:SPAN",
        "realplksr": "realplksr:RealPLKSR",
        "dat": "dat:DAT",
        "swinir": "swinir:SwinIR",
        "edsr": "edsr:EDSR",
    },
)
