"""Metrics that need weights: NIQE (no reference), LPIPS, VGG19's features. Each compiles anew for each size."""

import functools
import hashlib
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

from srgan_jax import color, resize
from srgan_jax.errors import MissingFileError, UserError, lookup
from srgan_jax.metrics.common import Size
from srgan_jax.models.extractor import FEATURE_SCALE, VGG19

FOLDER_VARIABLE = "SRGAN_JAX_WEIGHTS"  # the folder with the ported weights; "weights" by default


@functools.lru_cache(maxsize=8)
def _read(path: str, command: str) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    if not os.path.isfile(path):
        raise MissingFileError(f"no weights at {path}; get them with: {command}")
    return load_file(path)


def load_weights(name: str, command: str) -> dict[str, np.ndarray]:
    """Tensors of `name` in the folder of metric weights.

    Raises:
      MissingFileError: not there; the message names the command that makes it.
    """
    return _read(_path(name), command)


def _path(name: str) -> str:
    return str(Path(os.environ.get(FOLDER_VARIABLE, "weights"), name).absolute())


def _picture(image: jax.Array, border: int, size: Size) -> np.ndarray:
    height, width = image.shape[:2] if size is None else size
    return np.asarray(image)[border : height - border, border : width - border]


# ------------------------------------------------------------------------------------------------ NIQE

BLOCK = 96
SMALLEST_NIQE_PX = (BLOCK, 2 * BLOCK)  # shorter and longer side: two blocks
SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))
SHAPES = np.arange(200, 10001) / 1000  # of the generalised gaussians that are tried


def _gamma_ratio(a: float, b: float) -> float:
    return math.exp(math.lgamma(a) - math.lgamma(b))


@functools.cache
def _shape_table() -> np.ndarray:
    """gamma(2/s)^2 / (gamma(1/s) gamma(3/s)) for every s in SHAPES."""
    return np.array([_gamma_ratio(2 / s, 1 / s) * _gamma_ratio(2 / s, 3 / s) for s in SHAPES])


