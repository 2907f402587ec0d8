"""Ports ImageNet's VGG19 into the file that the perceptual loss reads, once.

    python scripts/port_vgg19.py --download                        # Keras' weights, 80 MB, needs h5py
    python scripts/port_vgg19.py --download torchvision            # torchvision's, 575 MB, needs torch
    python scripts/port_vgg19.py vgg19_..._notop.h5                # a file that you have: .h5, .pth or .npz

The header of the result records which input the weights expect, and the loss follows it by itself: "caffe" (Keras'
weights: BGR, 0 to 255, minus the mean) or "torchvision" (RGB, mean and deviation).
"""

import argparse
import sys
from pathlib import Path

import numpy as np

import porting
from srgan_jax import importers
from srgan_jax.models.extractor import CONVOLUTIONS_PER_BLOCK, PREPROCESSING
from srgan_jax.weights import save_extractor

OFFICIAL = {  # address, algorithm and digest as their publishers state them (Keras publishes MD5 alone)
    "keras": (
        "https://storage.googleapis.com/tensorflow/keras-applications/vgg19/"
        "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
        "md5",
        "253f8cb515780f3b799900260a226db6",
    ),
    "torchvision": (
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
# Positions of the convolutions in torchvision's `features`: each has a ReLU after it, each block a pooling layer.
TORCH_POSITIONS = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28, 30, 32, 34)


def read_keras(path: Path) -> dict[str, np.ndarray]:
    """A Keras `.h5`: each layer has a kernel (HWIO) and a bias, under names that changed over time."""
    found = porting.read_h5(path, LAYERS)
    return {
        f"{layer}/{'kernel' if value.ndim == 4 else 'bias'}": value
        for layer, tensors in found.items()
        for value in tensors.values()
    }


def read_torch(path: Path) -> dict[str, np.ndarray]:
    """A torchvision state dict, read without executing what a pickle may hold; kernels OIHW to HWIO."""
    state = importers.read_torch(path)
    tensors = {}
    for layer, position in zip(LAYERS, TORCH_POSITIONS, strict=True):
        for name, ours in (("weight", "kernel"), ("bias", "bias")):
            key = f"features.{position}.{name}"
            if key in state:
                value = state[key]
                tensors[f"{layer}/{ours}"] = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value
    return tensors


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """An `.npz` with keys such as "block1_conv1/kernel" (HWIO)."""
    with np.load(path, allow_pickle=False) as file:
        return {key: file[key] for key in file.files if key.split("/")[0] in LAYERS}


# For each suffix: how to read it, and the convention of such files.
READERS = {".h5": read_keras, ".npz": read_npz, ".pth": read_torch}
CONVENTIONS = {".h5": "caffe", ".npz": "caffe", ".pth": "torchvision"}


def shapes() -> dict[str, tuple[int, ...]]:
    """Names and shapes of VGG19's tensors."""
    expected, channels = {}, 3
    for layer in LAYERS:
        features = 64 * min(2 ** (int(layer[5]) - 1), 8)
        expected |= {f"{layer}/kernel": (3, 3, channels, features), f"{layer}/bias": (features,)}
        channels = features
    return expected


def port(path: Path, out: Path, convention: str | None = None) -> str:
    """Reads `path`, writes `out`, and returns the convention recorded there."""
    tensors = porting.read(path, READERS)
    porting.check_shapes(tensors, shapes(), path, "VGG19's convolutions")
    convention = convention or CONVENTIONS[path.suffix]
    out.parent.mkdir(parents=True, exist_ok=True)
    save_extractor(out, tensors, {"network": "vgg19", "convention": convention, "source": path.name})
    return convention


def main(argv: list[str] | None = None) -> int:
    """0 when the file was written, 2 when it wasn't."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, help=".h5 (Keras, without top), .pth (torchvision) or .npz")
    parser.add_argument("--download", nargs="?", const="keras", choices=OFFICIAL, help="fetch the official file")
    parser.add_argument("--out", type=Path, default=Path("weights/vgg19.safetensors"))
    parser.add_argument("--convention", choices=PREPROCESSING, help="what the weights expect, where it isn't the usual")
    args = parser.parse_args(argv)

    def ported(path):
        return f"{args.out}: VGG19, 16 convolutions, {port(path, args.out, args.convention)} convention"

    return porting.run(args.file, OFFICIAL.get(args.download), ported)


if __name__ == "__main__":
    sys.exit(main())
