"""What goes wrong because of what a user gave, and names looked up in the tables of this package."""

import re
import traceback
from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")
MEANINGS = {  # of what the libraries say about a value that can't be read
    r"invalid literal for int\(\) with base 10:": "expected a whole number in digits, got",
    "module 'config_config' has no attribute": "the file of --config has no function",
    "\nDid you mean": "; did you mean",
    "could not convert string to float:": "expected a number, got",
    r"\('Non-boolean argument to boolean flag', (.*)\)": r"expected True or False, got \1",
}


class UserError(ValueError):
    """A mistake in a config, a file or an argument: what was expected, what came, and what to change.

    The commands print it in one line, without a traceback.
    """


class MissingFileError(UserError, FileNotFoundError):
    """A file or folder that isn't there."""


def in_plain_words(error: BaseException) -> str:
    """What was raised over a flag, a key of the config or in the config file; in one line, with the file's line."""
    place, error = _in_config_file(error)
    while error.args and isinstance(error.args[0], Exception):
        error = error.args[0]
    text = f"no such key in the config: {error.args[0]}" if isinstance(error, KeyError) else str(error)
    if isinstance(error, OSError) and not place:  # ml_collections tells first where it looked
        text = f"no config: {text.strip().splitlines()[-1]}"
    for said, meant in MEANINGS.items():
        text = re.sub(said, meant, text)
    return place + " ".join(text.split())


def _in_config_file(error: BaseException) -> tuple[str, BaseException]:
    """Where in the config file an error comes from, as "mine.py, line 4: " or "" for elsewhere; and the cause of it."""
    cause: BaseException | None = error
    while cause is not None:
        for frame, line in reversed(list(traceback.walk_tb(cause.__traceback__))):
            if frame.f_globals.get("__name__") == "config_config":  # ml_collections' name for the file of --config
                return f"{frame.f_code.co_filename}, line {line}: ", cause
        cause = cause.__cause__ or cause.__context__
    return "", error


def lookup(table: Mapping[str, T], name: str, what: str) -> T:
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
