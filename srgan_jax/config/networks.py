"""The networks of the default config: the sections `config.generator` and `config.discriminator`."""

from collections.abc import Mapping
from types import MappingProxyType

Options = Mapping[str, object]  # keyword arguments of a network, degradation or loss term, and for some its "name"
NETWORK_MINIMA = {"blocks": 0, "width": 1, "scale": 1, "dense": 1}  # smallest values of fields of networks


def generator_fields() -> Options:
    """Returns the default generator: SRResNet's, with the fields that several recipes change."""
    return MappingProxyType({
        "name": "srresnet",
        "blocks": 16,
        "width": 64,
        "scale": 4,
        "activation": "prelu",  # layers.ACTIVATIONS
        "block_order": "norm_activation",  # or "activation_norm"
        "shared_blocks": False,  # all blocks share their parameters, all layers their activation
        "norm": "batch",  # or "none"
        "bn_momentum": 0.9,
        "bn_epsilon": 1e-5,
        "norm_upsampling": False,
        "upsampling": "subpixel",  # or "nearest", which avoids checkerboard artefacts
        "upsampling_width": 0,  # channels of "nearest"; 0: width
        "use_bias": True,
        "bias_before_norm": False,  # has no effect; for the parameters of a source to the last one
        "initialization": "lecun",  # or "normal": std 0.02; "pytorch", "keras": the defaults of these libraries
        "output": "linear",  # or "tanh"
        "base": "none",  # or "bilinear", "bicubic": the network's output is added to the interpolated input
        "input_range": "unit",  # range of values that the layers take and return: layers.RANGES
        "output_range": "signed",
    })  # fmt: skip


def discriminator_fields() -> Options:
    """Returns the default discriminator: SRGAN's."""
    return MappingProxyType({
        "name": "srgan",
        "width": 64,
        "head": "flatten",  # or "positions", "patch": one logit per position
        "dense": 1024,
        "strides": "alternating",  # or "one"
        "padding": "symmetric",  # or "keras": of stride 2, see layers.PADDINGS
        "input_range": "signed",  # layers.RANGES
        "block_order": "norm_activation",
        "negative_slope": 0.2,
        "norm": "batch",  # or "none"
        "bn_momentum": 0.9,
        "bn_epsilon": 1e-5,
        "use_bias": True,
        "spectral_norm": False,
        "minibatch_kernels": 0,  # minibatch discrimination: number of kernels, about 16; 0: none
        "dropout": 0.0,  # fraction of the logits
        "initialization": "lecun",
    })  # fmt: skip
