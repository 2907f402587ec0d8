"""Atomic file writing: a file either has its complete content or doesn't exist. All modules write files this way."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike, *, durable: bool = False) -> Iterator[Path]:
    """Yields a temporary path in the folder of `path`; renames it to `path` at the end, or deletes it after an error.

    If the process is killed, `path` has its old content or the new one. Missing folders are created.

    Args:
      path: the file to write.
      durable: call fsync before renaming, so that the content survives a power failure.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    name = path.name if len(os.fsencode(path.name)) < 200 else hashlib.sha256(os.fsencode(path.name)).hexdigest()
    temporary = path.with_name(f".partial-{name}")
    try:
        yield temporary
        if durable:
            _sync(temporary)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str, *, durable: bool = False) -> None:
    """Writes `text` as UTF-8; the arguments are those of `atomic_file`."""
    with atomic_file(path, durable=durable) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
