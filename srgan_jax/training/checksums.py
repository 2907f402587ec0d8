"""SHA-256 checksums of the files in a folder, in the format of `sha256sum -c`."""

import hashlib
from typing import Any

from srgan_jax.runtime import atomic, storage

FILE = "manifest.sha256"
BLOCK_BYTES = 1 << 20


def _sha256(path: Any) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _checksums(folder: Any) -> dict[str, str]:
    return {name: _sha256(folder / name) for name in storage.names(folder) if name != FILE}


def _format(sums: dict[str, str]) -> str:
    return "".join(f"{value}  {name}\n" for name, value in sums.items())


def write(folder: Any) -> None:
    """Writes the checksums of all files in `folder`, a path, and its subfolders to `folder/manifest.sha256`."""
    atomic.write_text(folder / FILE, _format(_checksums(folder)))


def exists(folder: Any) -> bool:
    """Returns whether `folder` has a file of checksums."""
    return (folder / FILE).exists()


def modified(folder: Any) -> float:
    """Returns when the file of checksums in `folder` was written, in seconds since 1970."""
    status = (folder / FILE).stat()
    return float(getattr(status, "st_mtime", None) or getattr(status, "mtime", 0))


def verify(folder: Any) -> list[str]:
    """Returns a line for each file that differs from its checksum, is missing, or was added: [] for no difference."""
    try:
        text = (folder / FILE).read_bytes().decode()
    except FileNotFoundError:
        return [f"{FILE} is missing"]
    except (OSError, UnicodeDecodeError):
        return [f"{FILE} can't be read"]
    # Not splitlines, which also splits at characters that differ from a line feed in one bit.
    rows = [line.partition("  ") for line in text.split("\n") if line]
    expected = {name: value for value, _, name in rows}
    try:
        found = _checksums(folder)
    except OSError as error:
        return [f"{error.filename or folder} can't be read: {error.strerror}"]
    lines = [f"{name} is missing" for name in expected.keys() - found.keys()]
    lines += [f"{name} is not in {FILE}" for name in found.keys() - expected.keys()]
    lines += [f"{name} differs from its checksum" for name in found.keys() & expected.keys()
              if found[name] != expected[name]]  # fmt: skip
    return sorted(lines)
