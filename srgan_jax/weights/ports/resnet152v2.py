"""Port of the first layers of ImageNet's ResNet152V2, from Keras' file, for the recipe `restoration`.

The loss of the recipe only uses features up to `conv2_block1_1_relu`; later layers are not ported. Batch normalisation
is ported as factors and offsets.
"""

from pathlib import Path

import numpy as np

from srgan_jax.weights.networks import KERAS_FILES, save_extractor
from srgan_jax.weights.ports import files
from srgan_jax.weights.ports.files import Official

OFFICIAL = Official(KERAS_FILES["resnet152v2"])
NORMS = ("gamma", "beta", "moving_mean", "moving_variance")
EPSILON = 1.001e-5  # keras.applications.resnet
SHAPES = {
    "conv1_conv/kernel": (7, 7, 3, 64),
    "conv1_conv/bias": (64,),
    **{f"conv2_block1_preact_bn/{name}": (64,) for name in NORMS},
    "conv2_block1_1_conv/kernel": (1, 1, 64, 64),
    **{f"conv2_block1_1_bn/{name}": (64,) for name in NORMS},
}


def read_keras(path: Path) -> dict[str, np.ndarray]:
    """Returns the tensors of Keras' `.h5`, by "layer/kind"."""
    found = files.read_h5(path, {name.split("/")[0] for name in SHAPES})
    return {f"{layer}/{kind}": value for layer, tensors in found.items() for kind, value in tensors.items()}


def factor_and_offset(tensors: dict[str, np.ndarray], layer: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns (factor, offset): batch normalisation in inference mode is `x * factor + offset`."""
    gamma, beta, mean, variance = (np.asarray(tensors[f"{layer}/{name}"], np.float64) for name in NORMS)
    factor = gamma / np.sqrt(variance + EPSILON)
    return factor, beta - mean * factor


def port(path: Path, out: Path) -> str:
    """Reads Keras' `.h5` without top layers, and writes `out`.

    Returns:
      A line for the user: the file and its contents.

    Raises:
      UserError: the file is unreadable, or holds other tensors.
    """
    tensors = files.read(path, {".h5": read_keras})
    files.check_shapes(tensors, SHAPES, path, "ResNet152V2's first layers")
    scale, offset = factor_and_offset(tensors, "conv2_block1_preact_bn")
    factor, bias = factor_and_offset(tensors, "conv2_block1_1_bn")
    ported = {
        "conv1_conv/kernel": tensors["conv1_conv/kernel"],
        "conv1_conv/bias": tensors["conv1_conv/bias"],
        "conv2_block1_preact_bn_scale": scale,
        "conv2_block1_preact_bn_offset": offset,
        "conv2_block1_1_conv/kernel": tensors["conv2_block1_1_conv/kernel"] * factor,
        "conv2_block1_1_conv/bias": bias,
    }
    header = {"network": "resnet152v2", "convention": "signed", "source": path.name}
    save_extractor(out, {name: np.asarray(value, np.float32) for name, value in ported.items()}, header)
    return f"{out}: ResNet152V2 up to conv2_block1_1_relu"
