"""Importers of published networks: files of other projects to `Weights` and `DiscriminatorWeights`.

What is known are the tables `IMPORTERS` and `DISCRIMINATOR_LAYOUTS`; `weights/layouts/layout.py` says how an
architecture is added.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from srgan_jax.models import DISCRIMINATORS, GENERATORS
from srgan_jax.runtime import trees
from srgan_jax.runtime.errors import lookup
from srgan_jax.runtime.lazy_table import LazyTable
from srgan_jax.weights.discriminators import DiscriminatorWeights, make_discriminator
from srgan_jax.weights.layouts import DISCRIMINATOR_LAYOUTS, LAYOUTS, Layout, Tensors
from srgan_jax.weights.layouts.layout import Entries
from srgan_jax.weights.limits import check_architecture
from srgan_jax.weights.recognition import describe_unknown
from srgan_jax.weights.safetensors_io import FORMATS, WeightsError, check_values, sha256_of
from srgan_jax.weights.state_dict import DISCRIMINATOR_WRAPPERS, WRAPPERS, candidates, unwrap
from srgan_jax.weights.torch_checkpoint import read_content
from srgan_jax.weights.weights import Weights, make_weights

if TYPE_CHECKING:
    import flax.linen as nn

IMPORTERS = LAYOUTS  # by the name that `--from` takes
NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})
NOT_STATED = "not stated"
SHOWN = 5  # names of tensors in a message
ERRORS = (ValueError, LookupError, ArithmeticError, TypeError, AttributeError)  # the tensors may be any network's


class Kind(NamedTuple):
    """A kind of network that is imported.

    Attributes:
      name: for messages.
      networks: the table of its architectures.
      layouts: of its files, by name.
      wrappers: keys of a checkpoint that hold its state dict, those that are preferred first.
      make: `(variables, architecture) -> weights`; checks shapes.
      use: what to do with such a file where another kind was expected.
    """

    name: str
    networks: "LazyTable[type[nn.Module]]"
    layouts: Mapping[str, Layout]
    wrappers: Sequence[str]
    make: Callable[[Mapping[str, Any], Mapping[str, Any]], Any]
    use: str


GENERATOR = Kind("generator", GENERATORS, LAYOUTS, WRAPPERS, make_weights, "config.init_from takes it")
DISCRIMINATOR = Kind(
    "discriminator", DISCRIMINATORS, DISCRIMINATOR_LAYOUTS, DISCRIMINATOR_WRAPPERS, make_discriminator,
    "training takes it: config.discriminator_init_from",
)  # fmt: skip
KINDS = (GENERATOR, DISCRIMINATOR)


def import_generator(path: str | os.PathLike, source: str = "", options: Mapping[str, Any] = NO_OPTIONS) -> Weights:
    """Returns a published generator: the first result of `import_with_provenance`."""
    return _import_file(path, source, options, (GENERATOR,))[0]


def import_discriminator(path: str | os.PathLike) -> DiscriminatorWeights:
    """Returns a published discriminator; raises UserError as `import_with_provenance`."""
    return _import_file(path, "", NO_OPTIONS, (DISCRIMINATOR,))[0]


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
    weights, found, metadata = _import_file(path, source, options, (GENERATOR,))
    return weights, _provenance(path, found, metadata, licence)


def import_network(
    path: str | os.PathLike, source: str = "", options: Mapping[str, Any] = NO_OPTIONS, licence: str = ""
) -> tuple[Weights | DiscriminatorWeights, dict[str, str]]:
    """Returns a published generator or discriminator, and what is known of its file: see `import_with_provenance`."""
    network, found, metadata = _import_file(path, source, options, KINDS)
    return network, _provenance(path, found, metadata, licence)


def _provenance(path: str | os.PathLike, found: str, metadata: Mapping[str, str], licence: str) -> dict[str, str]:
    stated = {key.removeprefix("modelspec.").lower(): value for key, value in metadata.items()}  # Stability AI's keys
    licence = licence or stated.get("license") or stated.get("licence") or NOT_STATED
    author = stated.get("author") or stated.get("authors")
    provenance = {"source": found, "file": Path(path).name, "sha256": sha256_of(path), "licence": licence}
    return provenance | ({"author": author} if author else {})


def _import_file(
    path: str | os.PathLike, source: str, options: Mapping[str, Any], kinds: Sequence[Kind]
) -> tuple[Any, str, Mapping[str, str]]:
    """Returns a published network of one of `kinds`, the name of its layout, and the metadata of its file."""
    layouts = {name: layout for kind in kinds for name, layout in kind.layouts.items()}
    if source:
        lookup(layouts, source, "source")
    content, metadata = read_content(path)
    if metadata.get("format") in FORMATS:
        raise WeightsError(f"{os.fspath(path)} is a file of srgan_jax already: {metadata['format']}")
    kind, tensors, found = _find(content, source, kinds)
    if not found:
        raise WeightsError(f"{os.fspath(path)} is not a {kind.name} that is known: {_describe(content, tensors)}")
    for name in options:
        lookup(layouts[found].options, name, f"option of {found}")
    try:
        return _import_tensors(_fitting(tensors, layouts[found]), found, options, kind), found, metadata
    except WeightsError as error:
        what = f"looks like {found}, but isn't"
        what = f"is not laid out as {found} ({_hint(tensors, source, kind)})" if source else what
        raise WeightsError(f"{os.fspath(path)} {what}: {error}") from None


def _find(content: Any, source: str, kinds: Sequence[Kind]) -> tuple[Kind, dict[str, np.ndarray], str]:
    """Returns the first kind of network that a file holds, its tensors, and the name of its layout; "" for none."""
    for kind in kinds:
        tensors = unwrap(content, kind.wrappers)
        found = source if source in kind.layouts else "" if source else detect(tensors, kind.layouts)[0]
        if found:
            return kind, tensors, found
    return kinds[0], unwrap(content, kinds[0].wrappers), ""


def _describe(content: Any, tensors: Tensors) -> str:
    """Returns what a file holds that isn't what was expected."""
    kind, _, found = _find(content, "", KINDS)
    return f"it holds a {kind.name} ({found}); {kind.use}" if found else describe_unknown(content, tensors)


