"""Safetensors I/O: tensors with a header that describes them."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping

import numpy as np

from srgan_jax.runtime.atomic import atomic_file
from srgan_jax.runtime.errors import MissingFileError, UserError
from srgan_jax.weights import pretrained

MAX_DEPTH = 16  # parts of a tensor's name
FORMAT = "srgan_jax generator 1"
EXTRACTOR_FORMAT = "srgan_jax extractor 1"
DISCRIMINATOR_FORMAT = "srgan_jax discriminator 1"
FORMATS = (FORMAT, EXTRACTOR_FORMAT, DISCRIMINATOR_FORMAT)
SUFFIXES = (".pth", ".pt", ".pth.tar", ".ckpt", ".safetensors")
MAX_HEADER_BYTES = 4 << 20  # names and sizes of the tensors; a file with a thousand tensors has 0.1 MB
SHOWN = 5  # names of tensors in a message
FLOATS = "float32, float64, float16 or bfloat16"


class WeightsError(UserError):
    """A file or dict does not hold the expected weights; the message states what was expected and what was found."""


def sha256_of(path: str | os.PathLike) -> str:
    """Returns the SHA-256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_pytorch(path: str | os.PathLike) -> bool:
    """Returns whether a file is a PyTorch checkpoint: by its content, or if that tells nothing, by its suffix."""
    head = b""
    if os.path.isfile(path):
        with open(path, "rb") as file:
            head = file.read(9)
    if head[4:] == b"\0\0\0\0{":  # of a .safetensors: the length of the header in 8 bytes, then JSON
        return False
    return head.startswith((b"PK\x03\x04", b"\x80")) or not os.fspath(path).endswith(".safetensors")


def is_foreign(path: str | os.PathLike) -> bool:
    """Returns whether a file is one of another program: a PyTorch checkpoint, or a `.safetensors` without our header.

    False for files that don't exist or are damaged, whose errors are those of `read_tensors`.
    """
    if not os.path.isfile(path):
        return False
    if is_pytorch(path):
        return True
    try:
        return read_metadata(path).get("format") not in FORMATS
    except WeightsError:
        return False


def write_tensors(path: str | os.PathLike, tensors: Mapping[str, np.ndarray], header: Mapping[str, str]) -> None:
    """Writes arrays by name and a header to a `.safetensors`, atomically. The same content gives the same bytes."""
    from safetensors.numpy import save as serialize

    contiguous = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    with atomic_file(path) as temporary:  # save_file writes files that only their owner can read
        temporary.write_bytes(_with_sorted_header(serialize(contiguous, dict(header))))


def _with_sorted_header(data: bytes) -> bytes:
    """Returns a `.safetensors` whose header is sorted by name; safetensors writes it in random order."""
    end = 8 + int.from_bytes(data[:8], "little")
    fields = json.loads(data[8:end])
    if "__metadata__" in fields:
        fields["__metadata__"] = dict(sorted(fields["__metadata__"].items()))
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # tensors start at multiples of 8
    return len(text).to_bytes(8, "little") + text + data[end:]


def read_tensors(path: str | os.PathLike, expected_format: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Returns the tensors and the header of a `.safetensors` whose "format" in the header is `expected_format`.

    Raises:
      FileNotFoundError: the file does not exist.
      WeightsError: the file is not a `.safetensors`, or of another format.
    """
    if not os.path.isfile(path):
        shipped = ", ".join(pretrained.names())
        raise MissingFileError(
            f"no weights at {os.fspath(path)}" + (f"; shipped weights: {shipped}" if shipped else "")
        )
    tensors, header = read_any(path)
    found = header.get("format")
    if found != expected_format:
        raise WeightsError(f"{path}: expected the format {expected_format!r}, found {found!r}")
    if odd := sorted(name for name in tensors if "/" not in name or not all(name.split("/"))):
        raise WeightsError(f"{path}: the name {odd[0]!r:.80} is no path of a leaf, such as 'params/layer/kernel'")
    return tensors, header


def read_metadata(path: str | os.PathLike) -> dict[str, str]:
    """Returns the header of any `.safetensors`; raises WeightsError if it isn't one."""
    from safetensors import SafetensorError, safe_open

    check_header_size(path)
    try:
        with safe_open(path, framework="numpy") as file:
            return file.metadata() or {}
    except SafetensorError as error:
        raise WeightsError(f"{path} is not a readable .safetensors file ({error})") from None


def read_any(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Returns the tensors and the header of a `.safetensors` that this package wrote.

    Raises:
      WeightsError: the file is not a readable `.safetensors`, or has values that `check_values` refuses.
    """
    from safetensors import SafetensorError, safe_open

    check_header_size(path)
    try:
        with safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, not a dict
            header = file.metadata() or {}
    except (TypeError, AttributeError) as error:  # a dtype that NumPy lacks
        raise WeightsError(f"{os.fspath(path)}: expected tensors of {FLOATS} ({error})") from None
    except (SafetensorError, ValueError) as error:
        raise WeightsError(f"{os.fspath(path)} is not a readable .safetensors file ({error})") from None
    try:
        check_names(tensors)
        tensors = {name: _as_float(name, tensor) for name, tensor in tensors.items()}
        check_values(tensors)
    except WeightsError as error:
        raise WeightsError(f"{os.fspath(path)} can't be used: {error}") from None
    return tensors, header


def _as_float(name: str, tensor: np.ndarray) -> np.ndarray:
    """Returns a tensor of floats that NumPy knows; raises WeightsError for integers, bools and complex numbers."""
    if tensor.dtype.name == "bfloat16":
        return tensor.astype(np.float32)
    if tensor.dtype.kind != "f":
        raise WeightsError(f"{name!r:.80} holds {tensor.dtype}, expected {FLOATS}")
    return tensor


def check_header_size(path: str | os.PathLike) -> None:
    """Raises WeightsError if the header of a `.safetensors` is larger than `MAX_HEADER_BYTES`, before it is read."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
    if MAX_HEADER_BYTES < size < os.path.getsize(path):  # a header beyond the file's end is reported by the reader
        raise WeightsError(f"{os.fspath(path)}: expected a header of at most {MAX_HEADER_BYTES} bytes, found {size}")


def check_names(tensors: Iterable[str]) -> None:
    """Raises WeightsError if names such as "params/layer/kernel" can't be the paths of leaves of one tree."""
    names = set(tensors)
    for name in sorted(names):
        parts = name.split("/")
        if len(parts) > MAX_DEPTH:
            raise WeightsError(f"the name {name!r:.80} has {len(parts)} parts, expected at most {MAX_DEPTH}")
        inner = next((path for n in range(1, len(parts)) if (path := "/".join(parts[:n])) in names), None)
        if inner is not None:
            raise WeightsError(f"{inner!r:.80} and {name!r:.80} are both names of tensors; one lies inside the other")


def check_values(tensors: Mapping[str, np.ndarray]) -> None:
    """Raises WeightsError if a value isn't finite in float32, or a variance (a tensor named ".../var") is negative."""
    floats = {name: tensor for name, tensor in tensors.items() if tensor.dtype.kind == "f" and tensor.size}
    with np.errstate(over="ignore"):
        bad = sorted(name for name, tensor in floats.items() if not np.isfinite(tensor.astype(np.float32)).all())
    if bad:
        raise WeightsError(f"values that aren't finite in {', '.join(bad[:SHOWN])}")
    if bad := sorted(name for name, tensor in floats.items() if name.split("/")[-1] == "var" and tensor.min() < 0):
        raise WeightsError(f"negative variances in {', '.join(bad[:SHOWN])}")
