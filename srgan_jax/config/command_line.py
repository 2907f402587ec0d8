"""Sets config keys from the command line: `--config.stages.pretrain.total_steps=100`."""

import ast
from collections.abc import Iterable, Sequence

from ml_collections import ConfigDict

from srgan_jax.config.renamed import check_run_key_not_renamed
from srgan_jax.runtime.errors import UserError, did_you_mean
from srgan_jax.runtime.types import PyTree

PREFIX = "--config."
BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
EXPECTED = {bool: "True or False", int: "a whole number in digits", float: "a number"}


OWN_FILE = "; an option that the recipe doesn't set is set in a config file of your own"


def apply_overrides(config: ConfigDict, arguments: Sequence[str], flags: Iterable[str] = ()) -> None:
    """Sets keys of `config`; each value is parsed as the type of the current value.

    Args:
      config: changed in place.
      arguments: `--config.KEY=VALUE`, or `--config.KEY` and `VALUE`. A tuple is written `a,b` or `('a', 'b')`.
      flags: of the command, to suggest one for a misspelt one.

    Raises:
      UserError: an argument that doesn't begin with `--config.`, no such key, or a value of another type.
    """
    arguments = list(arguments)
    while arguments:
        argument = arguments.pop(0)
        if not argument.startswith(PREFIX):
            hint = did_you_mean(argument, flags) or "; overrides look like --config.data.batch_size=8"
            raise UserError(f"unexpected argument {argument!r}{hint}")
        key, equals, text = argument.removeprefix(PREFIX).partition("=")
        if not equals:
            if not arguments:
                raise UserError(f"{argument}: expected a value, for instance {argument}=8")
            text = arguments.pop(0)
        section, field = _find(config, key)
        section[field] = _value(f"config.{key}", section[field], text)


def _find(config: ConfigDict, key: str) -> tuple[ConfigDict, str]:
    """Returns the section that contains a key, and the last part of the key."""
    parts = key.split(".")
    section, node = config, config
    for part in parts:
        if not isinstance(node, ConfigDict) or part not in node:
            check_run_key_not_renamed(key)
            hint = did_you_mean(part, node if isinstance(node, ConfigDict) else []) or OWN_FILE
            raise UserError(f"--config.{key}: no such key in the config: {part!r}{hint}")
        section, node = node, node[part]
    if isinstance(node, ConfigDict):
        raise UserError(f"--config.{key} is a section; expected one of its keys: {', '.join(sorted(node))}")
    return section, parts[-1]


def _value(key: str, before: PyTree, text: str) -> PyTree:
    """Returns `text` converted to the type of `before`."""
    if isinstance(before, tuple):
        return _items(key, text)
    if isinstance(before, str):
        return text
    try:
        return BOOLEANS[text.lower()] if isinstance(before, bool) else type(before)(text)
    except (KeyError, ValueError):
        raise UserError(f"{key}={text}: expected {EXPECTED[type(before)]}, got {text!r}") from None


def _items(key: str, text: str) -> tuple:
    """Returns the tuple written in `text`, in Python's syntax or as items separated by commas."""
    try:
        value = ast.literal_eval(text) if text.strip() else ()
    except (ValueError, SyntaxError):
        if text.lstrip().startswith(("(", "[")):
            raise UserError(f"{key}={text}: expected a tuple, for instance a,b or ('a', 'b')") from None
        return tuple(item.strip() for item in text.split(",") if item.strip())
    return tuple(value) if isinstance(value, tuple | list) else (value,)
