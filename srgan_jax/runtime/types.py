"""Aliases for types that Python's type system can't express."""

from typing import Any

PyTree = Any  # nested dicts, tuples and dataclasses with arrays as leaves; see `jax.tree`
Device = Any  # `jax.Device`, a class of jaxlib, which has no type annotations
