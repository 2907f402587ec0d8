"""Ports LPIPS (version 0.1) for `srgan-jax evaluate --metrics lpips_alex`: torchvision's backbone and the public heads.

    python scripts/port_lpips.py --backbone alex alexnet-owt-7be5be79.pth alex.pth
    python scripts/port_lpips.py --backbone vgg vgg16-397923af.pth vgg.pth

Needs PyTorch to read the files (safely): pip install torch.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save

import porting
from srgan_jax.errors import UserError
from srgan_jax.importers import read_torch
from srgan_jax.metrics import perceptual

POSITIONS = {"alex": (0, 3, 6, 8, 10), "vgg": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)}  # in `features`


def port(backbone: str, network: Path, heads: Path, out: Path) -> None:
    """Reads both files and writes the `.safetensors`."""
    theirs, linear = read_torch(network), read_torch(heads)
    tensors, wrong, channels, taps = {}, [], 3, 0
    for index, layer in enumerate(perceptual.layers_of(backbone)):
        name = f"features.{POSITIONS[backbone][index]}"
        expected = {
            f"{name}.weight": (layer.features, channels, layer.size, layer.size),
            f"{name}.bias": (layer.features,),
        }
        channels = layer.features
        wrong += [f"{key}: expected {shape}" for key, shape in expected.items()
                  if key not in theirs or theirs[key].shape != shape]  # fmt: skip
        if layer.tapped:
            key = f"lin{taps}.model.1.weight"
            if key not in linear or linear[key].shape != (1, channels, 1, 1):
                wrong.append(f"{key}: expected {(1, channels, 1, 1)}")
            tensors[f"lin{taps}"] = np.ravel(linear.get(key, 0))
            taps += 1
        if not wrong:
            tensors[f"conv{index}/kernel"] = theirs[f"{name}.weight"].transpose(2, 3, 1, 0)
            tensors[f"conv{index}/bias"] = theirs[f"{name}.bias"]
    if wrong:
        raise UserError(f"{network.name} and {heads.name} are not LPIPS {backbone}:\n  " + "\n  ".join(wrong[:8]))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(save({name: np.ascontiguousarray(value, np.float32) for name, value in tensors.items()}))


def main(argv: list[str] | None = None) -> int:
    """0 when the file was written, 2 when it wasn't."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", type=Path, help="torchvision's AlexNet or VGG16")
    parser.add_argument("heads", type=Path, help="the linear heads of LPIPS v0.1")
    parser.add_argument("--backbone", choices=POSITIONS, required=True)
    parser.add_argument("--out", type=Path, help="default: weights/lpips_BACKBONE.safetensors")
    args = parser.parse_args(argv)
    out = args.out or Path(f"weights/lpips_{args.backbone}.safetensors")

    def ported(network):
        port(args.backbone, network, args.heads, out)
        return f"{out}: LPIPS 0.1, {args.backbone}"

    return porting.run(args.network, None, ported)


if __name__ == "__main__":
    sys.exit(main())
