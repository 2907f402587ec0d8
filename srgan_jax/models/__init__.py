"""Generators, discriminators and feature extractors: tables by name, and `build`, which creates a module."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from srgan_jax.models.discriminators import DISCRIMINATORS
from srgan_jax.models.extractors import EXTRACTORS
from srgan_jax.models.generators import GENERATORS
from srgan_jax.runtime.errors import lookup
from srgan_jax.runtime.types import PyTree

if TYPE_CHECKING:
    import flax.linen as nn

__all__ = [
    "DISCRIMINATORS",
    "EXTRACTORS",
    "GENERATORS",
    "Network",
    "architecture_of",
    "build",
    "channels_of",
    "fields_of",
]
RUNTIME_FIELDS = ("dtype", "axis_name", "remat", "parent", "name")


class Network(Protocol):
    """The type of a Flax module for its callers.

    Flax annotates `apply` as returning a pair of output and updated variables, which is so only with `mutable`.
    """

    def init(self, rngs: PyTree, *args: Any, **kwargs: Any) -> PyTree:
        """Returns initialised variables."""
        ...

    def apply(self, variables: PyTree, *args: Any, **kwargs: Any) -> PyTree:
        """Returns the output of the module."""
        ...


def fields_of(module: "type[nn.Module]") -> dict[str, Any]:
    """Returns the fields that describe an architecture, with their defaults."""
    return {field.name: field.default for field in dataclasses.fields(module) if field.name not in RUNTIME_FIELDS}


def build(table: "Mapping[str, type[nn.Module]]", description: Mapping[str, Any], **runtime: Any) -> "nn.Module":
    """Returns a module.

    Args:
      table: `GENERATORS`, `DISCRIMINATORS` or `EXTRACTORS`.
      description: "name" and any of the module's fields; missing fields have their defaults.
      **runtime: `dtype`, `axis_name`, `remat`; ignored where the module has no such field.

    Raises:
      UserError: unknown name or field; the message lists the valid ones.
    """
    options = dict(description)
    module = lookup(table, options.pop("name"), "network")
    for field in options:
        lookup(fields_of(module), field, f"field of {description['name']}")
    known = {field.name for field in dataclasses.fields(module)}
    runtime = {name: value for name, value in runtime.items() if name in known}
    return module(**{k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}, **runtime)


def channels_of(architecture: Mapping[str, Any]) -> int:
    """Returns the channels of the images that a generator takes: 3 unless its architecture says otherwise."""
    return architecture.get("channels", 3)


def architecture_of(table: "Mapping[str, type[nn.Module]]", module: "nn.Module") -> dict[str, Any]:
    """Returns the complete description of `module`, defaults included, from which `build` creates it again."""
    name = next(name for name, entry in table.items() if entry is type(module))
    return {"name": name} | {field: getattr(module, field) for field in fields_of(type(module))}
