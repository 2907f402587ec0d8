"""Errors that are the user's to fix, and names looked up in the tables of this package."""

import difflib
from collections.abc import Iterable, Mapping
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


def did_you_mean(name: str, valid: Iterable[str]) -> str:
    """Returns a question that names up to three valid names like `name`, to end a message with; "" where none is."""
    valid = list(valid)
    longer = [other for other in valid if name and name in other]
    near = list(dict.fromkeys([*longer, *difflib.get_close_matches(name, valid, n=2)]))[:3]
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
