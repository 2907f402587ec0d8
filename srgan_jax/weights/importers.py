"""Importers of published generators: files of other projects to `Weights`.

What is known is the table `IMPORTERS`; `weights/layouts/layout.py` says how an architecture is added.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from flax.traverse_util import unflatten_dict

from srgan_jax.runtime.errors import lookup
from srgan_jax.weights.layouts import LAYOUTS, Tensors
from srgan_jax.weights.layouts.layout import Entries
from srgan_jax.weights.recognition import describe_unknown
from srgan_jax.weights.safetensors_io import EXTRACTOR_FORMAT, FORMAT, WeightsError, sha256_of
from srgan_jax.weights.state_dict import candidates, unwrap
from srgan_jax.weights.torch_checkpoint import read_content
from srgan_jax.weights.weights import Weights, make_weights

IMPORTERS = LAYOUTS  # by the name that `--from` takes
NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})
NOT_STATED = "not stated"
ERRORS = (ValueError, LookupError, ArithmeticError, TypeError, AttributeError)  # the tensors may be any network's


def import_generator(path: str | os.PathLike, source: str = "", options: Mapping[str, Any] = NO_OPTIONS) -> Weights:
    """Returns a published generator: the first result of `import_with_provenance`."""
    return _import_file(path, source, options)[0]


def import_with_provenance(
    path: str | os.PathLike, source: str = "", options: Mapping[str, Any] = NO_OPTIONS, licence: str = ""
) -> tuple[Weights, dict[str, str]]:
    """Returns a published generator, and what is known of its file.

    Args:
      path: a PyTorch checkpoint, or a `.safetensors` of another program.
      source: a name in `IMPORTERS`; "" detects it from names and shapes of the tensors.
      options: what the file can't tell, by name: see `Layout.options`.
      licence: of the weights; "": what the file states.

    Returns:
      `Weights`, with batch normalisation as it is; and for the header the layout, the name of the file, its SHA-256,
      the licence or "not stated", and the author if the file names one.

    Raises:
      UserError: the source or an option is unknown, the file is unreadable or holds something else, or tensors are
        missing, surplus or of another shape. The message names what the file seems to hold.
    """
    weights, found, metadata = _import_file(path, source, options)
    stated = {key.removeprefix("modelspec.").lower(): value for key, value in metadata.items()}  # Stability AI's keys
    licence = licence or stated.get("license") or stated.get("licence") or NOT_STATED
    provenance = {"source": found, "file": Path(path).name, "sha256": sha256_of(path), "licence": licence}
    author = stated.get("author") or stated.get("authors")
    return weights, provenance | ({"author": author} if author else {})


def _import_file(
    path: str | os.PathLike, source: str, options: Mapping[str, Any]
) -> tuple[Weights, str, Mapping[str, str]]:
    """Returns a published generator, the name of its layout, and the metadata of its file."""
    if source:
        lookup(IMPORTERS, source, "source")
    content, metadata = read_content(path)
    if metadata.get("format") in (FORMAT, EXTRACTOR_FORMAT):
        raise WeightsError(f"{os.fspath(path)} is a file of srgan_jax already: {metadata['format']}")
    tensors = unwrap(content)
    found = source or detect(tensors)[0]
    if not found:
        raise WeightsError(f"{os.fspath(path)} is not a generator that is known: {describe_unknown(content, tensors)}")
    for name in options:
        lookup(IMPORTERS[found].options, name, f"option of {found}")
    try:
        return _import_tensors(_fitting(tensors, found), found, options), found, metadata
    except WeightsError as error:
        what = f"is not laid out as {found} ({_hint(tensors, source)})" if source else f"looks like {found}, but isn't"
        raise WeightsError(f"{os.fspath(path)} {what}: {error}") from None


def detect(tensors: Tensors) -> tuple[str, Tensors]:
    """Returns the name in `IMPORTERS` of the first layout that fits, and its tensors without prefixes; "" for none."""
    for inner in candidates(tensors):
        for name in IMPORTERS:
            if _detects(name, inner):
                return name, inner
    return "", tensors


def _detects(source: str, tensors: Tensors) -> bool:
    try:
        return bool(IMPORTERS[source].detect(tensors))
    except ERRORS:
        return False


def _fitting(tensors: Tensors, source: str) -> Tensors:
    """Returns the tensors without those prefixes that keep `source` from detecting them."""
    return next((inner for inner in candidates(tensors) if _detects(source, inner)), tensors)


def _import_tensors(tensors: Tensors, source: str, options: Mapping[str, Any] = NO_OPTIONS) -> Weights:
    layout = IMPORTERS[source]
    try:
        architecture, entries = layout.describe(tensors, **options)
        converted = _convert(tensors, entries, layout.ignores)
        return make_weights(
            unflatten_dict({tuple(name.split("/")): converted[name] for name in converted}), architecture
        )
    except ERRORS as error:
        raise WeightsError(str(error)) from None


def _convert(tensors: Tensors, entries: Entries, ignores: str) -> dict[str, np.ndarray]:
    """Returns their tensors with our names and layouts, by "collection/layer/name".

    Raises:
      WeightsError: a tensor is left over, or has values that aren't finite.
    """
    present = {ours: source for ours, source in entries.items() if source.name in tensors}
    used = {source.name for source in present.values()}
    surplus = [name for name in tensors if name not in used and not re.search(ignores, name)]
    if surplus:
        listed = "\n  ".join(f"surplus {name} {tensors[name].shape}" for name in surplus[:10])
        raise WeightsError(f"{len(surplus)} tensors don't belong to the generator:\n  {listed}")
    bad = [name for name in used if not np.isfinite(tensors[name]).all()]
    if bad:
        raise WeightsError(f"values that aren't finite in {', '.join(sorted(bad)[:5])}")
    converted = {ours: source.convert(tensors[source.name]) for ours, source in present.items()}
    return {ours: np.ascontiguousarray(value, np.float32) for ours, value in converted.items()}


def _hint(tensors: Tensors, source: str) -> str:
    """Returns what to write in place of `--from source`: a layout that fits, or all others."""
    found = detect(tensors)[0]
    others = ", ".join(name for name in IMPORTERS if name != source)
    return f"--from {found} fits" if found not in ("", source) else f"other sources: {others}"
