"""`LazyTable`, a table of classes by name that are imported when they are used."""

import importlib
from collections.abc import Iterator, Mapping, MutableMapping
from typing import TypeVar

T = TypeVar("T")


class LazyTable(MutableMapping[str, T]):
    """Classes by name. Those of the package are imported when they are used, so that a command starts without the rest.

    It can be used like a dict: `TABLE["mine"] = Mine` adds a class of your own.
    """

    def __init__(self, package: str, classes: Mapping[str, str]):
        """Makes the table.

        Args:
          package: the package that the modules of `classes` belong to.
          classes: name to "module:Class".
        """
        self._package, self._classes = package, dict(classes)
        self._entries: dict[str, str | T] = dict(classes)

    def __getitem__(self, name: str) -> T:
        entry = self._entries[name]
        if isinstance(entry, str):
            module, _, attribute = entry.partition(":")
            return getattr(importlib.import_module(f"{self._package}.{module}"), attribute)
        return entry

    def __setitem__(self, name: str, kind: T) -> None:
        self._entries[name] = kind

    def __delitem__(self, name: str) -> None:
        del self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries  # without importing the class

    def __repr__(self) -> str:
        return f"LazyTable({', '.join(self._entries)})"

    def is_of_package(self, name: str) -> bool:
        """Returns whether a name means the package's class of this name, and not one that was put in its place."""
        entry = self._entries.get(name)
        if entry is None or isinstance(entry, str):
            return entry is not None
        place = f"{getattr(entry, '__module__', '')}:{getattr(entry, '__qualname__', '')}"
        return place == f"{self._package}.{self._classes.get(name)}"
