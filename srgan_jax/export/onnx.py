"""Export of generators to ONNX."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from srgan_jax.export.graph import Graph
from srgan_jax.export.graphs import build_graph
from srgan_jax.export.onnx_operators import LEAST_OPSETS, OPERATORS
from srgan_jax.export.onnx_writer import Operator, Writer
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
    opset: int | None = None,
    half: bool = False,
    size: Sequence[int] | None = None,
) -> float:
    """Writes a generator as ONNX: input "lr" `[N, 3, H, W]`, output "sr" `[N, 3, H * scale, W * scale]`, in [0, 1].

    Args:
      params: from `srgan_jax.load`; its architecture has an entry in `export.GRAPHS`.
      path: the file to write.
      provenance: added to the metadata, with architecture, scale, ranges and the largest difference.
      opset: version of ONNX's operators, 13 or newer; None: the lowest that has all of the generator's, 13 or 16.
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
    opset = checked_opset(graph, opset)
    model: Any = None
    sizes = CHECKED_SIZES if size is None else ((1, size[0], size[1]),)
    tolerances = {np.float32: TOLERANCE} | ({np.float16: HALF_TOLERANCE} if half else {})
    for dtype, tolerance in tolerances.items():  # the operators first, then the rounding
        writer = Writer(np.dtype(dtype), opset, {graph.input: "lr", graph.output: "sr"})
        model = make_model(graph, params.scale, writer, size)
        run = make_runner(model.SerializeToString(), dtype)
        largest = largest_difference(run, params, "ONNX", sizes, tolerance)
    sides = "any batch, height and width" if size is None else f"batch 1, LR {size[0]} x {size[1]}"
    layout = f"{'float16' if half else 'float32'} RGB, [N, 3, H, W], {sides}"
    for key, value in description(params, provenance, layout, largest).items():
        model.metadata_props.add(key=key, value=value)
    with atomic_file(path) as temporary:
        temporary.write_bytes(model.SerializeToString())
    return largest


def make_runner(data: bytes, dtype: Any) -> Callable[[np.ndarray], np.ndarray]:
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


def make_model(graph: Graph, scale: int, writer: Writer, size: Sequence[int] | None = None) -> Any:
    """Returns the ONNX model of a graph, whose nodes and constants an empty `writer` collects.

    Args:
      graph: from `build_graph`.
      scale: of the generator.
      writer: an empty one, with the graph's input as "lr" and its output as "sr".
      size: (height, width) of LR, with N = 1; None: any N, H and W, dimensions of these names.
    """
    import onnx

    for node in graph.nodes:
        OPERATORS[node.op](writer, node)
    if size is None:
        lr_shape, sr_shape = ["N", 3, "H", "W"], ["N", 3, "SR_H", "SR_W"]
    else:
        lr_shape, sr_shape = [1, 3, *size], [1, 3, *(scale * side for side in size)]
    kind = onnx.helper.np_dtype_to_tensor_dtype(writer.dtype)
    onnx_graph = onnx.helper.make_graph(
        [_make_node(operator, index) for index, operator in enumerate(writer.nodes)],
        graph.architecture["name"],
        [onnx.helper.make_tensor_value_info("lr", kind, lr_shape)],
        [onnx.helper.make_tensor_value_info("sr", kind, sr_shape)],
        [onnx.numpy_helper.from_array(array, name) for name, array in writer.constants.items()],
    )
    opsets = [onnx.helper.make_opsetid("", writer.opset)]
    model = onnx.helper.make_model(
        onnx_graph,
        opset_imports=opsets,
        ir_version=onnx.helper.find_min_ir_version_for(opsets),
        producer_name="srgan_jax",
    )
    onnx.checker.check_model(model)
    return model


def _make_node(operator: Operator, index: int) -> Any:
    from onnx import helper

    def as_onnx(value: Any) -> Any:
        return helper.np_dtype_to_tensor_dtype(value) if isinstance(value, np.dtype) else value

    attributes = {name: as_onnx(value) for name, value in operator.attributes.items()}
    name = f"{operator.kind}_{index}"
    return helper.make_node(operator.kind, operator.inputs, [operator.output], name, **attributes)


def checked_opset(graph: Graph, opset: int | None = None) -> int:
    """Returns the version of the operators, the lowest possible one if it is None."""
    import onnx

    lowest, newest = (
        max(LEAST_OPSETS.get(node.op, LOWEST_OPSET) for node in graph.nodes),
        onnx.defs.onnx_opset_version(),
    )
    opset = lowest if opset is None else opset
    if not lowest <= opset <= newest:
        name = graph.architecture["name"]
        raise UserError(
            f"opset={opset}: expected {lowest}, the lowest for this {name}, to {newest}, the newest of onnx "
            f"{onnx.__version__}"
        )
    return opset
