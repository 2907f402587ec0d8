"""Export of generators to ONNX."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from srgan_jax.export.graph import Graph, Node
from srgan_jax.export.graphs import build_graph
from srgan_jax.export.verify import CHECKED_SIZES, HALF_TOLERANCE, TOLERANCE, description, largest_difference
from srgan_jax.runtime.atomic import atomic_file
from srgan_jax.runtime.errors import UserError
from srgan_jax.runtime.extras import require
from srgan_jax.weights import Weights

LOWEST_OPSET = 13


def to_onnx(
    params: Weights,
    path: str | os.PathLike,
    provenance: Mapping[str, str] | None = None,
    *,
    opset: int = LOWEST_OPSET,
    half: bool = False,
    size: Sequence[int] | None = None,
) -> float:
    """Writes a generator as ONNX: input "lr" `[N, 3, H, W]`, output "sr" `[N, 3, H * scale, W * scale]`, in [0, 1].

    Args:
      params: from `srgan_jax.load`; its architecture has an entry in `export.GRAPHS`.
      path: the file to write.
      provenance: added to the metadata, with architecture, scale, ranges and the largest difference.
      opset: version of ONNX's operators, 13 or newer.
      half: float16 weights, input, computation and output, instead of float32.
      size: (height, width) of the LR image, for runtimes that need static shapes; N is 1 then. None: any N, H and W.

    Returns:
      The largest absolute difference between ONNX Runtime and the original.

    Raises:
      UserError: packages are missing (`pip install "srgan-jax[onnx]"`), an argument is invalid, the architecture has no
        graph, or the result differs from the original.
    """
    require("onnx", "exporting to ONNX")
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise UserError(f"size={tuple(size)}: expected the height and the width of the LR image, 1 or more")
    graph, largest = build_graph(params), 0.0
    model: Any = None
    sizes = CHECKED_SIZES if size is None else ((1, size[0], size[1]),)
    tolerances = {np.float32: TOLERANCE} | ({np.float16: HALF_TOLERANCE} if half else {})
    for dtype, tolerance in tolerances.items():  # the operators first, then the rounding
        model = _model(graph, params.scale, opset, np.dtype(dtype), size)
        run = _runner(model.SerializeToString(), dtype)
        largest = largest_difference(run, params, "ONNX", sizes, tolerance)
    sides = "any batch, height and width" if size is None else f"batch 1, LR {size[0]} x {size[1]}"
    layout = f"{'float16' if half else 'float32'} RGB, [N, 3, H, W], {sides}"
    for key, value in description(params, provenance, layout, largest).items():
        model.metadata_props.add(key=key, value=value)
    with atomic_file(path) as temporary:
        temporary.write_bytes(model.SerializeToString())
    return largest


def _runner(data: bytes, dtype: Any) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the exported generator in ONNX Runtime, `[N, H, W, 3]` float32 to `[N, H * scale, W * scale, 3]`."""
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime has no common type
        raise UserError(f"ONNX Runtime {onnxruntime.__version__} can't load the result: {error}") from None

    def run(lr: np.ndarray) -> np.ndarray:
        (sr,) = session.run(["sr"], {"lr": np.ascontiguousarray(lr.transpose(0, 3, 1, 2), dtype)})
        return np.asarray(sr, np.float32).transpose(0, 2, 3, 1)

    return run


def _model(graph: Graph, scale: int, opset: int, dtype: np.dtype, size: Sequence[int] | None) -> Any:
    """Returns the ONNX model of a graph."""
    import onnx

    newest = onnx.defs.onnx_opset_version()
    if not LOWEST_OPSET <= opset <= newest:
        raise UserError(f"opset={opset}: expected {LOWEST_OPSET} to {newest}, what onnx {onnx.__version__} knows")
    writer = _Writer(dtype, {graph.input: "lr", graph.output: "sr"})
    for node in graph.nodes:
        OPERATORS[node.op](writer, node)
    if size is None:
        lr_shape, sr_shape = ["N", 3, "H", "W"], ["N", 3, "SR_H", "SR_W"]
    else:
        lr_shape, sr_shape = [1, 3, *size], [1, 3, *(scale * side for side in size)]
    kind = onnx.helper.np_dtype_to_tensor_dtype(dtype)
    onnx_graph = onnx.helper.make_graph(
        writer.nodes,
        graph.architecture["name"],
        [onnx.helper.make_tensor_value_info("lr", kind, lr_shape)],
        [onnx.helper.make_tensor_value_info("sr", kind, sr_shape)],
        [onnx.numpy_helper.from_array(array, name) for name, array in writer.constants.items()],
    )
    opsets = [onnx.helper.make_opsetid("", opset)]
    model = onnx.helper.make_model(
        onnx_graph,
        opset_imports=opsets,
        ir_version=onnx.helper.find_min_ir_version_for(opsets),
        producer_name="srgan_jax",
    )
    onnx.checker.check_model(model)
    return model


