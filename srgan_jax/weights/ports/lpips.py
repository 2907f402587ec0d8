"""Port of LPIPS, version 0.1: torchvision's backbone and the public linear heads."""

from pathlib import Path

import numpy as np

from srgan_jax.models.extractors.lpips import layers_of
from srgan_jax.runtime.errors import UserError
from srgan_jax.weights.safetensors_io import write_tensors
from srgan_jax.weights.torch_checkpoint import read_torch

POSITIONS = {
    "alex": (0, 3, 6, 8, 10),
    "vgg": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
}  # of the convolutions in torchvision's `features`


def port(network: Path, heads: Path, out: Path, *, backbone: str) -> str:
    """Reads both files and writes `out`.

    Args:
      network: torchvision's AlexNet or VGG16, `.pth`.
      heads: the linear heads of LPIPS v0.1, `.pth`.
      out: the file to write.
      backbone: "alex" or "vgg".

    Returns:
      A line for the user: the file and its contents.

    Raises:
      UserError: a file is unreadable, or holds other tensors.
    """
    theirs, linear = read_torch(network), read_torch(heads)
    tensors, wrong, channels, heads_read = {}, [], 3, 0
    for index, layer in enumerate(layers_of(backbone)):
        name = f"features.{POSITIONS[backbone][index]}"
        expected = {
            f"{name}.weight": (layer.features, channels, layer.size, layer.size),
            f"{name}.bias": (layer.features,),
        }
        channels = layer.features
        wrong += [f"{key}: expected {shape}" for key, shape in expected.items()
                  if key not in theirs or theirs[key].shape != shape]  # fmt: skip
        if layer.compared:
            key = f"lin{heads_read}.model.1.weight"
            if key not in linear or linear[key].shape != (1, channels, 1, 1):
                wrong.append(f"{key}: expected {(1, channels, 1, 1)}")
            tensors[f"lin{heads_read}"] = np.ravel(linear.get(key, 0))
            heads_read += 1
        if not wrong:
            tensors[f"conv{index}/kernel"] = theirs[f"{name}.weight"].transpose(2, 3, 1, 0)
            tensors[f"conv{index}/bias"] = theirs[f"{name}.bias"]
    if wrong:
        raise UserError(f"{network.name} and {heads.name} are not LPIPS {backbone}:\n  " + "\n  ".join(wrong[:8]))
    write_tensors(out, {name: np.asarray(value, np.float32) for name, value in tensors.items()}, {})
    return f"{out}: LPIPS 0.1, {backbone}"
