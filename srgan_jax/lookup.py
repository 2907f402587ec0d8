"""Names in configs and files, looked up in the tables of this package."""

from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")


def lookup(table: Mapping[str, T], name: str, what: str) -> T:
    """Returns `table[name]`.

    Args:
      table: one of the package's dicts, such as `losses.PIXEL`.
      name: the name asked for.
      what: what the table holds, for the error message ("pixel loss").

    Raises:
      ValueError: the name is unknown; the message lists the valid ones.
    """
    if name not in table:
        raise ValueError(f"unknown {what} {name!r}; valid: {', '.join(map(str, sorted(table)))}")
    return table[name]