class _Writer:
    """The nodes and constants of an ONNX graph; equal constants are stored once."""

    def __init__(self, dtype: np.dtype, renamed: Mapping[str, str]):
        self.nodes, self.constants = [], {}
        self._dtype, self._renamed = dtype, renamed
        self._names: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def constant(self, value: Any, dtype: Any = None) -> str:
        """Returns the name of a constant; `dtype` is the graph's float type if it is None."""
        array = np.asarray(value, dtype or self._dtype)
        if not np.isfinite(array).all():
            raise UserError(f"a weight is not finite in {array.dtype}: its value doesn't fit, or training diverged")
        key = array.dtype.str, array.shape, array.tobytes()
        name = self._names.setdefault(key, f"constant_{len(self._names)}")
        self.constants[name] = array
        return name

    def node(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Appends a node and returns its output."""
        import onnx

        inputs, output = [self._renamed.get(name, name) for name in inputs], self._renamed.get(output, output)
        self.nodes.append(
            onnx.helper.make_node(operator, inputs, [output], f"{operator}_{len(self.nodes)}", **attributes)
        )
        return output


def _conv(writer: _Writer, node: Node) -> None:
    values = node.values
    inputs = [*node.inputs, writer.constant(values["kernel"]), writer.constant(values["bias"])]
    pads, strides, kernel_shape = [values["pad"]] * 4, [values["stride"]] * 2, values["kernel"].shape[2:]
    writer.node("Conv", inputs, node.output, kernel_shape=kernel_shape, pads=pads, strides=strides)


def _prelu(writer: _Writer, node: Node) -> None:
    writer.node("PRelu", [*node.inputs, writer.constant(node.values["slope"][:, None, None])], node.output)


def _leaky_relu(writer: _Writer, node: Node) -> None:
    slope = node.values["slope"]
    if slope == 0:
        writer.node("Relu", node.inputs, node.output)
    else:
        writer.node("LeakyRelu", node.inputs, node.output, alpha=float(slope))


def _affine(writer: _Writer, node: Node) -> None:
    slope, offset = (node.values[name][:, None, None] for name in ("slope", "offset"))
    (x,) = node.inputs
    if (offset == 0).all():
        writer.node("Mul", [x, writer.constant(slope)], node.output)
        return
    product = x if (slope == 1).all() else writer.node("Mul", [x, writer.constant(slope)], f"{node.output}_product")
    writer.node("Add", [product, writer.constant(offset)], node.output)


def _resize(writer: _Writer, node: Node) -> None:
    mode, factor = node.values["mode"], node.values["factor"]
    attributes = {
        "nearest": {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        "linear": {"coordinate_transformation_mode": "half_pixel"},
        "cubic": {"coordinate_transformation_mode": "half_pixel", "cubic_coeff_a": -0.5},
    }[mode]
    scales = writer.constant([1, 1, factor, factor], np.float32)
    writer.node("Resize", [*node.inputs, "", scales], node.output, mode=mode, **attributes)


def _crop_to(writer: _Writer, node: Node) -> None:
    x, reference = node.inputs

    def integers(*values: int) -> str:
        return writer.constant(values, np.int64)

    shape = writer.node("Shape", [reference], f"{node.output}_shape")
    sides = writer.node("Slice", [shape, integers(2), integers(4), integers(0)], f"{node.output}_sides")
    cropped = writer.node("Slice", [x, integers(0, 0), sides, integers(2, 3)], f"{node.output}_cropped")
    # The shape of the slice depends on values, but that of a sum with zeros of the reference's shape can be inferred.
    zeros = writer.node("Mul", [reference, writer.constant(0.0)], f"{node.output}_zeros")
    writer.node("Add", [cropped, zeros], node.output)


def _pad_reflect(writer: _Writer, node: Node) -> None:
    after = node.values["after"]
    pads = writer.constant([0, 0, 0, 0, 0, 0, after, after], np.int64)
    writer.node("Pad", [*node.inputs, pads], node.output, mode="reflect")


def _channels(writer: _Writer, node: Node) -> None:
    bounds = [writer.constant([node.values[name]], np.int64) for name in ("start", "end")]
    writer.node("Slice", [*node.inputs, *bounds, writer.constant([1], np.int64)], node.output)


def _mish(writer: _Writer, node: Node) -> None:
    softplus = writer.node("Softplus", node.inputs, f"{node.output}_softplus")
    writer.node("Mul", [*node.inputs, writer.node("Tanh", [softplus], f"{node.output}_tanh")], node.output)


def _group_norm(writer: _Writer, node: Node) -> None:
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


def _clip(writer: _Writer, node: Node) -> None:
    bounds = [writer.constant(node.values[name]) for name in ("low", "high")]
    writer.node("Clip", [*node.inputs, *bounds], node.output)


def _depth_to_space(writer: _Writer, node: Node) -> None:
    writer.node("DepthToSpace", node.inputs, node.output, blocksize=node.values["factor"], mode="CRD")


def _plain(operator: str, **attributes: Any) -> Callable[[_Writer, Node], None]:
    """Returns the function that writes an operation without values."""

    def write(writer: _Writer, node: Node) -> None:
        writer.node(operator, node.inputs, node.output, **attributes)

    return write


OPERATORS: dict[str, Callable[[_Writer, Node], None]] = {
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
    "mish": _mish,
    "tanh": _plain("Tanh"),
    "sigmoid": _plain("Sigmoid"),
}
