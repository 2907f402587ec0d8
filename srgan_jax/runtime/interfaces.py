"""Checks that entries of tables have the interface that a run needs, so that it fails at its start and not later."""

import inspect
from collections.abc import Callable, Sequence

from srgan_jax.runtime.errors import UserError


def check_parameters(function: Callable[..., object], wanted: Sequence[str], what: str, call: str) -> None:
    """Checks that a function accepts keyword arguments.

    Args:
      function: the function of an entry.
      wanted: the names of the arguments.
      what: the entry, for the message: "generator 'edsr'".
      call: the expected signature, for the message: "(lr, *, train, mask)".

    Raises:
      UserError: some arguments are missing; the message names them.
    """
    parameters = inspect.signature(function).parameters
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    if missing := [name for name in wanted if name not in parameters]:
        raise UserError(f"{what} takes no {' and no '.join(missing)}; it is called as {call}")


def check_attributes(entry: object, wanted: Sequence[str], what: str) -> None:
    """Checks that an entry has attributes, such as the fields of a Flax module.

    Raises:
      UserError: some attributes are missing; the message names them.
    """
    if missing := [name for name in wanted if not hasattr(entry, name)]:
        raise UserError(f"{what} has no {' and no '.join(missing)}")
