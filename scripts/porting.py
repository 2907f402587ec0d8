"""What the port_*.py scripts share: Keras files, downloads with digests, and how they end."""

import hashlib
import importlib.util
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import numpy as np

from srgan_jax.errors import UserError

Official = tuple[str, str, str]  # address, algorithm and digest as the publisher states them
LIBRARIES = {
    ".h5": "h5py",
    ".pth": "torch",
}  # what reads files of these suffixes; not installed with the package


def read_h5(path: Path, layers: Collection[str]) -> dict[str, dict[str, np.ndarray]]:
    """A Keras `.h5`: for each of `layers` that is there its arrays, by the last part of their names without ":0"."""
    import h5py

    found: dict[str, dict[str, np.ndarray]] = {}

    def visit(name, item):
        parts = name.split("/")
        layer = next((part for part in parts if part in layers), None)
        if layer and isinstance(item, h5py.Dataset):
            found.setdefault(layer, {})[parts[-1].split(":")[0]] = np.asarray(item)

    with h5py.File(path) as file:
        file.visititems(visit)
    return found


def read(path: Path, readers: Mapping[str, Callable]) -> dict[str, np.ndarray]:
    """The tensors of a file, by the reader of its suffix.

    Raises:
      UserError: another suffix, no such file, or an unreadable one.
    """
    if path.suffix not in readers:
        raise UserError(f"expected a file ending in {', '.join(readers)}, got {path.name}")
    if not path.is_file():
        raise UserError(f"no such file: {path}")
    try:
        return readers[path.suffix](path)
    except UserError:
        raise
    except Exception as error:  # each library has its own
        raise UserError(f"{path} can't be read: {str(error).splitlines()[0]}") from None


def check_shapes(tensors: Mapping[str, np.ndarray], expected: Mapping[str, tuple], path: Path, what: str) -> None:
    """Raises UserError where a tensor is missing or of another shape; lists the first eight."""
    wrong = [
        f"{name}: expected {shape}, found {tensors[name].shape if name in tensors else 'nothing'}"
        for name, shape in expected.items()
        if name not in tensors or tensors[name].shape != shape
    ]
    if wrong:
        raise UserError(f"{path} doesn't hold {what}:\n  " + "\n  ".join(wrong[:8]))


def download(official: Official, folder: Path) -> Path:
    """Fetches an official file and checks its digest."""
    url, algorithm, digest = official
    path = folder / url.rsplit("/", 1)[-1]
    print(f"downloading {url}")
    try:
        with urllib.request.urlopen(url, timeout=20) as response, open(path, "wb") as file:
            while block := response.read(1 << 20):
                file.write(block)
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise UserError(f"no download: {reason}. Fetch that file elsewhere, then: python {sys.argv[0]} FILE") from None
    check_digest(path, algorithm, digest)
    return path


def check_digest(path: Path, algorithm: str, expected: str) -> None:
    """Raises UserError where the file is not the published one."""
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, algorithm).hexdigest()
    if found != expected:
        raise UserError(
            f"{path.name}: expected {algorithm} {expected}, got {found}; the download is damaged, try again"
        )


def check_library(path: Path) -> None:
    """Raises UserError where the library that reads such a file is not installed."""
    library = LIBRARIES.get(path.suffix)
    if library and importlib.util.find_spec(library) is None:
        raise UserError(f"reading {path.name} needs {library}: pip install {library}")


def run(file: Path | None, official: Official | None, port: Callable[[Path], str]) -> int:
    """Ports `file`, or the official one, and prints what `port` returns; 0, or 2 where a UserError came."""
    try:
        if bool(file) == bool(official):
            raise UserError("give a file, or --download")
        check_library(file or Path(official[0]))  # before much is downloaded
        with tempfile.TemporaryDirectory() as folder:
            print(port(file or download(official, Path(folder))))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
