"""Files that are either whole or not there: the one way in which this package writes a file that others read."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike, *, durable: bool = False) -> Iterator[Path]:
    """Yields a temporary path beside `path` that becomes `path` at the end, and is deleted where an error comes.

    A kill leaves the old content or the new one. Folders are made.

    Args:
      path: the file to write.
      durable: wait until the content is on the disk before it gets its name, so that a power failure can't lose it.
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
