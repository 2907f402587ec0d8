"""Reading PyTorch checkpoints as NumPy arrays, without PyTorch: the zip form, and the form of before PyTorch 1.6.

Sizes are compared with the file before memory is taken. `pickle_reader` lists the globals that are understood; a file
with any other is refused.
"""

import io
import os
import re
import struct
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np

from srgan_jax.runtime.errors import MissingFileError
from srgan_jax.weights.pickle_reader import BFLOAT16, PickleReader, RefusedError, Storage, Tensor
from srgan_jax.weights.safetensors_io import WeightsError, check_header_size, is_pytorch
from srgan_jax.weights.state_dict import unwrap

MAX_PICKLE_BYTES = 4 << 20  # names and sizes of the tensors; a file with a thousand tensors has 0.2 MB
MAX_GROWTH = 16  # largest total size of the tensors as float32, relative to the file: tensors may share storages
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
BEGINNINGS = {  # of files that are no checkpoints -> what they are
    b"version https://git-lfs": "a Git LFS pointer, not the file itself; download it with git lfs pull",
    b"<": "a web page, not the file itself; download it again",
    b"\x89HDF": "an HDF5 file",
    b"GGUF": "a GGUF file",
}


def read_checkpoint(path: str | os.PathLike) -> Any:
    """Returns the object of a PyTorch checkpoint: dicts, lists, numbers, strings, and tensors as arrays.

    Tensors of floats are float32 (whatever the file has), others keep their dtype.

    Raises:
      WeightsError: the file does not exist, is damaged, or holds anything but tensors and plain containers.
    """
    if not os.path.isfile(path):
        raise MissingFileError(f"no such file: {os.fspath(path)}")
    with open(path, "rb") as file:
        try:
            beginning = file.read(32)
            file.seek(0)
            if beginning.startswith(b"PK"):
                return _read_zip(file)
            if beginning.startswith(b"\x80"):  # the first instruction of a pickle
                return _read_legacy(file)
            raise RefusedError(_kind_of(beginning))
        except (ValueError, zipfile.BadZipFile, RuntimeError, EOFError, KeyError, OSError, struct.error) as error:
            reason = str(error) if isinstance(error, RefusedError) else f"damaged ({error})"
            raise WeightsError(
                f"{os.fspath(path)} can't be read safely: expected only tensors, as torch.save(model.state_dict(), "
                f"FILE) writes them; found {reason}"
            ) from None


def _kind_of(beginning: bytes) -> str:
    if not beginning:
        return "an empty file"
    found = next((what for start, what in BEGINNINGS.items() if beginning.lstrip().startswith(start)), "")
    return found or f"a file that begins with {beginning[:12]!r}"


def _read_zip(file: BinaryIO) -> Any:
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        file_bytes = file.seek(0, os.SEEK_END)
        if any(member.filename.endswith("/constants.pkl") for member in members):
            raise RefusedError("a TorchScript archive, which is a program; save the state dict of its module instead")
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise RefusedError("compressed members, which torch.save doesn't write")
        if sum(member.file_size for member in members) > file_bytes:
            raise RefusedError("members that are larger than the file")
        pickles = [member for member in members if member.filename.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise RefusedError("a zip archive without one data.pkl")
        folder = pickles[0].filename.removesuffix("data.pkl")
        sizes = {member.filename: member.file_size for member in members}
        if len(sizes) != len(members):
            raise RefusedError("two members of one name")

        def read(name: str, most: int) -> bytes:
            if sizes.get(folder + name, 0) > most:
                raise RefusedError(f"{name} of {sizes[folder + name]} bytes, more than {most}")
            return archive.read(folder + name)

        if f"{folder}byteorder" in sizes and read("byteorder", 8) != b"little":
            raise RefusedError("big-endian tensors")
        content = PickleReader().read(io.BytesIO(read("data.pkl", MAX_PICKLE_BYTES)))

        def storage_bytes(storage: Storage) -> bytes:
            name, expected = f"{folder}data/{storage.key}", storage.elements * storage.kind.bytes_per_element
            if sizes.get(name) != expected:
                raise RefusedError(f"the storage {storage.key!r:.40} of {sizes.get(name, 0)} bytes, not {expected}")
            return archive.read(name)

        return _with_arrays(content, storage_bytes, file_bytes)


def _read_legacy(file: BinaryIO) -> Any:
    """Reads five pickles (magic number, version, platform, the object, keys of storages), then the storages."""
    file_bytes = file.seek(0, os.SEEK_END)
    file.seek(0)
    head = io.BytesIO(file.read(MAX_PICKLE_BYTES))
    if PickleReader().read(head) != LEGACY_MAGIC:
        raise RefusedError("a pickle that torch.save didn't write")
    _, platform, content, keys = (PickleReader().read(head) for _ in range(4))
    if isinstance(platform, dict) and platform.get("little_endian") is False:
        raise RefusedError("big-endian tensors")
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise RefusedError("a damaged list of storages")
    declared = {tensor.storage.key: tensor.storage for tensor in _tensors(content)}
    at, positions = head.tell(), {}
    for key in keys:
        if key not in declared:
            raise RefusedError(f"the storage {key!r:.40}, of which no tensor is made")
        file.seek(at)
        (elements,) = struct.unpack("<q", file.read(8))
        size = elements * declared[key].kind.bytes_per_element
        if elements != declared[key].elements:
            raise RefusedError(f"the storage {key!r:.40} of {elements} numbers, not {declared[key].elements}")
        if at + 8 + size > file_bytes:
            raise RefusedError("a file that ends before its tensors; download it again")
        positions[key] = at + 8
        at += 8 + size

    def storage_bytes(storage: Storage) -> bytes:
        if storage.key not in positions:
            raise RefusedError(f"no data of the storage {storage.key!r:.40}")
        file.seek(positions[storage.key])
        return file.read(storage.elements * storage.kind.bytes_per_element)

    return _with_arrays(content, storage_bytes, file_bytes)


def _tensors(content: Any) -> list[Tensor]:
    """Returns all tensors in a nesting of dicts, lists and tuples; each container is visited once."""
    found, waiting, seen = [], [content], set()
    while waiting:
        item = waiting.pop()
        if isinstance(item, Tensor):
            found.append(item)
        elif isinstance(item, dict | list | tuple) and id(item) not in seen:
            seen.add(id(item))
            waiting += item.values() if isinstance(item, dict) else item
    return found


def _with_arrays(content: Any, storage_bytes: Callable[[Storage], bytes], file_bytes: int) -> Any:
    """Replaces the tensors in dicts by arrays, in place, and returns `content`."""
    tensors = _tensors(content)
    if sum(4 * int(np.prod(tensor.size, dtype=object)) for tensor in tensors) > MAX_GROWTH * file_bytes + 4096:
        raise RefusedError(f"tensors of more than {MAX_GROWTH} times the size of the file")
    storages = {tensor.storage.key: tensor.storage for tensor in tensors}
    flat = {key: _decode(storage_bytes(storage), storage.kind.dtype) for key, storage in storages.items()}
    waiting, seen = [content], set()
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict | list) and id(item) not in seen:
            seen.add(id(item))
            for key, value in item.items() if isinstance(item, dict) else enumerate(item):
                if isinstance(value, Tensor):
                    item[key] = _view(flat[value.storage.key], value)
                else:
                    waiting.append(value)
    return content


