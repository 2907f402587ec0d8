"""Metrics that see with a network: LPIPS, VGG19's features. Each compiles anew for each size."""

import functools
import hashlib
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

from srgan_jax import color
from srgan_jax.errors import lookup
from srgan_jax.metrics.common import Size, cut, load_weights, weights_path
from srgan_jax.models.extractor import FEATURE_SCALE, VGG19

# ------------------------------------------------------------------------------------------------ LPIPS

VGG_BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class Layer(NamedTuple):
    """A convolution and its ReLU."""

    features: int
    size: int = 3
    stride: int = 1
    padding: int = 1
    pool: int = 0  # side of the maximum pooling with stride 2 before it; 0 for none
    tapped: bool = True  # whether it is compared


ALEX = (Layer(64, 11, 4, 2), Layer(192, 5, 1, 2, pool=3), Layer(384, pool=3), Layer(256), Layer(256))


def layers_of(backbone: str) -> tuple[Layer, ...]:
    """The convolutions of "alex" (AlexNet) or "vgg" (VGG16)."""
    if lookup({"alex": True, "vgg": False}, backbone, "LPIPS backbone"):
        return ALEX
    return tuple(
        Layer(width, pool=2 if block and not index else 0, tapped=index == count - 1)
        for block, (width, count) in enumerate(VGG_BLOCKS)
        for index in range(count)
    )


def _max_pool(x: jax.Array, side: int) -> jax.Array:
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, side, side, 1), (1, 2, 2, 1), "VALID")


def _taps(weights: Mapping[str, jax.Array], x: jax.Array, backbone: str) -> list[jax.Array]:
    taps = []
    for index, layer in enumerate(layers_of(backbone)):
        x = _max_pool(x, layer.pool) if layer.pool else x
        x = jax.lax.conv_general_dilated(
            x, weights[f"conv{index}/kernel"], (layer.stride, layer.stride), [(layer.padding, layer.padding)] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"), precision="highest",
        )  # fmt: skip
        x = jax.nn.relu(x + weights[f"conv{index}/bias"])
        taps += [x] if layer.tapped else []
    return taps


@functools.partial(jax.jit, static_argnames="backbone")
def lpips_distance(weights: Mapping[str, jax.Array], x: jax.Array, y: jax.Array, backbone: str) -> jax.Array:
    """LPIPS (Zhang et al., arXiv 1801.03924), version 0.1 with its linear heads; lower is better.

    Args:
      weights: "convN/kernel" (HWIO), "convN/bias" of the backbone, "linN" `[C]` of the heads.
      x: `[N, H, W, 3]` RGB in [-1, 1].
      y: the same shape.
      backbone: "alex" or "vgg" (VGG16).

    Returns:
      `[N]`.
    """
    both = ((image - jnp.array(SHIFT)) / jnp.array(SCALE) for image in (x, y))
    total = 0.0
    for index, (a, b) in enumerate(zip(*(_taps(weights, image, backbone) for image in both), strict=True)):
        a, b = (t / (jnp.linalg.norm(t, axis=-1, keepdims=True) + 1e-10) for t in (a, b))
        total += jnp.sum(jnp.square(a - b) * weights[f"lin{index}"], axis=-1).mean(axis=(1, 2))
    return total


def _lpips_weights(backbone: str) -> dict[str, np.ndarray]:
    command = f"python scripts/port_lpips.py --backbone {backbone} BACKBONE.pth HEADS.pth"
    return load_weights(f"lpips_{backbone}.safetensors", command)


def _lpips(sr, hr, *, backbone, border=0, channel="y", size=None):
    weights = _lpips_weights(backbone)
    x, y = (color.to_signed(jnp.asarray(cut(image, border, size)))[None] for image in (sr, hr))
    return float(lpips_distance(weights, x, y, backbone)[0])


def lpips_alex(sr: jax.Array, hr: jax.Array, **kwargs) -> float:
    """`lpips_distance` with AlexNet on RGB; arguments as for `psnr`."""
    return _lpips(sr, hr, backbone="alex", **kwargs)


def lpips_vgg(sr: jax.Array, hr: jax.Array, **kwargs) -> float:
    """`lpips_distance` with VGG16 on RGB; arguments as for `psnr`."""
    return _lpips(sr, hr, backbone="vgg", **kwargs)


# ------------------------------------------------------------------------------------------ VGG19's features


VGG19_FILE = "vgg19.safetensors"


def _vgg19_weights() -> tuple[dict[str, np.ndarray], str]:
    """Tensors, and the convention of their input."""
    from safetensors import safe_open

    tensors = load_weights(VGG19_FILE, "python scripts/port_vgg19.py --download")
    with safe_open(weights_path(VGG19_FILE), framework="numpy") as file:
        return tensors, file.metadata()["convention"]


@functools.partial(jax.jit, static_argnames="convention")
def vgg54_features(weights: Mapping[str, jax.Array], image: jax.Array, convention: str) -> jax.Array:
    """VGG19's relu5_4, scaled as the SRGAN paper's content loss has it.

    Args:
      weights: "layer/kernel" (HWIO) and "layer/bias", as `scripts/port_vgg19.py` writes them.
      image: `[N, H, W, 3]` RGB in [0, 1].
      convention: of the weights; with "caffe" the features are scaled by 1/12.75.
    """
    flat = {tuple(name.split("/")): jnp.asarray(tensor, jnp.float32) for name, tensor in weights.items()}
    module = VGG19(taps=("relu5_4",), convention=convention)
    return FEATURE_SCALE[convention] * module.apply({"params": unflatten_dict(flat)}, image)["relu5_4"]


def _vgg54_features(picture: np.ndarray) -> np.ndarray:
    weights, convention = _vgg19_weights()
    with jax.default_matmul_precision("highest"):
        return np.asarray(vgg54_features(weights, picture[None], convention))


_seen: dict[tuple, np.ndarray] = {}  # features of the last 128 HR pictures: each is needed for every method


def _vgg54_of_hr(hr: np.ndarray) -> np.ndarray:
    key = (hashlib.sha256(hr.tobytes()).digest(), hr.shape, weights_path(VGG19_FILE))
    if key not in _seen:
        if len(_seen) == 128:
            del _seen[next(iter(_seen))]
        _seen[key] = _vgg54_features(hr)
    return _seen[key]


def vgg54(sr: jax.Array, hr: jax.Array, *, border: int = 0, channel: str = "y", size: Size = None) -> float:
    """The SRGAN paper's content loss VGG54 (equation 5) on RGB, the mean over channels in place of the sum.

    Arguments as for `psnr`; the channel isn't looked at.
    """
    del channel
    x, y = (np.asarray(cut(image, border, size), np.float32) for image in (sr, hr))
    return float(np.square(_vgg54_features(x) - _vgg54_of_hr(y)).mean())


NEED_WEIGHTS = {  # name of the metric -> reads its weights, or says which command gets them
    "lpips_alex": functools.partial(_lpips_weights, "alex"),
    "lpips_vgg": functools.partial(_lpips_weights, "vgg"),
    "vgg54": _vgg19_weights,
}
