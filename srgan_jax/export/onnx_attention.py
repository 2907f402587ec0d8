"""Attention in ONNX: inside windows and between channels, for any image size.

All reshapes keep or merge axes by constants, so that ONNX's shape inference finds every size: windows are cut along one
axis while it is the last one.
"""

import numpy as np

from srgan_jax.export.graph import Node
from srgan_jax.export.onnx_writer import Writer
from srgan_jax.models.windows import OTHER_REGION, Size, relative_index


def pad_to_multiple(writer: Writer, node: Node) -> None:
    """Writes a padding at the bottom and right by as much as the size of the input needs."""
    (x,), multiple = node.inputs, node.values["multiple"]
    if node.values["mode"] == "zero":
        sides = writer.then("Slice", writer.then("Shape", x), writer.integers(2), writer.integers(4))
        after = writer.then("Sub", _round_up(writer, sides, multiple), sides)
        pads = writer.then("Concat", writer.integers(*[0] * 6), after, axis=0)
        writer.node("Pad", [x, pads], node.output)
        return
    for axis in (2, 3):
        side = writer.side(x, axis)
        zero, one = (writer.constant(value, np.int64) for value in (0, 1))
        position = writer.then("Range", zero, _round_up(writer, side, multiple), one)
        # p inside the image and 2 (side - 1) - p beyond it: the smaller one; 0 where an image is too small for that
        twice = writer.then("Mul", writer.then("Sub", side, one), writer.constant(2, np.int64))
        reflected = writer.then("Min", position, writer.then("Sub", twice, position))
        inputs = [x, writer.then("Max", reflected, zero)]
        x = writer.then("Gather", *inputs, axis=2) if axis == 2 else writer.node("Gather", inputs, node.output, axis=3)


def _round_up(writer: Writer, sides: str, multiple: int) -> str:
    factor = writer.constant(multiple, np.int64)
    above = writer.then("Add", sides, writer.constant(multiple - 1, np.int64))
    return writer.then("Mul", writer.then("Div", above, factor), factor)


def window_mask(writer: Writer, node: Node) -> None:
    """Writes what is added to logits `[1, rows, columns, 1, pixels, pixels]`: 0, or less between regions."""
    (x,), size, shift = node.inputs, node.values["size"], node.values["shift"]
    zero, one = (writer.constant(value, np.int64) for value in (0, 1))
    lines = []  # numbers of regions along each axis: 1 in the first `shift` rows, which windows join to the last ones
    for axis in (0, 1):
        at = writer.then("Range", zero, writer.side(x, axis + 2), one)
        first = writer.cast(writer.then("Less", at, writer.constant(shift[axis], np.int64)), np.int64)
        lines.append(writer.reshape(first, 1, 1, *((-1, 1) if axis == 0 else (1, -1))))
    rows = writer.then("Mul", lines[0], writer.constant(2, np.int64))
    numbers = _split(writer, writer.then("Add", rows, lines[1]), size, shift)
    pixels = size[0] * size[1]
    queries, keys = writer.reshape(numbers, 0, 0, 0, 1, pixels, 1), writer.reshape(numbers, 0, 0, 0, 1, 1, pixels)
    same = writer.then("Equal", queries, keys)
    values = (writer.constant(value, np.float32) for value in (0.0, OTHER_REGION))
    writer.cast(writer.then("Where", same, *values), writer.dtype, node.output)