def detect(tensors: Tensors, layouts: Mapping[str, Layout] = LAYOUTS) -> tuple[str, Tensors]:
    """Returns the name of the first layout that fits, and its tensors without prefixes; "" for none."""
    for inner in candidates(tensors):
        for name, layout in layouts.items():
            if _detects(layout, inner):
                return name, inner
    return "", tensors


def _detects(layout: Layout, tensors: Tensors) -> bool:
    try:
        return bool(layout.detect(tensors))
    except ERRORS:
        return False


def _fitting(tensors: Tensors, layout: Layout) -> Tensors:
    """Returns the tensors without those prefixes that keep `layout` from detecting them."""
    return next((inner for inner in candidates(tensors) if _detects(layout, inner)), tensors)


def _import_tensors(
    tensors: Tensors, source: str, options: Mapping[str, Any] = NO_OPTIONS, kind: Kind = GENERATOR
) -> Any:
    layout = kind.layouts[source]
    try:
        architecture, entries = layout.describe(tensors, **options)
        check_architecture(architecture, kind.networks[architecture["name"]], len(tensors))
        converted = _convert(tensors, entries, layout.ignores)
        return kind.make(trees.unflatten(converted), architecture)
    except ERRORS as error:
        raise WeightsError(str(error)) from None


def _convert(tensors: Tensors, entries: Entries, ignores: str) -> dict[str, np.ndarray]:
    """Returns their tensors with our names and layouts, by "collection/layer/name".

    Raises:
      WeightsError: a tensor is left over, isn't of floats, or has values that aren't finite.
    """
    present = {ours: source for ours, source in entries.items() if source.name in tensors}
    used = {source.name for source in present.values()}
    surplus = [name for name in tensors if name not in used and not re.search(ignores, name)]
    if surplus:
        listed = ", ".join(f"{name} {tensors[name].shape}" for name in surplus[:SHOWN])
        raise WeightsError(f"{len(surplus)} tensors don't belong to the network: surplus {listed}")
    integers = sorted(name for name in used if tensors[name].dtype.kind != "f")
    if integers:
        raise WeightsError(
            f"expected floats, found {tensors[integers[0]].dtype} in {', '.join(integers[:SHOWN])}; quantised networks "
            "are not supported"
        )
    check_values({name: tensors[name] for name in used})
    converted = {ours: source.convert(tensors[source.name]) for ours, source in present.items()}
    check_values(converted)
    return {ours: np.ascontiguousarray(value, np.float32) for ours, value in converted.items()}


def _hint(tensors: Tensors, source: str, kind: Kind) -> str:
    """Returns what to write in place of `--from source`: a layout that fits, or all others."""
    found = detect(tensors, kind.layouts)[0]
    others = ", ".join(name for name in kind.layouts if name != source)
    return f"--from {found} fits" if found not in ("", source) else f"other sources: {others}"
