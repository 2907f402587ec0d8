"""Ports of the public weights of feature extractors and metrics, as `.safetensors`: `srgan-jax port NAME`.

A new port is a module and an entry in `PORTS`.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

from srgan_jax.models.extractors.vgg19 import CONVENTIONS
from srgan_jax.weights.ports import lpips, niqe, resnet152v2, vgg19
from srgan_jax.weights.ports.files import Official

__all__ = ["PORTS", "Port"]


class Port(NamedTuple):
    """A port of the weights of a network.

    Attributes:
      port: `(*files, out, **options) -> line`: reads the files, writes `out`, and returns a line for the user.
      about: a description, for the command's help.
      files: descriptions of the files, for the command's help.
      official: published files by name, the default first; empty if there is no download.
      option: the keyword argument of `port` that the command has as an option; "" for none.
      choices: the values of the option.
      required: whether the option is required.
    """

    port: Callable[..., str]
    about: str
    files: tuple[str, ...]
    official: Mapping[str, Official] = {}
    option: str = ""
    choices: tuple[str, ...] = ()
    required: bool = False


PORTS = {
    "vgg19": Port(
        vgg19.port,
        "ImageNet's VGG19, for perceptual losses and the metric vgg54",
        ("Keras' .h5 without top, torchvision's .pth, or .npz",),
        vgg19.OFFICIAL,
        option="convention",
        choices=tuple(CONVENTIONS),
    ),
    "resnet152v2": Port(
        resnet152v2.port,
        "the first layers of ImageNet's ResNet152V2, for the recipe restoration",
        ("Keras' .h5 without top",),
        {"keras": resnet152v2.OFFICIAL},
    ),
    "niqe": Port(niqe.port, "NIQE's parameters", ("BasicSR's niqe_pris_params.npz",), {"basicsr": niqe.OFFICIAL}),
    "lpips": Port(
        lpips.port,
        "LPIPS 0.1, for the metrics lpips_alex and lpips_vgg",
        ("torchvision's AlexNet or VGG16, .pth", "the linear heads of LPIPS v0.1, .pth"),
        option="backbone",
        choices=tuple(lpips.POSITIONS),
        required=True,
    ),
}