def _decode(data: bytes, dtype: str) -> np.ndarray:
    """Returns the numbers of a storage; those of bfloat16 are the upper halves of float32."""
    if dtype == BFLOAT16:
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(data, dtype)


def _view(flat: np.ndarray, tensor: Tensor) -> np.ndarray:
    strides = tuple(step * flat.itemsize for step in tensor.stride)
    view = np.lib.stride_tricks.as_strided(flat[tensor.offset :], tensor.size, strides, writeable=False)
    return np.array(view, np.float32 if flat.dtype.kind == "f" else flat.dtype, order="C")


def read_torch(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Returns the tensors of a PyTorch checkpoint or `.safetensors`, without wrappers and prefixes (`state_dict`).

    Raises:
      WeightsError: the file does not exist, is unreadable, or holds no tensors.
    """
    tensors = unwrap(read_content(path)[0])
    if not tensors:
        raise WeightsError(f"{os.fspath(path)} holds no state dict of tensors; expected torch.save(model.state_dict())")
    return tensors


def read_content(path: str | os.PathLike) -> tuple[Any, dict[str, str]]:
    """Returns the object of a PyTorch checkpoint, or the tensors of a `.safetensors`, and the latter's metadata.

    Raises:
      WeightsError: the file does not exist or is unreadable.
    """
    return (read_checkpoint(path), {}) if is_pytorch(path) else read_foreign_safetensors(path)


def read_foreign_safetensors(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Returns the tensors, floats as float32, and the metadata of a `.safetensors` of any program.

    Raises:
      WeightsError: the file does not exist or is not a readable `.safetensors`.
    """
    from safetensors import SafetensorError, deserialize, safe_open

    if not os.path.isfile(path):
        raise MissingFileError(f"no such file: {os.fspath(path)}")
    check_header_size(path)
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
        with open(path, "rb") as file:
            entries = deserialize(file.read())
    except SafetensorError as error:
        raise WeightsError(f"{path} is not a readable .safetensors file ({error})") from None
    try:
        return {
            name: _from_safetensors(name, entry) for name, entry in sorted(entries, key=lambda item: item[0])
        }, metadata
    except RefusedError as error:
        raise WeightsError(f"{os.fspath(path)} can't be read: {error}") from None


def _from_safetensors(name: str, entry: Mapping[str, Any]) -> np.ndarray:
    kind = entry["dtype"]
    if kind != "BF16" and not re.fullmatch(r"[FIU](8|16|32|64)|BOOL", kind):
        raise RefusedError(f"{name} has the type {kind}; expected float32, float16 or bfloat16")
    dtype = BFLOAT16 if kind == "BF16" else "?" if kind == "BOOL" else f"<{kind[0].lower()}{int(kind[1:]) // 8}"
    value = _decode(bytes(entry["data"]), dtype).reshape(entry["shape"])
    return value.astype(np.float32) if value.dtype.kind == "f" else value
