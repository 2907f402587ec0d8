"""The two kinds of input of the decoder: the path of a file, or an open file."""

import os
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from typing_extensions import TypeIs


def is_open(file: str | os.PathLike | BinaryIO) -> "TypeIs[BinaryIO]":
    """Returns whether `file` is an open file; otherwise it is a path."""
    return hasattr(file, "read")
