"""Reading and writing the weights of feature extractors and metrics.

Their files are `NAME.safetensors` in the folder that the environment variable SRGAN_JAX_WEIGHTS names, by default
`weights/`.
"""

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from srgan_jax.runtime import trees
from srgan_jax.runtime.errors import MissingFileError
from srgan_jax.weights import hub
from srgan_jax.weights.safetensors_io import EXTRACTOR_FORMAT, WeightsError, read_any, write_tensors

FOLDER_VARIABLE = "SRGAN_JAX_WEIGHTS"
_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications/"
KERAS_FILES = {
    "vgg19": f"{_KERAS}vgg19/vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5",
    "resnet152v2": f"{_KERAS}resnet/resnet152v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
}
PORT_COMMANDS = {  # network name -> command that writes its file
    **{name: f"curl -fLO {url} && srgan-jax port {name} {url.rsplit('/', 1)[-1]}" for name, url in KERAS_FILES.items()},
    "niqe": "srgan-jax port niqe --download",
    "lpips_alex": "srgan-jax port lpips --backbone alex BACKBONE.pth HEADS.pth",
    "lpips_vgg": "srgan-jax port lpips --backbone vgg BACKBONE.pth HEADS.pth",
}


def network_path(name: str) -> Path:
    """Returns the path of the weights of a network, whether or not the file exists."""
    return Path(os.environ.get(FOLDER_VARIABLE) or "weights", f"{name}.safetensors")


def read_network(name: str, path: str | os.PathLike = "") -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Returns the tensors and the header of the weights file of a network.

    Args:
      name: a name in `PORT_COMMANDS`, or of a network of your own.
      path: the file, or its address on the Hub; "" is `network_path(name)`.

    Raises:
      MissingFileError: the file does not exist; the message names the command that writes it.
      WeightsError: the file is not a readable `.safetensors`.
    """
    path = Path(hub.local_file(path)) if path else network_path(name)
    if not path.is_file():
        command = PORT_COMMANDS.get(name)
        out_option = f" --out {path}" if command and path != network_path(name) else ""
        hint = f"; get them with: {command}{out_option} (or pass it a file that you have)" if command else ""
        raise MissingFileError(f"no {name} weights at {path.absolute()}{hint}")
    return _read(str(path.absolute()), path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=8)
def _read(path: str, modified_ns: int) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    del modified_ns  # part of the cache key: a replaced file is read again
    return read_any(path)


def load_extractor(network: str, path: str | os.PathLike = "") -> tuple[dict[str, Any], dict[str, str]]:
    """Returns the weights of a feature extractor.

    Args:
      network: a name in `models.EXTRACTORS`; the header of the file must have the same.
      path: a `.safetensors` written by `srgan-jax port`; "" is `network_path(network)`.

    Returns:
      Variables of `models.EXTRACTORS[network]`, float32, and the header; its "convention" is the input that the weights
      expect.

    Raises:
      MissingFileError: the file does not exist; the message names the command that writes it.
      WeightsError: the file holds something else, or is unreadable.
    """
    tensors, header = read_network(network, path)
    if header.get("format") != EXTRACTOR_FORMAT or header.get("network") != network:
        found = header.get("network") or header.get("format") or "something else"
        raise WeightsError(f"{path or network_path(network)} holds {found}, expected {network}")
    return {"params": trees.unflatten({name: tensor.astype(np.float32) for name, tensor in tensors.items()})}, header


def save_extractor(path: str | os.PathLike, tensors: Mapping[str, np.ndarray], header: Mapping[str, str]) -> None:
    """Writes the weights of a feature extractor: `tensors` by "layer/kernel" (HWIO) and "layer/bias"."""
    write_tensors(path, tensors, {"format": EXTRACTOR_FORMAT} | dict(header))
