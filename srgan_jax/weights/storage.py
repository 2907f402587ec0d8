"""Saving and loading generators: `save`, `load`, `load_blended`, `read_header`; and loading discriminators."""

import json
import os
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from srgan_jax.models import GENERATORS
from srgan_jax.runtime import trees
from srgan_jax.runtime.errors import MissingFileError
from srgan_jax.weights import hub, importers, pretrained
from srgan_jax.weights.discriminators import DiscriminatorWeights, read_discriminator
from srgan_jax.weights.limits import read_architecture
from srgan_jax.weights.safetensors_io import (
    DISCRIMINATOR_FORMAT,
    FORMAT,
    WeightsError,
    is_foreign,
    read_metadata,
    read_tensors,
    sha256_of,
    write_tensors,
)
from srgan_jax.weights.transform import blend, fold_norms
from srgan_jax.weights.weights import Weights, make_weights


def save(
    path: str | os.PathLike, weights: Weights, provenance: Mapping[str, str] | None = None, *, dtype: Any = np.float32
) -> None:
    """Writes `weights` to a `.safetensors`, atomically.

    Args:
      path: the file to write.
      weights: the generator.
      provenance: strings for the header: data, steps, scores, licence.
      dtype: of the file; "float16" halves its size. `load` returns float32 in any case.

    Raises:
      WeightsError: a value is too large for `dtype`.
    """
    tensors = {name: np.asarray(leaf) for name, leaf in trees.flatten(weights.variables).items()}
    largest = np.finfo(dtype).max
    if large := [n for n, tensor in tensors.items() if (np.isfinite(tensor) & (np.abs(tensor) > largest)).any()]:
        raise WeightsError(f"values beyond {largest:g} don't fit {np.dtype(dtype).name}: {', '.join(large[:10])}")
    tensors = {name: tensor.astype(dtype) for name, tensor in tensors.items()}
    write_tensors(path, tensors, _header(weights, provenance or {}))


def read_header(path: str | os.PathLike) -> dict[str, str]:
    """Returns the header of a weights file: "format", "architecture" (JSON) and the provenance.

    For a file of another program, the header is the one that `srgan-jax import` would write.

    Raises:
      FileNotFoundError: the file does not exist.
      WeightsError: not a generator.
    """
    path = _resolve_path(path)
    if is_foreign(path):
        weights, provenance = importers.import_with_provenance(path)
        return _header(weights, provenance)
    return read_tensors(path, FORMAT)[1]


def _header(weights: Weights, provenance: Mapping[str, str]) -> dict[str, str]:
    return {"format": FORMAT, "architecture": json.dumps(dict(weights.architecture))} | dict(provenance)


def read_provenance(path: str | os.PathLike) -> dict[str, str]:
    """Returns the header without format and architecture: data, steps, scores, licence."""
    return _without_architecture(read_header(path))


def _without_architecture(header: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in header.items() if key not in ("format", "architecture")}


def _resolve_path(path: str | os.PathLike) -> str | os.PathLike:
    """Returns the weights file: `path`, `generator.safetensors` in the folder `path`, a shipped generator, or a local
    copy of a file of the Hub or of a bucket."""
    path = hub.local_file(path)
    if os.path.isfile(path):
        return path
    run_file = os.path.join(path, "generator.safetensors")
    if os.path.isfile(run_file):
        return run_file
    return pretrained.path_of(str(path)) or (run_file if os.path.isdir(path) else path)


def digest(path: str | os.PathLike) -> str | None:
    """Returns the SHA-256 of the file that `load(path)` reads; None if there is no such file."""
    try:
        file = _resolve_path(path)
    except MissingFileError:  # an address of the Hub
        return None
    return sha256_of(file) if os.path.isfile(file) else None


