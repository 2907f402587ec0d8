"""Nodes and constants of an ONNX file."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from srgan_jax.runtime.errors import UserError


class Operator(NamedTuple):
    """A node of an ONNX graph: kind, names of inputs and output, attributes; a dtype among those is NumPy's."""

    kind: str
    inputs: list[str]
    output: str
    attributes: dict[str, Any]


class Writer:
    """The nodes and constants of an ONNX graph; equal constants are stored once.

    Args:
      dtype: the graph's float type.
      opset: version of the operators.
      renamed: names in the file of maps that have another name in the graph.
    """

    def __init__(self, dtype: np.dtype, opset: int, renamed: Mapping[str, str]):
        self.nodes: list[Operator] = []
        self.constants: dict[str, np.ndarray] = {}
        self.dtype, self.opset = dtype, opset
        self._renamed = renamed
        self._names: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def constant(self, value: Any, dtype: Any = None) -> str:
        """Returns the name of a constant; `dtype` is the graph's float type if it is None."""
        array = np.asarray(value, dtype or self.dtype)
        if not np.isfinite(array).all():
            raise UserError(f"a weight is not finite in {array.dtype}: its value doesn't fit, or training diverged")
        key = array.dtype.str, array.shape, array.tobytes()
        name = self._names.setdefault(key, f"constant_{len(self._names)}")
        self.constants[name] = array
        return name

    def integers(self, *values: int) -> str:
        """Returns the name of a vector of integers, such as axes."""
        return self.constant(values, np.int64)

    def node(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Appends a node and returns its output."""
        inputs, output = [self._renamed.get(name, name) for name in inputs], self._renamed.get(output, output)
        self.nodes.append(Operator(operator, inputs, output, attributes))
        return output

    def then(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Appends a node whose output has a name of its own, and returns it."""
        return self.node(operator, inputs, f"inner_{len(self.nodes)}", **attributes)

    def slice(self, x: str, axis: int, start: int | None, end: int | None) -> str:
        """Appends a slice along an axis and returns its output; None: from the beginning, to the end."""
        last = np.iinfo(np.int64).max
        bounds = self.integers(start or 0), self.integers(last if end is None else end)
        return self.then("Slice", x, *bounds, self.integers(axis))

    def reshape(self, x: str, *shape: int) -> str:
        """Appends a reshape; 0 keeps the size at this place, -1 is what remains, so all is known before it runs."""
        return self.then("Reshape", x, self.integers(*shape))

    def transpose(self, x: str, *axes: int) -> str:
        """Appends a transpose and returns its output."""
        return self.then("Transpose", x, perm=axes)

    def side(self, x: str, axis: int) -> str:
        """Appends the size of `x` along an axis, a scalar int64, and returns its name."""
        return self.then("Gather", self.then("Shape", x), self.constant(axis, np.int64))

    def cast(self, x: str, dtype: Any, output: str = "") -> str:
        """Appends a conversion to a NumPy dtype and returns its output."""
        return self.node("Cast", [x], output or f"inner_{len(self.nodes)}", to=np.dtype(dtype))

    def exact(self, x: str) -> str:
        """Returns a map of the graph's float type in float32."""
        return x if self.dtype == np.float32 else self.cast(x, np.float32)
