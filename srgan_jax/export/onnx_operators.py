"""Each operation of a graph as operators of ONNX."""

from collections.abc import Callable
from typing import Any

import numpy as np

from srgan_jax.export import onnx_attention as attention
from srgan_jax.export.graph import Node
from srgan_jax.export.onnx_writer import Writer


def _conv(writer: Writer, node: Node) -> None:
    values = node.values
    inputs = [*node.inputs, writer.constant(values["kernel"]), writer.constant(values["bias"])]
    pads, strides, kernel_shape = [values["pad"]] * 4, [values["stride"]] * 2, values["kernel"].shape[2:]
    attributes = {"kernel_shape": kernel_shape, "pads": pads, "strides": strides, "group": values["groups"]}
    writer.node("Conv", inputs, node.output, **attributes)


def _prelu(writer: Writer, node: Node) -> None:
    writer.node("PRelu", [*node.inputs, writer.constant(node.values["slope"][:, None, None])], node.output)


def _leaky_relu(writer: Writer, node: Node) -> None:
    slope = node.values["slope"]
    if slope == 0:
        writer.node("Relu", node.inputs, node.output)
    else:
        writer.node("LeakyRelu", node.inputs, node.output, alpha=float(slope))


def _affine(writer: Writer, node: Node) -> None:
    slope, offset = (node.values[name][:, None, None] for name in ("slope", "offset"))
    (x,) = node.inputs
    if (offset == 0).all():
        writer.node("Mul", [x, writer.constant(slope)], node.output)
        return
    product = x if (slope == 1).all() else writer.node("Mul", [x, writer.constant(slope)], f"{node.output}_product")
    writer.node("Add", [product, writer.constant(offset)], node.output)


