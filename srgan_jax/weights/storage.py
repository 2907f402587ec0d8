"""Generators in files: `save`, `load`, and what a file says about itself."""

import json
import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from srgan_jax.models import GENERATORS
from srgan_jax.weights import pretrained
from srgan_jax.weights.safetensors_io import FORMAT, PYTORCH, WeightsError, import_hint, read_tensors, write_tensors
from srgan_jax.weights.transform import fold_norms
from srgan_jax.weights.weights import Weights, make_weights


def save(
    path: str | os.PathLike, weights: Weights, provenance: Mapping[str, str] | None = None, *, dtype: Any = np.float32
) -> None:
    """Writes `weights` to one `.safetensors`, under a temporary name first.

    Args:
      path: the file.
      weights: what to write.
      provenance: strings for the header: data, steps, scores, licence.
      dtype: "float16" halves the file; `load` gives float32 again.

    Raises:
      WeightsError: a value is too large for the dtype.
    """
    tensors = {"/".join(path): np.asarray(leaf) for path, leaf in flatten_dict(dict(weights.variables)).items()}
    largest = np.finfo(dtype).max
    if large := [n for n, tensor in tensors.items() if (np.isfinite(tensor) & (np.abs(tensor) > largest)).any()]:
        raise WeightsError(f"values beyond {largest:g} don't fit {np.dtype(dtype).name}: {', '.join(large[:10])}")
    tensors = {name: tensor.astype(dtype) for name, tensor in tensors.items()}
    header = {"format": FORMAT, "architecture": json.dumps(dict(weights.architecture))}
    write_tensors(path, tensors, header | dict(provenance or {}))


def read_header(path: str | os.PathLike) -> dict[str, str]:
    """What the header of a weights file says: "format", "architecture" (JSON), and its provenance."""
    return read_tensors(_resolve_path(path), FORMAT)[1]


def read_provenance(path: str | os.PathLike) -> dict[str, str]:
    """What the header says besides the format and the architecture: data, steps, scores, licence."""
    return {key: value for key, value in read_header(path).items() if key not in ("format", "architecture")}


def _resolve_path(path: str | os.PathLike) -> str | os.PathLike:
    """The file itself, the generator of a run's folder, or one that ships with the package."""
    if os.path.isfile(path):
        if os.fspath(path).endswith(PYTORCH):
            raise WeightsError(f"{path} is a PyTorch checkpoint; {import_hint(path)}")
        return path
    run_file = os.path.join(path, "generator.safetensors")
    if os.path.isfile(run_file):
        return run_file
    return pretrained.path_of(str(path)) or (run_file if os.path.isdir(path) else path)


def load(path: str | os.PathLike, *, fold: bool = True) -> Weights:
    """Reads a generator.

    Args:
      path: a `.safetensors` written by `save`, the folder of a training run (its `generator.safetensors`), or the name
        of a generator that ships with the package (`pretrained.names()`).
      fold: make batch normalisation part of the convolutions, which is quicker and gives the same pictures; False
        for training on.

    Returns:
      `Weights`, the `params` of `srgan_jax.upscale`.

    Raises:
      FileNotFoundError: no such file.
      WeightsError: not a generator of this package, or damaged.
    """
    path = _resolve_path(path)
    tensors, header = read_tensors(path, FORMAT)
    _check_architecture(path, json.loads(header["architecture"]))
    variables = unflatten_dict({tuple(name.split("/")): tensor.astype(np.float32) for name, tensor in tensors.items()})
    try:
        loaded = make_weights(jax.tree.map(jnp.asarray, variables), json.loads(header["architecture"]))
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: {error}") from None
    return fold_norms(loaded) if fold else loaded


def _check_architecture(path: str | os.PathLike, architecture: Mapping[str, object]) -> None:
    if architecture.get("name") not in GENERATORS:
        raise WeightsError(
            f"{path}: unknown architecture {architecture.get('name')!r}; valid: {', '.join(sorted(GENERATORS))}. One "
            "of your own must be added to models.GENERATORS first: import its module, in a command by --import MODULE"
        )
