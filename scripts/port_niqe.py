"""Ports NIQE's public parameters, as BasicSR has them, for `srgan-jax evaluate --metrics niqe`.

python scripts/port_niqe.py --download
python scripts/port_niqe.py niqe_pris_params.npz    # a file that you have; BasicSR's source package holds it
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save

import porting
from srgan_jax.errors import UserError

OFFICIAL = (
    "https://raw.githubusercontent.com/XPixelGroup/BasicSR/v1.4.2/basicsr/metrics/niqe_pris_params.npz",
    "sha256",
    "2a7c182a68c9e7f1b2e2e5ec723279d6f65d912b6fcaf37eb2bf03d7367c4296",
)
SHAPES = {"mu_pris_param": (1, 36), "cov_pris_param": (36, 36), "gaussian_window": (7, 7)}


def port(path: Path, out: Path) -> None:
    """Reads the `.npz` (no pickle is executed) and writes the `.safetensors`."""
    if not path.is_file():
        raise UserError(f"no such file: {path}")
    try:
        with np.load(path, allow_pickle=False) as file:
            tensors = {name: file[name] for name in SHAPES if name in file.files}
    except Exception as error:  # zipfile's, NumPy's, and what a file that is no archive leads to
        raise UserError(f"{path} can't be read: {str(error).splitlines()[0]}") from None
    wrong = [f"{n}: expected {s}, found {tensors[n].shape if n in tensors else 'nothing'}" for n, s in SHAPES.items()
             if n not in tensors or tensors[n].shape != s]  # fmt: skip
    if wrong:
        raise UserError(f"{path} doesn't hold NIQE's parameters:\n  " + "\n  ".join(wrong))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(save({name: np.ascontiguousarray(value, np.float64) for name, value in tensors.items()}))


def main(argv: list[str] | None = None) -> int:
    """0 when the file was written, 2 when it wasn't."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path)
    parser.add_argument("--download", action="store_true", help="from BasicSR's repository")
    parser.add_argument("--out", type=Path, default=Path("weights/niqe.safetensors"))
    args = parser.parse_args(argv)

    def ported(path):
        port(path, args.out)
        return f"{args.out}: NIQE"

    return porting.run(args.file, OFFICIAL if args.download else None, ported)


if __name__ == "__main__":
    sys.exit(main())