def load(path: str | os.PathLike, *, fold: bool = True) -> Weights:
    """Reads a generator.

    Args:
      path: a `.safetensors` written by `save`, the folder of a training run (its `generator.safetensors`), the name of
        a generator that ships with the package (`pretrained.names()`), an address of the Hugging Face Hub
        (`hf://owner/name`, see `hub`) or of a bucket (`gs://BUCKET/PATH`), or a generator of another program: a PyTorch
        checkpoint or `.safetensors`, whose architecture is detected (`importers`). No code in the file runs.
      fold: fold batch normalisation into the convolutions, which is faster and gives the same result; False to
        continue training.

    Returns:
      `Weights`, the `params` of `srgan_jax.upscale`.

    Raises:
      FileNotFoundError: the file does not exist.
      WeightsError: the file is not a generator that is known, or is damaged.
    """
    path = _resolve_path(path)
    loaded = importers.import_generator(path) if is_foreign(path) else _read(path)[0]
    return fold_norms(loaded) if fold else loaded


def load_with_provenance(path: str | os.PathLike) -> tuple[Weights, dict[str, str]]:
    """Returns `load(path, fold=False)` and `read_provenance(path)`, but reads the file once."""
    path = _resolve_path(path)
    if is_foreign(path):
        return importers.import_with_provenance(path)
    loaded, header = _read(path)
    return loaded, _without_architecture(header)


def load_any_with_provenance(path: str | os.PathLike) -> tuple[Weights | DiscriminatorWeights, dict[str, str]]:
    """Returns a generator or a discriminator and its provenance: see `load_with_provenance`."""
    path = _resolve_path(path)
    if is_foreign(path):
        return importers.import_network(path)
    if os.path.isfile(path) and read_metadata(path).get("format") == DISCRIMINATOR_FORMAT:
        loaded, header = read_discriminator(path)
        return loaded, _without_architecture(header)
    return load_with_provenance(path)


def load_discriminator(path: str | os.PathLike) -> DiscriminatorWeights:
    """Reads a discriminator: a file that `srgan-jax import` wrote, or one of another program, or one of the Hub.

    Raises:
      FileNotFoundError: the file does not exist.
      WeightsError: the file is not a discriminator that is known, or is damaged.
    """
    path = hub.local_file(path)
    return importers.import_discriminator(path) if is_foreign(path) else read_discriminator(path)[0]


def _read(path: str | os.PathLike) -> tuple[Weights, dict[str, str]]:
    """Returns a generator of a file of this package, and the header."""
    tensors, header = read_tensors(path, FORMAT)
    try:
        architecture = read_architecture(header, GENERATORS, len(tensors))
        variables = trees.unflatten({name: tensor.astype(np.float32) for name, tensor in tensors.items()})
        return make_weights(jax.device_put(variables), architecture), header
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{os.fspath(path)}: {error}") from None


def load_blended(path: str | os.PathLike, strength: float) -> Weights:
    """Reads a GAN's generator, blended with its PSNR partner.

    The partner is the generator that training with the adversarial loss started from. It has no invented texture, and
    higher PSNR.

    Args:
      path: as for `load`; the header's "partner" is the name of a generator that ships, or of a file beside `path`.
      strength: weight of the generator in [0, 1]; 1 is the generator itself, 0 is its partner.

    Raises:
      FileNotFoundError: the file or its partner does not exist.
      WeightsError: the header names no partner, or the two differ in their architectures.
    """
    generator, provenance = load_with_provenance(path)
    partner = provenance.get("partner")
    if partner is None:
        raise WeightsError(
            f"{path} names no PSNR partner, so --strength has nothing to blend it with; "
            f"with two files: --blend PARTNER {path} {strength:g}"
        )
    return blend(load(find_partner(path, partner)), generator, strength)


def find_partner(path: str | os.PathLike, partner: str) -> str | os.PathLike:
    """Returns the file of a generator's PSNR partner: beside `path`, in its repository, or one that ships.

    Args:
      path: of the generator, as for `load`.
      partner: "partner" of its header.

    Raises:
      WeightsError: `partner` isn't a plain name: a file may not have others read, elsewhere or by the network.
    """
    if re.search(r"[/\\:\0]", partner) or partner in ("", ".", ".."):
        raise WeightsError(
            f"{os.fspath(path)}: its header names {partner!r:.80} as PSNR partner; expected the name of a file beside "
            "it, or of shipped weights"
        )
    if hub.is_address(path) and partner.endswith(hub.SUFFIX):
        return hub.beside(os.fspath(path), partner)
    beside = os.path.join(os.path.dirname(_resolve_path(path)), partner)
    return beside if os.path.isfile(beside) else pretrained.path_of(partner) or beside
