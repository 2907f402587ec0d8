"""`new_folder`, which replaces a folder by a new one when the new one is complete."""

import contextlib
import errno
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from srgan_jax.runtime import atomic

TEMPORARY = re.compile(r"\.preparing-[0-9a-f]{16}")


def is_temporary(path: Path, root: Path) -> bool:
    """Returns whether `path` lies in a folder below `root` that `new_folder` has not finished."""
    return any(TEMPORARY.fullmatch(part) for part in path.relative_to(root).parts)


@contextlib.contextmanager
def new_folder(parent: Path, name: str) -> Iterator[Path]:
    """Yields an empty folder in which the caller makes the folder `name`; at the end it replaces `parent/name`.

    After an error the old folder stays, and the new one is deleted, with `parent` if that didn't exist. If the process
    is killed, the old folder stays, and the next call deletes the unfinished one, which no process locks any more.
    """
    missing = [path for path in (parent, *parent.parents) if not path.exists()]
    if parent.exists() and not parent.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(parent))
    parent.mkdir(parents=True, exist_ok=True)
    _delete_leftovers(parent)
    temporary = parent / f".preparing-{secrets.token_hex(8)}"
    temporary.mkdir()
    lock = os.open(temporary, os.O_RDONLY)
    atomic.try_lock(lock)
    try:
        yield temporary
        old = temporary / "old"
        if os.path.lexists(parent / name):
            (parent / name).rename(old)
        (temporary / name).rename(parent / name)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        for path in missing:
            with contextlib.suppress(OSError):  # not empty
                path.rmdir()
        raise
    finally:
        os.close(lock)
    shutil.rmtree(temporary, ignore_errors=True)


def _delete_leftovers(parent: Path) -> None:
    """Deletes the folders of earlier calls whose processes have ended."""
    for path in [path for path in parent.iterdir() if TEMPORARY.fullmatch(path.name) and not path.is_symlink()]:
        lock = os.open(path, os.O_RDONLY)
        try:
            if atomic.try_lock(lock):
                shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(lock)
