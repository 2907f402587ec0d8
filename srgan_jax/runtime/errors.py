"""Errors that users can fix, and the lookup of names in the tables of this package."""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

K = TypeVar("K", str, int)
T = TypeVar("T")


class UserError(ValueError):
    """A wrong config, file or argument. The message states what was expected, what was found, and what to change.

    The commands print it in one line, without a traceback.
    """


class MissingFileError(UserError, FileNotFoundError):
    """A file or folder doesn't exist."""


def lookup(table: Mapping[K, T], name: K, what: str) -> T:
    """Returns `table[name]`.

    Args:
      table: one of the package's tables, such as `losses.PIXEL`.
      name: the key to look up.
      what: what the table contains, for the error message ("pixel loss").

    Raises:
      UserError: the name is unknown; the message lists the valid ones.
    """
    if name not in table:
        hint = did_you_mean(name, map(str, table)) if isinstance(name, str) else ""
        raise UserError(f"unknown {what} {name!r}; valid: {', '.join(map(str, sorted(table)))}{hint}")
    return table[name]


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """Returns "; did you mean ...?", the end of a message, with up to three similar valid names; "" without any."""
    valid = list(valid)
    longer = [other for other in valid if name and name in other]
    near = list(dict.fromkeys([*longer, *difflib.get_close_matches(name, valid, n=2)]))[:3]
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
