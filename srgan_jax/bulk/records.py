"""What a folder's results were made from: digests of the input and of the settings, in a file beside the results.

An existing file counts as a finished result by these digests, not by its name and size.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

FILE = ".srgan_jax.jsonl"  # in each folder with results; one line for each result that was written


class Record(NamedTuple):
    """One result: its name, what it was made from, and how to recognise it."""

    name: str
    source: str  # SHA-256 of the input
    settings: str  # SHA-256 of weights, size and options
    origin: str  # real path of the input
    size: int  # bytes of the result
    modified: int  # its modification time in ns
    sha256: str


def file_digest(path: str | os.PathLike) -> str:
    """Returns the SHA-256 of a file's content, hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_or_none(path: str | os.PathLike) -> str | None:
    """Returns `file_digest`, or None if the file can't be read."""
    try:
        return file_digest(path)
    except OSError:
        return None


def record_of(result: Path) -> Record | None:
    """Returns the record of an existing file; None if this package didn't write it, or it was changed since."""
    with contextlib.suppress(OSError):
        status = os.stat(result)
        same_size = [record for record in _read(result.parent).get(result.name, []) if record.size == status.st_size]
        for record in reversed(same_size):
            if record.modified == status.st_mtime_ns:
                return record
        found = file_digest(result) if same_size else ""
        return next((record for record in reversed(same_size) if record.sha256 == found), None)
    return None


def add_record(content: Path, result: Path, *, source: str, settings: str, origin: Path) -> None:
    """Appends the record of a result that is about to appear.

    Args:
      content: a file with the complete content of the result.
      result: the path to which it will be renamed.
      source: SHA-256 of the input.
      settings: SHA-256 of the settings.
      origin: path of the input.

    Raises:
      OSError: the record can't be written; symbolic links are not followed.
    """
    status, sha256 = os.stat(content), file_digest(content)
    record = Record(result.name, source, settings, os.path.realpath(origin), status.st_size, status.st_mtime_ns, sha256)
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    descriptor = os.open(result.parent / FILE, flags, 0o666)
    try:
        os.write(descriptor, f"\n{json.dumps(record._asdict())}\n".encode())  # begins a line even after a cut one
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


_cache: dict[str, tuple[tuple[int, int], dict[str, list[Record]]]] = {}  # folder -> (size, time) of FILE, and records


def _read(folder: Path) -> dict[str, list[Record]]:
    """Returns the records of a folder by name, each list in the order in which they were written."""
    path = folder / FILE
    status = os.stat(path)
    key, version = os.path.realpath(folder), (status.st_size, status.st_mtime_ns)
    if key not in _cache or _cache[key][0] != version:
        found: dict[str, list[Record]] = {}
        for record in _parsed(path.read_text(encoding="utf-8", errors="replace")):
            found.setdefault(record.name, []).append(record)
        _cache[key] = version, found
    return _cache[key][1]


def _parsed(text: str) -> Iterator[Record]:
    for line in text.splitlines():
        with contextlib.suppress(ValueError, TypeError):  # cut by a full disk or a kill
            record = Record(**json.loads(line))
            if [type(value) for value in record] == [str, str, str, str, int, int, str]:
                yield record
