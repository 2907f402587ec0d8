"""Reads the pickles of PyTorch checkpoints without executing them.

The instructions of a pickle are interpreted here, and those that `torch.save` writes for tensors and plain containers
are the only ones known. A pickle can name any function of any module (a "global"); `FUNCTIONS` and `STORAGES` are the
complete list of the names that are understood, and each stands for a function of this module. Everything else is
refused by name. Nothing is imported, and no code of the file runs.
"""

import io
import math
import pickletools
import re
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

BFLOAT16 = "bfloat16"  # NumPy has no such dtype
STORAGES = {  # class in the module torch -> its dtype, little-endian
    "DoubleStorage": "<f8", "FloatStorage": "<f4", "HalfStorage": "<f2", "BFloat16Storage": BFLOAT16,
    "LongStorage": "<i8", "IntStorage": "<i4", "ShortStorage": "<i2", "CharStorage": "i1", "ByteStorage": "u1",
    "BoolStorage": "?",
}  # fmt: skip
LARGEST_KEY = 2**31  # above it, numbers of equal hash would make a dict slow
PLAIN_KEYS = (str, int, float, bytes, type(None))  # of a dict: hashing a deeply nested tuple would overflow the stack


class RefusedError(ValueError):
    """The pickle holds something that isn't read; the message names it."""


class Function(NamedTuple):
    """A function that a pickle may call."""

    name: str
    call: Callable[..., Any]


class StorageKind(NamedTuple):
    """A class of storages."""

    dtype: str

    @property
    def bytes_per_element(self) -> int:
        """The size of an element."""
        return 2 if self.dtype == BFLOAT16 else np.dtype(self.dtype).itemsize


class Storage(NamedTuple):
    """A storage that the pickle declares; its bytes are elsewhere in the file, under `key`."""

    kind: StorageKind
    key: str
    elements: int