def _resize(writer: Writer, node: Node) -> None:
    mode, factor = node.values["mode"], node.values["factor"]
    attributes = {
        "nearest": {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        "linear": {"coordinate_transformation_mode": "half_pixel"},
        "cubic": {"coordinate_transformation_mode": "half_pixel", "cubic_coeff_a": -0.5},
    }[mode]
    scales = writer.constant([1, 1, factor, factor], np.float32)
    writer.node("Resize", [*node.inputs, "", scales], node.output, mode=mode, **attributes)


def _crop_to(writer: Writer, node: Node) -> None:
    x, reference = node.inputs
    shape = writer.then("Shape", reference)
    sides = writer.then("Slice", shape, writer.integers(2), writer.integers(4))
    inputs = [x, writer.integers(0, 0), sides, writer.integers(2, 3)]
    if not node.values["inferred"]:
        writer.node("Slice", inputs, node.output)
        return
    # The shape of the slice depends on values, but that of a sum with zeros of the reference's shape can be inferred.
    zeros = writer.then("Mul", reference, writer.constant(0.0))
    writer.node("Add", [writer.then("Slice", *inputs), zeros], node.output)


def _pad_reflect(writer: Writer, node: Node) -> None:
    after = node.values["after"]
    pads = writer.constant([0, 0, 0, 0, 0, 0, after, after], np.int64)
    writer.node("Pad", [*node.inputs, pads], node.output, mode="reflect")


def _channels(writer: Writer, node: Node) -> None:
    bounds = [writer.integers(node.values[name]) for name in ("start", "end")]
    writer.node("Slice", [*node.inputs, *bounds, writer.integers(1)], node.output)


def _mish(writer: Writer, node: Node) -> None:
    softplus = writer.node("Softplus", node.inputs, f"{node.output}_softplus")
    writer.node("Mul", [*node.inputs, writer.node("Tanh", [softplus], f"{node.output}_tanh")], node.output)


def _group_norm(writer: Writer, node: Node) -> None:
    """Writes means over pixels, then over the channels of each group by a 1x1 convolution: all shapes are static."""
    (x,), values, name = node.inputs, node.values, node.output
    channels = values["slope"].size
    size = channels // values["groups"]
    kernel = np.kron(np.eye(values["groups"]), np.full((size, size), 1 / size))[:, :, None, None]

    def group_mean(x: str, offset: float, name: str) -> str:
        pooled = writer.node("GlobalAveragePool", [x], f"{name}_pooled")
        bias = np.full(channels, offset)
        return writer.node("Conv", [pooled, writer.constant(kernel), writer.constant(bias)], name)

    centred = writer.node("Sub", [x, group_mean(x, 0.0, f"{name}_mean")], f"{name}_centred")
    square = writer.node("Mul", [centred, centred], f"{name}_square")
    std = writer.node("Sqrt", [group_mean(square, values["epsilon"], f"{name}_variance")], f"{name}_std")
    normalised = writer.node("Div", [centred, std], f"{name}_normalised")
    _affine(writer, Node("affine", (normalised,), name, values))


def _layer_norm(writer: Writer, node: Node) -> None:
    """Writes means over channels as 1x1 convolutions: as fast as LayerNormalization, which opset 13 lacks."""
    (x,), values = node.inputs, node.values
    channels = values["slope"].size
    mean = writer.constant(np.full((1, channels, 1, 1), 1 / channels))
    centred = writer.then("Sub", x, writer.then("Conv", x, mean))
    square = writer.then("Mul", centred, centred)
    variance = writer.then("Conv", square, mean, writer.constant([values["epsilon"]]))
    normalised = writer.then("Div", centred, writer.then("Sqrt", variance))
    _affine(writer, Node("affine", (normalised,), node.output, values))


def _gelu(writer: Writer, node: Node) -> None:
    (x,) = node.inputs
    error = writer.then("Erf", writer.then("Mul", x, writer.constant(np.sqrt(0.5))))
    half = writer.then("Mul", x, writer.constant(0.5))
    writer.node("Mul", [half, writer.then("Add", error, writer.constant(1.0))], node.output)


def _sample(writer: Writer, node: Node) -> None:
    """Writes GridSample in float32, as a position in float16 isn't exact; groups of channels are further images."""
    x, offset = map(writer.exact, node.inputs)
    groups, factor = node.values["groups"], node.values["factor"]
    features = node.values["channels"] // groups
    offset = writer.reshape(offset, -1, 2, 0, 0)
    places = []  # from -1 to 1, the outer edges of the first and last pixels
    for part, axis in enumerate((3, 2)):
        side, zero, one = writer.side(x, axis), writer.constant(0.0, np.float32), writer.constant(1.0, np.float32)
        side = writer.cast(side, np.float32)
        count = writer.then("Mul", side, writer.constant(factor, np.float32))
        centre = writer.then("Add", writer.then("Range", zero, count, one), writer.constant(0.5, np.float32))
        centre = writer.reshape(writer.then("Div", centre, count), 1, 1, *((1, -1) if axis == 3 else (-1, 1)))
        place = writer.then("Add", centre, writer.then("Div", writer.slice(offset, 1, part, part + 1), side))
        twice = writer.then("Mul", place, writer.constant(2.0, np.float32))
        places.append(writer.then("Sub", twice, one))
    grid = writer.transpose(writer.then("Concat", *places, axis=1), 0, 2, 3, 1)
    mode = "bilinear" if writer.opset < 20 else "linear"
    images = writer.reshape(x, -1, features, 0, 0)
    options = {"mode": mode, "padding_mode": "border", "align_corners": 0}
    samples = writer.then("GridSample", images, grid, **options)
    writer.cast(writer.reshape(samples, -1, groups * features, 0, 0), writer.dtype, node.output)


def _clip(writer: Writer, node: Node) -> None:
    bounds = [writer.constant(node.values[name]) for name in ("low", "high")]
    writer.node("Clip", [*node.inputs, *bounds], node.output)


def _depth_to_space(writer: Writer, node: Node) -> None:
    writer.node("DepthToSpace", node.inputs, node.output, blocksize=node.values["factor"], mode="CRD")


def _plain(operator: str, **attributes: Any) -> Callable[[Writer, Node], None]:
    """Returns the function that writes an operation without values."""

    def write(writer: Writer, node: Node) -> None:
        writer.node(operator, node.inputs, node.output, **attributes)

    return write


OPERATORS: dict[str, Callable[[Writer, Node], None]] = {
    "conv": _conv,
    "prelu": _prelu,
    "leaky_relu": _leaky_relu,
    "affine": _affine,
    "add": _plain("Add"),
    "mul": _plain("Mul"),
    "concat": _plain("Concat", axis=1),
    "depth_to_space": _depth_to_space,
    "resize": _resize,
    "clip": _clip,
    "crop_to": _crop_to,
    "pad_reflect": _pad_reflect,
    "channels": _channels,
    "group_norm": _group_norm,
    "layer_norm": _layer_norm,
    "gelu": _gelu,
    "mish": _mish,
    "global_mean": _plain("GlobalAveragePool"),
    "pad_to_multiple": attention.pad_to_multiple,
    "window_mask": attention.window_mask,
    "window_attention": attention.window_attention,
    "channel_attention": attention.channel_attention,
    "sample": _sample,
    "tanh": _plain("Tanh"),
    "sigmoid": _plain("Sigmoid"),
}


LEAST_OPSETS = {"sample": 16}  # of operations that need more than the lowest one
