"""Weights of discriminators, from which a GAN stage can begin: `make_discriminator`, and files."""

import json
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from srgan_jax.models import DISCRIMINATORS, architecture_of, build
from srgan_jax.runtime import trees
from srgan_jax.weights.limits import read_architecture
from srgan_jax.weights.safetensors_io import DISCRIMINATOR_FORMAT, WeightsError, read_tensors, write_tensors
from srgan_jax.weights.weights import check_shapes


class DiscriminatorWeights(NamedTuple):
    """The variables of a discriminator and its architecture.

    Attributes:
      variables: the Flax variables `{"params": ..., "batch_stats": ...}`, float32.
      architecture: "name" (in `models.DISCRIMINATORS`) and every field of that module.
    """

    variables: Mapping[str, Any]
    architecture: Mapping[str, Any]

    def parameter_count(self) -> int:
        """Returns the number of parameters; running statistics are not counted."""
        return sum(leaf.size for leaf in jax.tree.leaves(self.variables["params"]))


def make_discriminator(variables: Mapping[str, Any], architecture: Mapping[str, Any]) -> DiscriminatorWeights:
    """Returns `DiscriminatorWeights`, with all fields of the architecture.

    Raises:
      UserError: a tensor is missing, surplus or of another shape, or the architecture is unknown.
    """
    module = build(DISCRIMINATORS, architecture)
    complete = architecture_of(DISCRIMINATORS, module)
    flat = trees.flatten(variables)  # the second vector of spectral normalisation is optional
    required = trees.unflatten({name: leaf for name, leaf in flat.items() if not name.endswith("/v")})
    check_shapes(required, module, side=complete.get("crop_px", 16))
    return DiscriminatorWeights(variables, complete)


def save_discriminator(
    path: str | os.PathLike, discriminator: DiscriminatorWeights, provenance: Mapping[str, str]
) -> None:
    """Writes a discriminator to a `.safetensors`, atomically; `provenance` are strings for its header."""
    tensors = {name: np.asarray(leaf) for name, leaf in trees.flatten(discriminator.variables).items()}
    architecture = json.dumps(dict(discriminator.architecture))
    write_tensors(path, tensors, {"format": DISCRIMINATOR_FORMAT, "architecture": architecture} | dict(provenance))


def read_discriminator(path: str | os.PathLike) -> tuple[DiscriminatorWeights, dict[str, str]]:
    """Returns a discriminator that `save_discriminator` wrote, and its header.

    Raises:
      UserError: the file does not exist, is damaged, or is another one.
    """
    tensors, header = read_tensors(path, DISCRIMINATOR_FORMAT)
    try:
        architecture = read_architecture(header, DISCRIMINATORS, len(tensors))
        return make_discriminator(trees.unflatten(tensors), architecture), header
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{os.fspath(path)}: {error}") from None
