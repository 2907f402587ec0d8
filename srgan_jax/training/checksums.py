"""Sums of the files in a folder, in the format of `sha256sum -c`: written once, compared before the files are used."""

import hashlib
import os
from pathlib import Path

from srgan_jax.runtime import atomic

FILE = "manifest.sha256"
BLOCK_BYTES = 1 << 20


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _checksums(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / FILE)
    return {path.relative_to(folder).as_posix(): _sha256(path) for path in files}


def _format(sums: dict[str, str]) -> str:
    return "".join(f"{value}  {name}\n" for name, value in sums.items())


def write(folder: str | os.PathLike) -> None:
    """Writes the sums of every file in `folder` and below beside them."""
    atomic.write_text(Path(folder, FILE), _format(_checksums(Path(folder))), durable=True)


def exists(folder: str | os.PathLike) -> bool:
    """Whether `write` was finished for `folder`."""
    return Path(folder, FILE).is_file()


def verify(folder: str | os.PathLike) -> list[str]:
    """What differs from the manifest, a line for each file: none where `folder` is as it was written."""
    folder = Path(folder)
    try:
        text = (folder / FILE).read_bytes().decode()
    except FileNotFoundError:
        return [f"{FILE} is missing"]
    except (OSError, UnicodeDecodeError):
        return [f"{FILE} can't be read"]
    # Not splitlines: it also splits at characters that are one flipped bit away from a line feed.
    rows = [line.partition("  ") for line in text.split("\n") if line]
    expected = {name: value for value, _, name in rows}
    try:
        found = _checksums(folder)
    except OSError as error:
        return [f"{error.filename or folder} can't be read: {error.strerror}"]
    lines = [f"{name} is missing" for name in expected.keys() - found.keys()]
    lines += [f"{name} is not in {FILE}" for name in found.keys() - expected.keys()]
    lines += [f"{name} has other content than when it was written" for name in found.keys() & expected.keys()
              if found[name] != expected[name]]  # fmt: skip
    return sorted(lines)
