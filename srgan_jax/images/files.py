"""The two kinds of input of the decoder: the path of a file, or an open file."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from typing_extensions import TypeIs


def is_open(file: str | os.PathLike | BinaryIO) -> "TypeIs[BinaryIO]":
    """Returns whether `file` is an open file; otherwise it is a path."""
    return hasattr(file, "read")


@contextlib.contextmanager
def opened(file: str | os.PathLike | BinaryIO) -> Iterator[BinaryIO]:
    """Opens a path for reading; an open file is used itself, from its beginning, and stays open."""
    if is_open(file):
        file.seek(0)
        yield file
    else:
        with open(file, "rb") as stream:
            yield stream


def read_bytes(file: str | os.PathLike | BinaryIO) -> bytes:
    """Returns all bytes of a file."""
    if is_open(file):
        file.seek(0)
        return file.read()
    return Path(file).read_bytes()