def window_attention(writer: Writer, node: Node) -> None:
    """Writes softmax(q^T k + bias) v in each window; the queries are scaled already."""
    qkv, *mask = node.inputs
    size, shift, heads = (node.values[name] for name in ("size", "shift", "heads"))
    windows = _split(writer, qkv, size, shift)  # [N, rows, columns, 3 C, h, w]
    pixels, channels = size[0] * size[1], node.values["channels"]
    parts = writer.reshape(windows, 0, 0, 0, 3 * heads, channels // heads, pixels)
    q, k, v = (writer.slice(parts, 3, part * heads, (part + 1) * heads) for part in range(3))
    logits = writer.then("MatMul", writer.transpose(q, 0, 1, 2, 3, 5, 4), k)
    index = writer.constant(relative_index(size), np.int64)
    logits = writer.then("Add", logits, writer.then("Gather", writer.constant(node.values["bias"]), index, axis=1))
    if mask:
        logits = writer.then("Add", logits, *mask)
    weights = writer.transpose(writer.then("Softmax", logits, axis=-1), 0, 1, 2, 3, 5, 4)
    attended = writer.reshape(writer.then("MatMul", v, weights), 0, 0, 0, channels, *size)
    _join(writer, attended, shift, node.output)


def _split(writer: Writer, x: str, size: Size, shift: Size) -> str:
    """Appends `Windows.split`, `[N, C, H, W]` to `[N, rows, columns, C, h, w]`."""
    for axis in (0, 1):
        if shift[axis]:
            x = _roll(writer, x, axis + 2, shift[axis])
    x = writer.reshape(writer.transpose(x, 0, 3, 1, 2), 0, 0, 0, -1, size[0])  # [N, W, C, rows, h]
    x = writer.reshape(writer.transpose(x, 0, 3, 2, 4, 1), 0, 0, 0, 0, -1, size[1])  # [N, rows, C, h, columns, w]
    return writer.transpose(x, 0, 1, 4, 2, 3, 5)


def _join(writer: Writer, x: str, shift: Size, output: str) -> None:
    """Appends the inverse of `_split`."""
    x = writer.reshape(writer.transpose(x, 0, 1, 3, 4, 2, 5), 0, 0, 0, 0, -1)  # [N, rows, C, h, W]
    x = writer.reshape(writer.transpose(x, 0, 4, 2, 1, 3), 0, 0, 0, -1)  # [N, W, C, H]
    if not any(shift):
        writer.node("Transpose", [x], output, perm=(0, 2, 3, 1))
        return
    x = _roll(writer, writer.transpose(x, 0, 2, 3, 1), 2, -shift[0])
    _roll(writer, x, 3, -shift[1], output)


def _roll(writer: Writer, x: str, axis: int, start: int, output: str = "") -> str:
    """Appends a rotation, after which the row or column `start` is the first one."""
    parts = [writer.slice(x, axis, start, None), writer.slice(x, axis, 0, start)]
    return writer.node("Concat", parts, output or f"inner_{len(writer.nodes)}", axis=axis)


def channel_attention(writer: Writer, node: Node) -> None:
    """Writes softmax(temperature * q k^T) v between channels; q and k have norm 1 over the pixels of the image."""
    (qkv,), heads, channels = node.inputs, node.values["heads"], node.values["channels"]
    q, k, v = (writer.slice(qkv, 1, part * channels, (part + 1) * channels) for part in range(3))
    q, k = (_normalised(writer, writer.reshape(part, 0, heads, channels // heads, -1)) for part in (q, k))
    logits = writer.then("MatMul", q, writer.transpose(k, 0, 1, 3, 2))
    logits = writer.then("Mul", logits, writer.constant(node.values["temperature"][:, None, None]))
    weights = writer.then("Softmax", logits, axis=-1)
    weights = writer.reshape(weights, 0, 1, heads, channels // heads, channels // heads)  # the same for each row
    rows = writer.reshape(writer.transpose(v, 0, 2, 1, 3), 0, 0, heads, channels // heads, -1)
    attended = writer.reshape(writer.then("MatMul", weights, rows), 0, 0, channels, -1)
    writer.node("Transpose", [attended], node.output, perm=(0, 2, 1, 3))


def _normalised(writer: Writer, x: str) -> str:
    """Appends x / max(norm, 1e-12) along the last axis, in float32: a sum over an image can exceed float16."""
    exact = writer.exact(x)
    axes = {"axes": [-1]} if writer.opset < 18 else {}
    inputs = [exact] if axes else [exact, writer.integers(-1)]
    norm = writer.then("ReduceL2", *inputs, keepdims=1, **axes)
    norm = writer.then("Max", norm, writer.constant(1e-12, np.float32))
    exact = writer.then("Div", exact, norm)
    return exact if writer.dtype == np.float32 else writer.cast(exact, writer.dtype)
