"""Port of ImageNet's VGG19, from Keras' or torchvision's file.

The header of the result records the input that the weights expect, which the loss reads: "caffe" (Keras' weights: BGR
in 0 to 255, minus the mean) or "torchvision" (RGB in 0 to 1, minus the mean, divided by the standard deviation).
"""

from pathlib import Path

import numpy as np

from srgan_jax.models.extractors.vgg19 import CONVOLUTIONS_PER_BLOCK
from srgan_jax.weights import torch_checkpoint
from srgan_jax.weights.networks import KERAS_FILES, save_extractor
from srgan_jax.weights.ports import files
from srgan_jax.weights.ports.files import Official

OFFICIAL = {
    "keras": Official(KERAS_FILES["vgg19"]),
    "torchvision": Official(
        "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
        "sha256",
        "dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44",
    ),
}
LAYERS = [
    f"block{block}_conv{index}"
    for block, count in enumerate(CONVOLUTIONS_PER_BLOCK, start=1)
    for index in range(1, count + 1)
]
# Positions of the convolutions in torchvision's `features`; between them are ReLU and pooling layers.
TORCH_POSITIONS = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)


def read_keras(path: Path) -> dict[str, np.ndarray]:
    """Returns the tensors of a Keras `.h5`; kernels (HWIO) have 4 axes, biases 1; names depend on Keras' version."""
    found = files.read_h5(path, LAYERS)
    return {
        f"{layer}/{'kernel' if value.ndim == 4 else 'bias'}": value
        for layer, tensors in found.items()
        for value in tensors.values()
    }


def read_torchvision(path: Path) -> dict[str, np.ndarray]:
    """Returns the tensors of a torchvision state dict, kernels as HWIO; no code in the file runs."""
    state = torch_checkpoint.read_torch(path)
    tensors = {}
    for layer, position in zip(LAYERS, TORCH_POSITIONS, strict=True):
        for name, ours in (("weight", "kernel"), ("bias", "bias")):
            key = f"features.{position}.{name}"
            if key in state:
                value = state[key]
                tensors[f"{layer}/{ours}"] = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value
    return tensors


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Returns the tensors of an `.npz` with keys such as "block1_conv1/kernel" (HWIO)."""
    return files.read_npz(path, lambda name: name.split("/")[0] in LAYERS)


# By suffix: the reader, and the default convention.
READERS = {".h5": read_keras, ".npz": read_npz, ".pth": read_torchvision}
CONVENTIONS = {".h5": "caffe", ".npz": "caffe", ".pth": "torchvision"}


def shapes() -> dict[str, tuple[int, ...]]:
    """Returns the shapes of VGG19's tensors, by name."""
    expected, channels = {}, 3
    for layer in LAYERS:
        features = 64 * min(2 ** (int(layer[5]) - 1), 8)
        expected |= {f"{layer}/kernel": (3, 3, channels, features), f"{layer}/bias": (features,)}
        channels = features
    return expected


def port(path: Path, out: Path, *, convention: str | None = None) -> str:
    """Reads `path` and writes `out`.

    Args:
      path: `.h5` (Keras, without top layers), `.pth` (torchvision) or `.npz`.
      out: the file to write.
      convention: the input that the weights expect, a name in `PREPROCESSING`; None is the default of the suffix.

    Returns:
      A line for the user: the file and its contents.

    Raises:
      UserError: the file is unreadable, or holds other tensors.
    """
    tensors = files.read(path, READERS)
    files.check_shapes(tensors, shapes(), path, "VGG19's convolutions")
    convention = convention or CONVENTIONS[path.suffix]
    save_extractor(out, tensors, {"network": "vgg19", "convention": convention, "source": path.name})
    return f"{out}: VGG19, 16 convolutions, {convention} convention"
