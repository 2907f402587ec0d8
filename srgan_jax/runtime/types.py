"""Types that stand for what Python's type system can't say."""

from typing import Any

PyTree = Any  # nested dicts, tuples and dataclasses with arrays as leaves, as `jax.tree` knows them
Device = Any  # `jax.Device`, a class of jaxlib, which comes without types
