"""Nested dicts by path, and `FrozenMapping`, a mapping that can be a key.

Flax has the same (`flax.traverse_util`, `flax.core.FrozenDict`), but importing it takes a tenth of the time in which
`srgan-jax upscale` starts, and nothing else there needs it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import jax

from srgan_jax.runtime.types import PyTree


class FrozenMapping(Mapping[str, Any]):
    """A mapping that can't be changed. It has a hash if its values have one."""

    def __init__(self, items: Mapping[str, Any]):
        """Copies `items`."""
        self._items = dict(items)

    def __getitem__(self, key: str) -> Any:
        return self._items[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    def __repr__(self) -> str:
        return f"FrozenMapping({self._items})"


def flatten(tree: PyTree) -> dict[str, Any]:
    """Returns the leaves of a nested mapping by path, such as "params/conv_in/kernel", sorted."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def unflatten(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the nested dict whose leaves by path are `leaves`; raises ValueError if a leaf lies inside another."""
    tree: dict[str, Any] = {}
    for path, leaf in leaves.items():
        *parents, name = path.split("/")
        branch = tree
        for parent in parents:
            branch = branch.setdefault(parent, {})
            if not isinstance(branch, dict):
                raise ValueError(f"{path} lies inside another tensor")
        if name in branch:
            raise ValueError(f"other tensors lie inside {path}")
        branch[name] = leaf
    return tree
