"""Layouts of the files of other projects: `LAYOUTS` and `DISCRIMINATOR_LAYOUTS`, in the order in which they are tried.

`layout.py` says how an architecture is added.
"""

from srgan_jax.weights.layouts import dat, discriminators, edsr, realplksr, span, swinir
from srgan_jax.weights.layouts.compact import SLOPELESS, compact, is_compact
from srgan_jax.weights.layouts.layout import Layout, Tensors
from srgan_jax.weights.layouts.rrdb import basicsr_rrdb, esrgan, esrgan_trunk
from srgan_jax.weights.layouts.srresnet import basicsr_msrresnet, eriklindernoren, lornatang, srgan5

__all__ = ["DISCRIMINATOR_LAYOUTS", "LAYOUTS", "Layout", "Tensors"]


def _has(*names: str):
    """Returns a `detect` that is True for files that have all these tensors."""
    return lambda tensors: all(name in tensors for name in names)


LAYOUTS: dict[str, Layout] = {
    "rrdb": Layout(
        basicsr_rrdb, _has("body.0.rdb1.conv1.weight"), "RRDBNet of BasicSR and Real-ESRGAN: body.0.rdb1.conv1"
    ),
    "rrdb-old": Layout(
        esrgan, _has("model.1.sub.0.RDB1.conv1.0.weight"), "RRDBNet of ESRGAN and ESRGAN+: model.1.sub.0.RDB1.conv1.0"
    ),
    "rrdb-trunk": Layout(
        esrgan_trunk, _has("RRDB_trunk.0.RDB1.conv1.weight"), "RRDBNet of ESRGAN and BSRGAN: RRDB_trunk.0.RDB1.conv1"
    ),
    "compact": Layout(
        compact,
        is_compact,
        "SRVGGNetCompact of Real-ESRGAN: body.0, body.1, ...",
        options={"activation": f"of files without PReLU vectors: {' or '.join(SLOPELESS)}; usually {SLOPELESS[0]}"},
    ),
    "srgan5": Layout(srgan5, _has("block1.0.weight", "block2.conv1.weight"), "SRResNet of leftthomas/SRGAN"),
    "lornatang": Layout(lornatang, _has("trunk.0.rcb.0.weight"), "SRResNet of Lornatang/SRGAN-PyTorch"),
    "eriklindernoren": Layout(
        eriklindernoren, _has("res_blocks.0.conv_block.0.weight"), "GeneratorResNet of eriklindernoren/PyTorch-GAN"
    ),
    "basicsr-msrresnet": Layout(
        basicsr_msrresnet, _has("body.0.conv1.weight", "upconv1.weight"), "MSRResNet of XPixelGroup/BasicSR"
    ),
    "span": Layout(span.span, _has("conv_1.sk.weight", "block_1.c1_r.sk.weight"), "SPAN", span.IGNORES, span.OPTIONS),
    "realplksr": Layout(
        realplksr.realplksr,
        _has("feats.0.weight", "feats.1.channel_mixer.0.weight", "feats.1.lk.conv.weight"),
        "RealPLKSR of neosr",
        realplksr.IGNORES,
        realplksr.OPTIONS,
    ),
    "dat": Layout(
        dat.dat, _has("conv_first.weight", "layers.0.blocks.0.ffn.sg.conv.weight"), "DAT", dat.IGNORES, dat.OPTIONS
    ),
    "swinir": Layout(
        swinir.swinir,
        swinir.is_swinir,
        "SwinIR",
        swinir.IGNORES,
        swinir.OPTIONS,
    ),
    "edsr": Layout(
        edsr.basicsr_edsr,
        _has("body.0.conv1.weight", "conv_after_body.weight", "conv_last.weight"),
        "EDSR of BasicSR: body.0.conv1",
        options=edsr.OPTIONS,
    ),
    "edsr-authors": Layout(
        edsr.authors_edsr,
        _has("head.0.weight", "body.0.body.0.weight", "tail.0.0.weight", "tail.1.weight"),
        "EDSR of EDSR-PyTorch: body.0.body.0",
        edsr.MEAN_LAYERS,
        edsr.OPTIONS,
    ),
}
DISCRIMINATOR_LAYOUTS: dict[str, Layout] = {
    "unet": Layout(
        discriminators.unet, discriminators.is_unet, "discriminator UNetDiscriminatorSN of BasicSR and Real-ESRGAN"
    ),
    "vgg": Layout(discriminators.vgg, discriminators.is_vgg, "discriminator VGGStyleDiscriminator of BasicSR"),
}
