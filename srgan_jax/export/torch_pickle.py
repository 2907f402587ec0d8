"""Writing `.pth` files, as `torch.save` does, without PyTorch: a zip of a pickle and the tensors' bytes."""

import io
import os
import struct
import zipfile
from collections.abc import Mapping

import numpy as np

STORAGES = {"float32": "FloatStorage", "float16": "HalfStorage"}
Content = Mapping[str, "np.ndarray | str | Content"]


def write_pth(path: str | os.PathLike, content: Content) -> None:
    """Writes a `.pth` that `torch.load(path, weights_only=True)` reads.

    Args:
      path: the file to write.
      content: float32 or float16 arrays, strings, and dicts of these.
    """
    pickle, arrays = io.BytesIO(), []
    pickle.write(b"\x80\x02")  # PROTO 2
    _dict(pickle, content, arrays)
    pickle.write(b".")  # STOP
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo("archive/data.pkl"), pickle.getvalue())
        archive.writestr(zipfile.ZipInfo("archive/byteorder"), "little")
        for index, array in enumerate(arrays):
            archive.writestr(
                zipfile.ZipInfo(f"archive/data/{index}"), array.astype(array.dtype.newbyteorder("<")).tobytes()
            )
        archive.writestr(zipfile.ZipInfo("archive/version"), "3\n")


def _dict(pickle: io.BytesIO, content: Content, arrays: list[np.ndarray]) -> None:
    pickle.write(b"}(")  # EMPTY_DICT, MARK
    for key, value in content.items():
        _text(pickle, key)
        if isinstance(value, str):
            _text(pickle, value)
        elif isinstance(value, np.ndarray):
            _tensor(pickle, value, len(arrays))
            arrays.append(value)
        else:
            _dict(pickle, value, arrays)
    pickle.write(b"u")  # SETITEMS


def _text(pickle: io.BytesIO, text: str) -> None:
    data = text.encode()
    pickle.write(b"X" + struct.pack("<I", len(data)) + data)  # BINUNICODE


def _integers(pickle: io.BytesIO, values: tuple[int, ...]) -> None:
    """Writes a tuple."""
    pickle.write(b"(" + b"".join(b"J" + struct.pack("<i", value) for value in values) + b"t")  # MARK, BININT, TUPLE


def _tensor(pickle: io.BytesIO, array: np.ndarray, key: int) -> None:
    """Writes torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, backward hooks)."""
    pickle.write(b"ctorch._utils\n_rebuild_tensor_v2\n((")  # GLOBAL, MARK, MARK
    _text(pickle, "storage")
    pickle.write(b"ctorch\n" + STORAGES[array.dtype.name].encode() + b"\n")
    _text(pickle, str(key))
    _text(pickle, "cpu")
    pickle.write(b"J" + struct.pack("<i", array.size) + b"tQJ\0\0\0\0")  # TUPLE, BINPERSID, the offset 0
    _integers(pickle, array.shape)
    _integers(pickle, tuple(step // array.itemsize for step in array.strides))
    pickle.write(b"\x89ccollections\nOrderedDict\n)RtR")  # NEWFALSE, GLOBAL, EMPTY_TUPLE, REDUCE, TUPLE, REDUCE
