"""The VGG54 content loss of the SRGAN paper as a metric. Compiles once for each image size."""

import functools
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np

from srgan_jax.evaluation.metrics.common import Size, crop_border
from srgan_jax.models.extractors import FEATURE_SCALE
from srgan_jax.models.extractors.vgg19 import VGG19
from srgan_jax.runtime import trees
from srgan_jax.weights.networks import network_path, read_network


def vgg54_weights() -> tuple[dict[str, np.ndarray], str]:
    """Returns the tensors and input convention of VGG19; raises MissingFileError with the command that creates them."""
    tensors, header = read_network("vgg19")
    return tensors, header["convention"]


@functools.partial(jax.jit, static_argnames=("convention", "tap"))
def vgg54_features(
    weights: Mapping[str, jax.Array | np.ndarray], image: jax.Array | np.ndarray, convention: str, tap: str = "relu5_4"
) -> jax.Array:
    """Returns the features of VGG19 at a layer, relu5_4 by default, scaled as in the content loss of the SRGAN paper.

    Args:
      weights: "layer/kernel" (HWIO) and "layer/bias", as `srgan-jax port vgg19` writes them.
      image: `[N, H, W, 3]` RGB in [0, 1].
      convention: input convention of the weights; with "caffe" the features are scaled by 1/12.75.
      tap: a name in `vgg19.TAPS`.
    """
    params = trees.unflatten({name: jnp.asarray(tensor, jnp.float32) for name, tensor in weights.items()})
    module = VGG19(taps=(tap,), convention=convention)
    features = cast("dict[str, jax.Array]", module.apply({"params": params}, image))
    return FEATURE_SCALE[convention] * features[tap]


@functools.lru_cache(maxsize=1)
def _weights_on_device(path: Path, modified_ns: int) -> tuple[dict[str, jax.Array], str]:
    """Returns `vgg54_weights`, copied to the device once for each file and time of its modification."""
    del path, modified_ns
    weights, convention = vgg54_weights()
    return jax.device_put(weights), convention


def features_of(image: np.ndarray, tap: str) -> np.ndarray:
    """Returns the features of `image [H, W, 3]` in [0, 1] at a layer of VGG19, scaled as in the content loss."""
    path = network_path("vgg19").absolute()
    weights, convention = _weights_on_device(path, path.stat().st_mtime_ns if path.is_file() else 0)
    with jax.default_matmul_precision("highest"):
        return np.asarray(vgg54_features(weights, image[None], convention, tap))


HR_CACHE_BYTES = 1 << 28
_hr_cache: dict[tuple, np.ndarray] = {}  # cache of the features of the last HR images, which every method uses


def features_of_hr(hr: np.ndarray, tap: str) -> np.ndarray:
    """Returns `features_of` an HR image, from a cache if it was asked for before."""
    key = (hashlib.sha256(hr.tobytes()).digest(), hr.shape, tap, str(network_path("vgg19").absolute()))
    if key not in _hr_cache:
        found = features_of(hr, tap)
        while _hr_cache and sum(kept.nbytes for kept in _hr_cache.values()) + found.nbytes > HR_CACHE_BYTES:
            del _hr_cache[next(iter(_hr_cache))]
        _hr_cache[key] = found
    return _hr_cache[key]


def vgg54(sr: jax.Array, hr: jax.Array, *, border: int = 0, channel: str = "y", size: Size = None) -> float:
    """Computes the content loss VGG54 of the SRGAN paper (equation 5) on RGB, with the mean over channels, not the sum.

    Arguments as for `psnr`; `channel` is ignored.
    """
    del channel
    x, y = (np.asarray(crop_border(image, border, size), np.float32) for image in (sr, hr))
    return float(np.square(features_of(x, "relu5_4") - features_of_hr(y, "relu5_4")).mean())
