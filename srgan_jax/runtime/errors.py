"""Errors that are the user's to fix, and names looked up in the tables of this package."""

from collections.abc import Mapping
from typing import TypeVar

K = TypeVar("K", str, int)
T = TypeVar("T")


class UserError(ValueError):
    """A mistake in a config, a file or an argument: what was expected, what came, and what to change.

    The commands print it in one line, without a traceback.
    """


class MissingFileError(UserError, FileNotFoundError):
    """A file or folder that isn't there."""


def lookup(table: Mapping[K, T], name: K, what: str) -> T:
    """Returns `table[name]`.

    Args:
      table: one of the package's dicts, such as `losses.PIXEL`.
      name: the name asked for.
      what: what the table holds, for the error message ("pixel loss").

    Raises:
      UserError: the name is unknown; the message lists the valid ones.
    """
    if name not in table:
        raise UserError(f"unknown {what} {name!r}; valid: {', '.join(map(str, sorted(table)))}")
    return table[name]
