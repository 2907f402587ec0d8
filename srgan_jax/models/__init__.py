"""The networks, by name: tables, and `build`, which makes a module from a description."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

import flax.linen as nn

from srgan_jax.models.discriminators import DISCRIMINATORS
from srgan_jax.models.extractors import EXTRACTORS
from srgan_jax.models.generators import GENERATORS
from srgan_jax.runtime.errors import lookup
from srgan_jax.runtime.types import PyTree

__all__ = ["DISCRIMINATORS", "EXTRACTORS", "GENERATORS", "Network", "architecture_of", "build", "fields_of"]
RUNTIME_FIELDS = ("dtype", "axis_name", "remat", "parent", "name")


class Network(Protocol):
    """A Flax module, as its callers use it.

    Flax says that `apply` may return a pair, the second part being changed variables; that is so with `mutable` alone.
    """

    def init(self, rngs: PyTree, *args: Any, **kwargs: Any) -> PyTree:
        """New variables."""
        ...

    def apply(self, variables: PyTree, *args: Any, **kwargs: Any) -> PyTree:
        """What the module makes of its input."""
        ...


def fields_of(module: type[nn.Module]) -> dict[str, Any]:
    """The fields that describe an architecture, with their defaults."""
    return {field.name: field.default for field in dataclasses.fields(module) if field.name not in RUNTIME_FIELDS}


def build(table: Mapping[str, type[nn.Module]], description: Mapping[str, Any], **runtime: Any) -> nn.Module:
    """A module from its description.

    Args:
      table: `GENERATORS`, `DISCRIMINATORS` or `EXTRACTORS`.
      description: "name" and any of the module's fields; those left out have their defaults.
      **runtime: `dtype`, `axis_name`, `remat` of generators.

    Raises:
      ValueError: unknown name or field; the message lists the valid ones.
    """
    options = dict(description)
    module = lookup(table, options.pop("name"), "network")
    for field in options:
        lookup(fields_of(module), field, f"field of {description['name']}")
    known = {field.name for field in dataclasses.fields(module)}
    runtime = {name: value for name, value in runtime.items() if name in known}  # a network need not have them
    return module(**{k: tuple(v) if isinstance(v, list) else v for k, v in options.items()}, **runtime)


def architecture_of(table: Mapping[str, type[nn.Module]], module: nn.Module) -> dict[str, Any]:
    """The complete description of `module`, defaults included: what `build` needs to make it again."""
    name = next(name for name, entry in table.items() if entry is type(module))
    return {"name": name} | {field: getattr(module, field) for field in fields_of(type(module))}
