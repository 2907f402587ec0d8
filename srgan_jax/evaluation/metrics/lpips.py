"""LPIPS of images, with weights read from files."""

import jax
import jax.numpy as jnp
import numpy as np

from srgan_jax.evaluation.metrics.common import crop_border
from srgan_jax.models.extractors.lpips import lpips_distance
from srgan_jax.ops import color
from srgan_jax.weights.networks import read_network


def alex_weights() -> dict[str, np.ndarray]:
    """Returns the weights of `lpips_alex`; raises MissingFileError with the command that creates them."""
    return read_network("lpips_alex")[0]


def vgg_weights() -> dict[str, np.ndarray]:
    """Returns the weights of `lpips_vgg`; raises MissingFileError with the command that creates them."""
    return read_network("lpips_vgg")[0]


def _lpips(sr, hr, *, backbone, border=0, channel="y", size=None):
    weights = {"alex": alex_weights, "vgg": vgg_weights}[backbone]()
    x, y = (color.to_signed(jnp.asarray(crop_border(image, border, size)))[None] for image in (sr, hr))
    return float(lpips_distance(weights, x, y, backbone)[0])


def lpips_alex(sr: jax.Array, hr: jax.Array, **kwargs) -> float:
    """Computes `lpips_distance` with AlexNet on RGB; arguments as for `psnr`."""
    return _lpips(sr, hr, backbone="alex", **kwargs)


def lpips_vgg(sr: jax.Array, hr: jax.Array, **kwargs) -> float:
    """Computes `lpips_distance` with VGG16 on RGB; arguments as for `psnr`."""
    return _lpips(sr, hr, backbone="vgg", **kwargs)
