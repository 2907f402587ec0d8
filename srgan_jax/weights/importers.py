"""Importers of published generators: files of other projects to `Weights`.

What is known is the table `IMPORTERS`; `weights/layouts/layout.py` says how an architecture is added.
"""

import os
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from flax.traverse_util import unflatten_dict

from srgan_jax.runtime.errors import lookup
from srgan_jax.weights.layouts import LAYOUTS, Tensors
from srgan_jax.weights.layouts.layout import Entries
from srgan_jax.weights.safetensors_io import WeightsError
from srgan_jax.weights.torch_checkpoint import read_torch
from srgan_jax.weights.weights import Weights, make_weights

IMPORTERS = LAYOUTS  # by the name that `--from` takes


def _convert(tensors: Tensors, entries: Entries, ignores: str) -> dict[str, np.ndarray]:
    """Returns their tensors with our names and layouts, by "collection/layer/name".

    Raises:
      WeightsError: a tensor is left over.
    """
    present = {ours: source for ours, source in entries.items() if source.name in tensors}
    used = {source.name for source in present.values()}
    surplus = [name for name in tensors if name not in used and not re.search(ignores, name)]
    if surplus:
        listed = "\n  ".join(f"surplus {name} {tensors[name].shape}" for name in surplus[:10])
        raise WeightsError(f"{len(surplus)} tensors don't belong to the generator:\n  {listed}")
    return {ours: np.ascontiguousarray(source.convert(tensors[source.name])) for ours, source in present.items()}


def import_generator(path: str | os.PathLike, source: str) -> Weights:
    """Returns a published generator.

    Args:
      path: a PyTorch checkpoint or `.safetensors`.
      source: a name in `IMPORTERS`.

    Returns:
      `Weights`; blocks, width and scale are read from the tensors.

    Raises:
      UserError: the source is unknown, the file is unreadable, or tensors are missing, surplus or of another shape; the
        message lists them.
    """
    lookup(IMPORTERS, source, "source")
    tensors = read_torch(path)
    try:
        return _import_tensors(tensors, source)
    except WeightsError as error:
        others = [name for name in IMPORTERS if name != source]
        fitting = [f"--from {name} fits" for name in others if _fits(tensors, name)]
        hint = fitting[0] if fitting else f"other sources: {', '.join(others)}"
        raise WeightsError(f"{os.fspath(path)} is not laid out as {source} ({hint}): {error}") from None


def _import_tensors(tensors: Tensors, source: str, options: Mapping[str, Any] = MappingProxyType({})) -> Weights:
    layout = IMPORTERS[source]
    try:
        architecture, entries = layout.describe(tensors, **options)
        converted = _convert(tensors, entries, layout.ignores)
        return make_weights(
            unflatten_dict({tuple(key.split("/")): value for key, value in converted.items()}), architecture
        )
    except (ValueError, LookupError, ArithmeticError, TypeError) as error:  # the tensors may be those of any network
        raise WeightsError(str(error)) from None


def _fits(tensors: Tensors, source: str) -> bool:
    try:
        _import_tensors(tensors, source)
    except WeightsError:
        return False
    return True