class Tensor(NamedTuple):
    """A tensor: a view of a storage, within its bounds and not larger than it."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class NumpyType:
    """A NumPy dtype; a class of its own, because the pickle completes it after its creation."""

    def __init__(self, code: str):
        self.code = code


def _counts(values: Any, what: str) -> tuple[int, ...]:
    """Returns a tuple or list of integers from 0."""
    if not isinstance(values, tuple | list) or not all(type(value) is int and value >= 0 for value in values):
        raise RefusedError(f"{what} that isn't a tuple of integers from 0")
    return tuple(values)


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *others: Any) -> Tensor:
    """Stands for `torch._utils._rebuild_tensor_v2`; gradients and hooks are not kept."""
    if not isinstance(storage, Storage):
        raise RefusedError("a tensor without a storage")
    (offset,), size, stride = _counts([offset], "an offset"), _counts(size, "a size"), _counts(stride, "a stride")
    if len(size) != len(stride) or len(size) > 8:
        raise RefusedError(f"a tensor with {len(size)} sizes and {len(stride)} strides")
    elements = math.prod(size)
    last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True)) if elements else 0
    if elements > storage.elements or (elements and last >= storage.elements) or max(size, default=0) > 1 << 40:
        raise RefusedError(f"a tensor {size} with offset {offset} and strides {stride}, beyond its {storage.elements} "
                           "stored numbers")  # fmt: skip
    return Tensor(storage, offset, size, stride)


def _parameter(data: Any, *others: Any) -> Tensor:
    """Stands for `torch._utils._rebuild_parameter`."""
    if not isinstance(data, Tensor):
        raise RefusedError("a parameter without a tensor")
    return data


def _ordered_dict(pairs: Any = ()) -> dict:
    """Stands for `collections.OrderedDict`."""
    if pairs == ():
        return {}
    if type(pairs) is not list or not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
        raise RefusedError("a dict that isn't made of pairs")
    made = _set_items({}, [value for pair in pairs for value in pair])
    pairs.clear()  # so that a file can't have one list copied a million times
    return made


def _set_items(target: Any, values: list) -> dict:
    keys = values[::2]
    if not isinstance(target, dict) or len(values) % 2 or not all(isinstance(key, PLAIN_KEYS) for key in keys):
        raise RefusedError("a dict with keys that aren't strings or numbers")
    if not all(abs(key) < LARGEST_KEY for key in keys if isinstance(key, int | float)):
        raise RefusedError("a dict with a key that is a large number")
    target.update(zip(values[::2], values[1::2], strict=True))
    return target


def _numpy_type(code: Any, *others: Any) -> NumpyType:
    """Stands for `numpy.dtype`, of numbers."""
    if not isinstance(code, str) or not re.fullmatch(r"[iuf][1248]|b1", code) or code == "f1":
        raise RefusedError(f"a NumPy type {code!r:.40} that isn't a number's")
    return NumpyType(code)


def _numpy_scalar(kind: Any, data: Any) -> bool | int | float:
    """Stands for `numpy.core.multiarray.scalar`."""
    dtype = np.dtype(kind.code) if isinstance(kind, NumpyType) else None
    if dtype is None or not isinstance(data, bytes) or len(data) != dtype.itemsize:
        raise RefusedError("a NumPy scalar without its type and bytes")
    return np.frombuffer(data, dtype.newbyteorder("<"))[0].item()


def _bytes(text: Any, encoding: Any) -> bytes:
    """Stands for `_codecs.encode`, by which older pickles write bytes."""
    if not isinstance(text, str) or len(text) > 8 or encoding != "latin1":
        raise RefusedError("bytes that aren't those of a NumPy scalar")
    return text.encode("latin1")


FUNCTIONS = {
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "collections.OrderedDict": _ordered_dict,
    "numpy.dtype": _numpy_type,
    "numpy.core.multiarray.scalar": _numpy_scalar,
    "numpy._core.multiarray.scalar": _numpy_scalar,
    "_codecs.encode": _bytes,
}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
LITERALS = {  # instructions that push their argument
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "UNICODE", "BINUNICODE",
    "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES",
}  # fmt: skip
EMPTY = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
PUTS, GETS = {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}, {"GET", "BINGET", "LONG_BINGET"}


class PickleReader:
    """An interpreter of one pickle."""

    def __init__(self) -> None:
        self._storages: dict[str, Storage] = {}  # by key
        self._stack: list[Any] = []
        self._below_marks: list[list[Any]] = []  # the stacks that a MARK has put aside
        self._memo: dict[int, Any] = {}
        self._actions: dict[str, Callable[[], Any]] = {
            "MARK": self._mark,
            "TUPLE": lambda: self._replace_marked(tuple),
            "LIST": lambda: self._replace_marked(list),
            "DICT": lambda: self._replace_marked(lambda values: _set_items({}, values)),
            "APPEND": lambda: self._append([self._stack.pop()]),
            "APPENDS": lambda: self._append(self._pop_marked()),
            "SETITEM": lambda: self._set_items([self._stack.pop(), self._stack.pop()][::-1]),
            "SETITEMS": lambda: self._set_items(self._pop_marked()),
            "STACK_GLOBAL": lambda: self._global(*[self._stack.pop(), self._stack.pop()][::-1]),
            "REDUCE": self._reduce,
            "BUILD": self._build,
            "BINPERSID": self._storage,
        }

    def read(self, file: io.BytesIO) -> Any:
        """Returns the object of the pickle at the position of `file`, which is then at the pickle's end.

        Raises:
          RefusedError: the pickle is damaged, or holds a global or an instruction that isn't known.
        """
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of strings with unknown escapes, in damaged files
                for opcode, argument, _ in pickletools.genops(file):
                    if opcode.name == "STOP":
                        return self._stack.pop()
                    self._run(opcode.name, argument)
        except (LookupError, TypeError, ValueError, OverflowError) as error:
            raise error if isinstance(error, RefusedError) else RefusedError("a damaged pickle") from None
        raise RefusedError("a pickle without end")

    def _run(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in LITERALS:
            stack.append(argument)
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name in EMPTY:
            stack.append(EMPTY[name]())
        elif name in PUTS:
            self._memo[len(self._memo) if name == "MEMOIZE" else int(argument)] = stack[-1]
        elif name in GETS:
            stack.append(self._memo[int(argument)])
        elif name in TUPLES:
            stack.append(tuple([stack.pop() for _ in range(TUPLES[name])][::-1]))
        elif name == "GLOBAL":
            self._global(*argument.split(" ", 1))
        elif name in self._actions:
            self._actions[name]()
        elif name not in ("PROTO", "FRAME"):
            raise RefusedError(f"the pickle instruction {name}")

    def _mark(self) -> None:
        self._below_marks.append(self._stack)
        self._stack = []

    def _pop_marked(self) -> list[Any]:
        """Returns the values since the last mark, and takes them and the mark from the stack."""
        values, self._stack = self._stack, self._below_marks.pop()
        return values

    def _replace_marked(self, make: Callable[[list[Any]], Any]) -> None:
        value = make(self._pop_marked())
        self._stack.append(value)

    def _append(self, values: list[Any]) -> None:
        if type(self._stack[-1]) is not list:
            raise RefusedError("items of something that isn't a list")
        self._stack[-1].extend(values)

    def _set_items(self, values: list[Any]) -> None:
        _set_items(self._stack[-1], values)

    def _global(self, module: Any, name: Any) -> None:
        full = f"{module}.{name}" if isinstance(module, str) and isinstance(name, str) else "a global without a name"
        if module == "torch" and name in STORAGES:
            self._stack.append(StorageKind(STORAGES[name]))
        elif full in FUNCTIONS:
            self._stack.append(Function(full, FUNCTIONS[full]))
        else:
            raise RefusedError(repr(full[:100])[1:-1])

    def _reduce(self) -> None:
        arguments, function = self._stack.pop(), self._stack.pop()
        if not isinstance(function, Function) or type(arguments) is not tuple:
            raise RefusedError("a call of something that isn't a function")
        try:
            self._stack.append(function.call(*arguments))
        except TypeError:  # a wrong number of arguments
            raise RefusedError(f"a call of {function.name} with other arguments than PyTorch's") from None

    def _build(self) -> None:
        """Completes an object: a dict's attributes (`_metadata`) are dropped, a NumPy type gets its byte order."""
        state, target = self._stack.pop(), self._stack[-1]
        if isinstance(target, NumpyType):
            if type(state) is not tuple or len(state) < 2 or state[1] not in ("<", "|", "="):
                raise RefusedError("a NumPy type that isn't little-endian")
        elif not isinstance(target, dict):
            raise RefusedError("attributes of something that isn't a dict")

    def _storage(self) -> None:
        """Pushes the storage that a persistent id describes: ("storage", class, key, device, elements)."""
        identity = self._stack.pop()
        if type(identity) is not tuple or len(identity) not in (5, 6) or identity[0] != "storage":
            raise RefusedError("a persistent id that isn't a storage's")
        kind, key, _, elements, *view = identity[1:]
        if not isinstance(kind, StorageKind) or not isinstance(key, str) or view not in ([], [None]):
            raise RefusedError("a storage without its class and name")
        storage = Storage(kind, key, _counts([elements], "a storage's length")[0])
        if self._storages.setdefault(key, storage) != storage:
            raise RefusedError(f"the storage {key!r:.40} twice, with different types or lengths")
        self._stack.append(storage)
