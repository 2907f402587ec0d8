"""Weights of networks that are no generators (feature extractors, metrics): where they lie, and how they are read.

They are looked for as `NAME.safetensors` in the folder of the environment variable SRGAN_JAX_WEIGHTS, or in `weights/`.
"""

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import unflatten_dict

from srgan_jax.runtime.errors import MissingFileError
from srgan_jax.weights.safetensors_io import EXTRACTOR_FORMAT, WeightsError, read_any, write_tensors

FOLDER_VARIABLE = "SRGAN_JAX_WEIGHTS"
PORT_COMMANDS = {  # by the name of a network: the command that makes its file
    "vgg19": "srgan-jax port vgg19 --download",
    "resnet152v2": "srgan-jax port resnet152v2 --download",
    "niqe": "srgan-jax port niqe --download",
    "lpips_alex": "srgan-jax port lpips --backbone alex BACKBONE.pth HEADS.pth",
    "lpips_vgg": "srgan-jax port lpips --backbone vgg BACKBONE.pth HEADS.pth",
}


def network_path(name: str) -> Path:
    """Returns where the weights of a network lie, or would."""
    return Path(os.environ.get(FOLDER_VARIABLE) or "weights", f"{name}.safetensors")


def read_network(name: str, path: str | os.PathLike = "") -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Returns the tensors and the header of a network's file.

    Args:
      name: a name in `PORT_COMMANDS`, or of a network of your own.
      path: the file; "" looks for it, see the text of this module.

    Raises:
      MissingFileError: no such file; the message names the command that makes it.
      WeightsError: not a readable `.safetensors`.
    """
    path = Path(path) if path else network_path(name)
    if not path.is_file():
        command = PORT_COMMANDS.get(name)
        out_option = f" --out {path}" if command and path != network_path(name) else ""
        hint = f"; get them with: {command}{out_option} (or give it a file you have)" if command else ""
        raise MissingFileError(f"no {name} weights at {path.absolute()}{hint}")
    return _read(str(path.absolute()), path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _read(path: str, modified_ns: int) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    del modified_ns  # a file that is replaced is read again
    return read_any(path)


def load_extractor(network: str, path: str | os.PathLike = "") -> tuple[dict[str, Any], dict[str, str]]:
    """Returns the weights of a feature extractor.

    Args:
      network: a name in `models.EXTRACTORS`, which the file must be for.
      path: a `.safetensors` written by `srgan-jax port`; "" looks for it.

    Returns:
      Variables of `models.EXTRACTORS[network]`, float32, and the header; its "convention" says how the weights want
      their input.

    Raises:
      MissingFileError: no such file; the message names the command that makes it.
      WeightsError: not such a file.
    """
    tensors, header = read_network(network, path)
    if header.get("format") != EXTRACTOR_FORMAT or header.get("network") != network:
        found = header.get("network") or header.get("format") or "something else"
        raise WeightsError(f"{path or network_path(network)} holds {found}, expected {network}")
    flat = {tuple(name.split("/")): tensor.astype(np.float32) for name, tensor in tensors.items()}
    return {"params": unflatten_dict(flat)}, header


def save_extractor(path: str | os.PathLike, tensors: Mapping[str, np.ndarray], header: Mapping[str, str]) -> None:
    """Writes the weights of a feature extractor: "layer/kernel" (HWIO) and "layer/bias" to array."""
    write_tensors(path, tensors, {"format": EXTRACTOR_FORMAT} | dict(header))
