"""`readable`, which converts names of files to text that can be printed and written as UTF-8."""

import os
from pathlib import Path


def readable(path: str | Path) -> str:
    """Returns a path as text; bytes that are not UTF-8 are escaped."""
    return os.fsencode(path.as_posix() if isinstance(path, Path) else path).decode(errors="backslashreplace")
