"""Port of NIQE's public parameters, from BasicSR's file."""

from pathlib import Path

import numpy as np

from srgan_jax.weights.ports import files
from srgan_jax.weights.ports.files import Official
from srgan_jax.weights.safetensors_io import write_tensors

OFFICIAL = Official(
    "https://raw.githubusercontent.com/XPixelGroup/BasicSR/v1.4.2/basicsr/metrics/niqe_pris_params.npz",
    "sha256",
    "2a7c182a68c9e7f1b2e2e5ec723279d6f65d912b6fcaf37eb2bf03d7367c4296",
)
SHAPES = {"mu_pris_param": (1, 36), "cov_pris_param": (36, 36), "gaussian_window": (7, 7)}


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Returns the arrays of BasicSR's `.npz`; no pickle is executed."""
    return files.read_npz(path, SHAPES.__contains__)


def port(path: Path, out: Path) -> str:
    """Reads `niqe_pris_params.npz` of BasicSR's source code, and writes `out`.

    Returns:
      A line for the user: the file and its contents.

    Raises:
      UserError: the file is unreadable, or holds other tensors.
    """
    tensors = files.read(path, {".npz": read_npz})
    files.check_shapes(tensors, SHAPES, path, "NIQE's parameters")
    write_tensors(out, {name: np.asarray(value, np.float64) for name, value in tensors.items()}, {})
    return f"{out}: NIQE"