@jax.jit
def _block_moments(y: jax.Array, window: jax.Array, block: jax.Array) -> jax.Array:
    """Of the normalised luma and its four products with neighbours, in each block: the mean squares of the negative and
    of the positive values, the mean absolute value, the mean square. `[blocks, 5, 4]`."""
    side = block.shape[0]
    padded = jnp.pad(y, window.shape[0] // 2, mode="edge")
    blur = lambda x: jax.scipy.signal.convolve2d(x, window, mode="valid", precision="highest")  # noqa: E731
    mean = blur(padded)
    normal = (y - mean) / (jnp.sqrt(jnp.abs(blur(padded**2) - mean**2)) + 1.0)
    rows, columns = y.shape[0] // side, y.shape[1] // side
    blocks = normal.reshape(rows, side, columns, side).swapaxes(1, 2).reshape(-1, side, side)
    maps = jnp.stack([blocks, *(blocks * jnp.roll(blocks, shift, axis=(1, 2)) for shift in SHIFTS)], axis=1)

    def mean_where(values, mask):
        return jnp.sum(values * mask, axis=(2, 3)) / jnp.sum(mask, axis=(2, 3))

    squares = maps**2
    moments = [mean_where(squares, maps < 0), mean_where(squares, maps > 0)]
    return jnp.stack([*moments, jnp.abs(maps).mean(axis=(2, 3)), squares.mean(axis=(2, 3))], axis=-1)


def _fit(moments: np.ndarray) -> tuple[float, float, float]:
    """An asymmetric generalised gaussian: its shape, and its left and right scale."""
    left, right = np.sqrt(moments[:2])
    ratio = left / right
    target = moments[2] ** 2 / moments[3] * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    shape = SHAPES[np.argmin((_shape_table() - target) ** 2)]
    scale = math.sqrt(_gamma_ratio(1 / shape, 3 / shape))
    return shape, left * scale, right * scale


def _block_features(moments: np.ndarray) -> list[float]:
    shape, left, right = _fit(moments[0])
    features = [shape, (left + right) / 2]
    for product in moments[1:]:
        shape, left, right = _fit(product)
        features += [shape, (right - left) * _gamma_ratio(2 / shape, 1 / shape), left, right]
    return features


def niqe_of_luma(y: np.ndarray, parameters: Mapping[str, np.ndarray]) -> float:
    """NIQE (Mittal, Soundararajan & Bovik 2013) as MATLAB's and BasicSR's code computes it; lower is better.

    In float32, as BasicSR does. On 13 pictures of BSD100 its results differ from BasicSR's by .006 at most, their means
    by .0004; between float32 and float64 BasicSR's own move by up to .03, so smaller differences mean nothing.

    Args:
      y: `[H, W]` MATLAB's luma, 16 to 235, rounded; at least 96 x 192.
      parameters: "mu_pris_param" `[1, 36]`, "cov_pris_param" `[36, 36]`, "gaussian_window" `[7, 7]`.

    Raises:
      UserError: the picture is smaller than two blocks.
    """
    if min(y.shape) < SMALLEST_NIQE_PX[0] or max(y.shape) < SMALLEST_NIQE_PX[1]:
        raise UserError(f"NIQE needs two blocks of {BLOCK} x {BLOCK} px or more, got {y.shape[1]} x {y.shape[0]}")
    y = y[: y.shape[0] // BLOCK * BLOCK, : y.shape[1] // BLOCK * BLOCK].astype(np.float32)
    window = jnp.asarray(parameters["gaussian_window"], jnp.float32)
    features = []
    for side in (BLOCK, BLOCK // 2):
        moments = np.asarray(_block_moments(jnp.asarray(y), window, jnp.zeros(side)), np.float64)
        features.append([_block_features(block) for block in moments])
        half = (y.shape[0] // 2, y.shape[1] // 2)
        y = np.asarray(resize.resize(y[..., None] / 255.0, half, convention="C"))[..., 0] * 255.0
    features = np.concatenate([np.array(scale) for scale in features], axis=1)
    mean = np.nanmean(features, axis=0)
    spread = np.cov(features[~np.isnan(features).any(axis=1)], rowvar=False)
    inverse = np.linalg.pinv((parameters["cov_pris_param"].astype(np.float64) + spread) / 2)
    difference = parameters["mu_pris_param"].astype(np.float64).ravel() - mean
    return float(np.sqrt(difference @ inverse @ difference))


def _niqe_weights() -> dict[str, np.ndarray]:
    return load_weights("niqe.safetensors", "python scripts/port_niqe.py --download")


def niqe(sr: jax.Array, hr: jax.Array, *, border: int = 0, channel: str = "y", size: Size = None) -> float:
    """`niqe_of_luma` of `sr [H, W, 3]` in [0, 1]; `hr` is not looked at. Other arguments as for `psnr`."""
    del hr, channel  # always MATLAB's Y
    parameters = _niqe_weights()
    luma = color.rgb_to_y(jnp.asarray(_picture(sr, border, size)))[..., 0]
    return niqe_of_luma(np.round(np.asarray(luma, np.float64) * 255), parameters)


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
    x, y = (color.to_signed(jnp.asarray(_picture(image, border, size)))[None] for image in (sr, hr))
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
    with safe_open(_path(VGG19_FILE), framework="numpy") as file:
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
    key = (hashlib.sha256(hr.tobytes()).digest(), hr.shape, _path(VGG19_FILE))
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
    x, y = (np.asarray(_picture(image, border, size), np.float32) for image in (sr, hr))
    return float(np.square(_vgg54_features(x) - _vgg54_of_hr(y)).mean())


NEED_WEIGHTS = {  # name of the metric -> reads its weights, or says which command gets them
    "niqe": _niqe_weights,
    "lpips_alex": functools.partial(_lpips_weights, "alex"),
    "lpips_vgg": functools.partial(_lpips_weights, "vgg"),
    "vgg54": _vgg19_weights,
}
