"""Reading files of other programs: Keras' `.h5`, `.npz`, downloads with checksums, checks of names and shapes.

Sizes are compared with the file before memory is taken, and nothing outside the file is read.
"""

import hashlib
import importlib.util
import math
import zipfile
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from srgan_jax.runtime.errors import UserError

MAX_BYTES = 1 << 30  # of all arrays that are read, and of a download; VGG19 has 0.08 GB
MAX_GROWTH = 16  # largest size of the arrays relative to the file; arrays may be compressed
LIBRARIES = {".h5": "h5py"}  # suffix -> library that reads such files; not a dependency of the package


class Official(NamedTuple):
    """A published file: its URL, and its SHA-256 or SHA-512; without either, it isn't downloaded."""

    url: str
    algorithm: str = ""
    digest: str = ""


def read_h5(path: Path, layers: Collection[str]) -> dict[str, dict[str, np.ndarray]]:
    """Returns the arrays of a Keras `.h5` for each of `layers` in it, by the last part of their names without ":0".

    Links to other files are not followed.

    Raises:
      UserError: the values of an array lie in another file, aren't numbers, or are larger than the file allows.
    """
    import h5py

    found: dict[str, dict[str, np.ndarray]] = {}
    limit = min(MAX_BYTES, MAX_GROWTH * path.stat().st_size)

    def visit(name, item):
        nonlocal limit
        parts = name.split("/")
        layer = next((part for part in parts if part in layers), None)
        if layer and isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual:
                raise UserError(f"{path}: the values of {name} lie in another file, which is not read")
            limit -= item.size * item.dtype.itemsize if item.size else 0
            if item.dtype.kind not in "fiu" or limit < 0:
                raise UserError(
                    f"{path}: {name} is {item.shape} of {item.dtype}, expected numbers, of at most "
                    f"{MAX_GROWTH} times the size of the file in all"
                )
            found.setdefault(layer, {})[parts[-1].split(":")[0]] = np.asarray(item)

    with h5py.File(path, "r") as file:
        file.visititems(visit)
    return found


def read_npz(path: Path, wanted: Callable[[str], bool]) -> dict[str, np.ndarray]:
    """Returns the arrays of an `.npz` whose names are `wanted`; no pickle is executed.

    Raises:
      UserError: an array isn't of numbers, has another size than its member of the archive, or is too large.
    """
    limit = MAX_BYTES
    with zipfile.ZipFile(path) as archive, np.load(path, allow_pickle=False) as file:
        for member in archive.infolist():
            if not wanted(member.filename.removesuffix(".npy")):
                continue
            limit -= member.file_size
            with archive.open(member) as stream:
                version = np.lib.format.read_magic(stream)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(stream)
                size = math.prod(shape) * dtype.itemsize + stream.tell()
            if dtype.kind not in "fiu" or size != member.file_size or limit < 0:
                raise UserError(
                    f"{path}: {member.filename} is {shape} of {dtype}, expected numbers that fill its "
                    f"{member.file_size} bytes, and at most {MAX_BYTES} bytes in all"
                )
        return {name: file[name] for name in file.files if wanted(name)}


def read(path: Path, readers: Mapping[str, Callable]) -> dict[str, np.ndarray]:
    """Returns the tensors of a file, read by the reader of its suffix.

    Raises:
      UserError: the suffix has no reader, or the file does not exist or is unreadable.
    """
    if path.suffix not in readers:
        raise UserError(f"expected a file ending in {', '.join(readers)}, got {path.name}")
    if not path.is_file():
        raise UserError(f"no such file: {path}")
    try:
        return readers[path.suffix](path)
    except UserError:
        raise
    except Exception as error:  # each library raises its own types
        raise UserError(f"{path} can't be read: {str(error).splitlines()[0]}") from None


def check_shapes(tensors: Mapping[str, np.ndarray], expected: Mapping[str, tuple], path: Path, what: str) -> None:
    """Raises UserError if tensors are missing or of another shape; the message lists the first eight."""
    wrong = [
        f"{name}: expected {shape}, found {tensors[name].shape if name in tensors else 'nothing'}"
        for name, shape in expected.items()
        if name not in tensors or tensors[name].shape != shape
    ]
    if wrong:
        raise UserError(f"{path} doesn't hold {what}:\n  " + "\n  ".join(wrong[:8]))


def download(official: Official, folder: Path) -> Path:
    """Downloads an official file to `folder`, checks its checksum, and returns its path.

    Raises:
      UserError: the download failed, or the checksum differs.
    """
    import urllib.request  # slow to import, and every start of the command imports this module

    path = folder / official.url.rsplit("/", 1)[-1]
    try:
        with urllib.request.urlopen(official.url, timeout=20) as response, open(path, "wb") as file:
            while block := response.read(1 << 20):
                if file.tell() > MAX_BYTES:
                    raise UserError(f"{official.url}: expected at most {MAX_BYTES} bytes; the server sends more")
                file.write(block)
    except OSError as error:
        reason = getattr(error, "reason", error)
        hint = "download it on another machine, and give the file in place of --download"
        raise UserError(f"{official.url} can't be downloaded: {reason}; {hint}") from None
    check_digest(path, official.algorithm, official.digest)
    return path


def check_digest(path: Path, algorithm: str, expected: str) -> None:
    """Raises UserError if the checksum of the file is not `expected`."""
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if found != expected:
        raise UserError(
            f"{path.name}: expected {algorithm} {expected}, got {found}; the download is damaged; run the command again"
        )


def check_library(path: Path) -> None:
    """Raises UserError if the library that reads files of this suffix is not installed."""
    library = LIBRARIES.get(path.suffix)
    if library and importlib.util.find_spec(library) is None:
        raise UserError(f"reading {path.name} needs {library}: pip install {library}")
