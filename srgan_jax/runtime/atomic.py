"""Atomic file writing: a file either has its complete content or doesn't exist. All modules write files this way."""

import contextlib
import contextvars
import errno
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from srgan_jax.runtime import storage
from srgan_jax.runtime.locks import fcntl, try_lock

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
TEMPORARY = re.compile(r"\.partial-[0-9a-f]{16}-.*", re.DOTALL)
_cleaned: set[str] = set()  # folders whose leftovers this process has deleted
_before_rename: contextvars.ContextVar[Callable[[Path, Path], None] | None] = contextvars.ContextVar(
    "before_rename", default=None
)


@contextlib.contextmanager
def before_rename(call: Callable[[Path, Path], None]) -> Iterator[None]:
    """Makes `atomic_file` call `call(temporary, path)` when the content is complete, before it is renamed.

    Applies to the calls of `atomic_file` inside the `with` block, in this thread. An exception of `call` prevents the
    renaming.
    """
    token = _before_rename.set(call)
    try:
        yield
    finally:
        _before_rename.reset(token)


@contextlib.contextmanager
def atomic_file(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary path in the folder of `path`; renames it to `path` at the end, or deletes it after an error.

    If the process is killed or the power fails, `path` has its old content or the new one. Missing folders are created.
    A symbolic link at `path` is replaced, not followed. Several processes may write the same `path`: one of the
    complete files remains.

    The temporary file has a random name and is created exclusively. It is locked while its process runs. The first
    call for a folder deletes the temporary files there that no process locks: those of killed processes.

    For a path of a bucket, the temporary file is local, and is uploaded at the end.
    """
    if storage.scheme(path):
        with tempfile.TemporaryDirectory() as folder:
            yield (temporary := Path(folder, os.path.basename(path)))
            storage.upload(temporary, path)
        return
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if (folder := os.path.realpath(path.parent)) not in _cleaned:
        _cleaned.add(folder)
        delete_leftovers(folder)
    temporary, lock = _create(path)
    try:
        yield temporary
        _sync(temporary)
        if call := _before_rename.get():
            call(temporary, path)
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        if error.errno in NO_SPACE and error.filename is None:  # of a write, which doesn't name the file
            error.filename = os.fspath(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)
        if lock is not None:
            os.close(lock)


def no_follow(path: str, flags: int) -> int:
    """Returns a file descriptor, as an opener for `open`; raises OSError if `path` is a symbolic link."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes `text` as UTF-8 by `atomic_file`."""
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def delete_leftovers(folder: str | os.PathLike) -> None:
    """Deletes the temporary files in `folder` whose processes have ended; does nothing on systems without locks."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        found = [entry.path for entry in entries if TEMPORARY.fullmatch(entry.name)]
        for path in found if fcntl else []:
            with contextlib.suppress(OSError):  # locked: a process is writing it
                lock = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
                try:
                    if stat.S_ISREG(os.fstat(lock).st_mode) and try_lock(lock):
                        os.unlink(path)
                finally:
                    os.close(lock)


def _create(path: Path) -> tuple[Path, int | None]:
    """Creates an empty temporary file for `path`; returns it with the descriptor that locks it, if that is possible."""
    while True:
        name = os.fsdecode(os.fsencode(path.name)[-200:])  # the end: some libraries look at the suffix
        temporary = path.with_name(f".partial-{secrets.token_hex(8)}-{name}")
        lock = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o666)
        if fcntl is None:
            os.close(lock)
            return temporary, None
        locked = try_lock(lock, wait=True)  # `delete_leftovers` of another process may hold it for a moment
        if os.fstat(lock).st_nlink or not locked:
            return temporary, lock
        os.close(lock)  # another process deleted it before it was locked


def _sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk; ignores systems that can't do this for folders."""
    if path.is_dir():
        with contextlib.suppress(OSError):
            _sync_descriptor(os.open(path, os.O_RDONLY))
    else:
        _sync_descriptor(os.open(path, os.O_RDWR))


def _sync_descriptor(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
