"""What a picture is read from: the path of a file, or a file that is open."""

import os
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from typing_extensions import TypeIs


def is_open(file: str | os.PathLike | BinaryIO) -> "TypeIs[BinaryIO]":
    """Whether `file` is an open file; else it is a path."""
    return hasattr(file, "read")
