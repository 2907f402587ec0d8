"""Export of generators to ncnn, for realesrgan-ncnn-vulkan, Upscayl and other programs that read its files."""

import importlib
import json
import os
import struct
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from srgan_jax.export.graph import Graph, Node
from srgan_jax.export.graphs import build_graph
from srgan_jax.export.verify import HALF_TOLERANCE, TOLERANCE, description, largest_difference
from srgan_jax.models.layers import interpolation_kernel
from srgan_jax.runtime.atomic import atomic_file, write_text
from srgan_jax.runtime.errors import UserError
from srgan_jax.runtime.extras import require
from srgan_jax.weights import Weights

MAGIC = 7767517  # the first line of a .param file
HALF_TAG = 0x01306B47  # before weights that are stored as float16
INPUT, OUTPUT = "data", "output"  # the names that realesrgan-ncnn-vulkan reads and writes


def to_ncnn(params: Weights, path: str | os.PathLike, provenance: Mapping[str, str] | None = None) -> float:
    """Writes a generator as ncnn: `.param` and `.bin`, and `.json` with the metadata, which ncnn has no place for.

    The input is "data" `[3, H, W]` and the output "output" `[3, H * scale, W * scale]`, RGB in [0, 1]. The kernels of
    convolutions are stored as float16, all else as float32. Only layers that ncnn 20220729 has are written.

    Args:
      params: from `srgan_jax.load`; its architecture has an entry in `export.GRAPHS`.
      path: the `.param` file to write; the other two are beside it.
      provenance: added to the metadata, with architecture, scale, ranges and the largest difference.

    Returns:
      The largest absolute difference between ncnn, in float32, and the original.

    Raises:
      UserError: the package is missing (`pip install "srgan-jax[ncnn]"`), the file name doesn't end in `.param`, the
        architecture has no graph or a layer that ncnn 20220729 lacks, or the result differs from the original.
    """
    require("ncnn", "exporting to ncnn")
    path = Path(path)
    if path.suffix != ".param":
        raise UserError(f"{path}: expected a file name that ends in .param; .bin and .json are written beside it")
    graph, text, weights, largest = build_graph(params), "", b"", 0.0
    for half, tolerance in ((False, TOLERANCE), (True, HALF_TOLERANCE)):  # the layers first, then the rounded weights
        text, weights = _serialise(graph, half)
        largest = largest_difference(_runner(text, weights), params, "ncnn network", tolerance=tolerance)
    about = description(params, provenance, "RGB, [3, H, W], any height and width; float16 weights", largest)
    with atomic_file(path.with_suffix(".bin")) as temporary:
        temporary.write_bytes(weights)
    write_text(path.with_suffix(".json"), json.dumps(about, indent=1) + "\n")
    write_text(path, text)
    return largest


def _runner(text: str, weights: bytes) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the exported generator in ncnn, `[N, H, W, 3]` to `[N, H * scale, W * scale, 3]`."""
    ncnn: Any = importlib.import_module("ncnn")  # has no types
    net = _load(ncnn, text, weights)

    def run(lr: np.ndarray) -> np.ndarray:
        results = []
        for image in lr:
            extractor, pixels = net.create_extractor(), np.ascontiguousarray(image.transpose(2, 0, 1), np.float32)
            extractor.input(INPUT, ncnn.Mat(pixels).clone())  # a Mat of an array doesn't own the memory
            status, sr = extractor.extract(OUTPUT)
            if status:
                raise UserError(f"ncnn {ncnn.__version__} can't run the result (status {status})")
            results.append(np.array(sr).transpose(1, 2, 0))
        return np.stack(results)

    return run


def _load(ncnn: Any, text: str, weights: bytes) -> Any:
    net = ncnn.Net()
    for option in ("use_vulkan_compute", "use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic"):
        setattr(net.opt, option, False)
    with tempfile.TemporaryDirectory() as folder:
        param, binary = Path(folder, "network.param"), Path(folder, "network.bin")
        param.write_text(text)
        binary.write_bytes(weights)
        if net.load_param(str(param)) or net.load_model(str(binary)):
            raise UserError(f"ncnn {ncnn.__version__} can't load the result")
    return net


class Layer(NamedTuple):
    """A line of a `.param` file, and its part of the `.bin` file: `kernel` by a tag, then `data` as float32."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    options: Mapping[int, int | float] = {}
    kernel: np.ndarray | None = None
    data: tuple[np.ndarray, ...] = ()
    exact: bool = False  # the kernel is float32 in any case


def _serialise(graph: Graph, half: bool) -> tuple[str, bytes]:
    """Returns the contents of the `.param` and the `.bin` file; `half`: with kernels in float16."""
    if missing := sorted({node.op for node in graph.nodes} - LAYERS.keys()):
        name = graph.architecture["name"]
        raise UserError(
            f"{name} has the operations {', '.join(missing)}, for which ncnn 20220729, the version in "
            "realesrgan-ncnn-vulkan, has no layers; export with --to onnx"
        )
    layers = [Layer("Input", (), (graph.input,))]
    for node in graph.nodes:
        layers += LAYERS[node.op](node)
    layers = list(_split(layers))
    renamed = {graph.input: INPUT, graph.output: OUTPUT}
    lines = [str(MAGIC), f"{len(layers)} {sum(len(layer.outputs) for layer in layers)}"]
    for index, layer in enumerate(layers):
        blobs = [renamed.get(name, name) for name in (*layer.inputs, *layer.outputs)]
        options = [f"{k}={v:.8e}" if isinstance(v, float) else f"{k}={v}" for k, v in layer.options.items()]
        counts = str(len(layer.inputs)), str(len(layer.outputs))
        lines.append(" ".join([layer.kind, f"{layer.kind.lower()}_{index}", *counts, *blobs, *options]))
    return "\n".join(lines) + "\n", b"".join(_data(layer, half) for layer in layers)


def _data(layer: Layer, half: bool) -> bytes:
    parts = [array.astype("<f4").tobytes() for array in layer.data]
    if layer.kernel is not None and half and not layer.exact:
        rounded = layer.kernel.astype("<f2")
        if not np.isfinite(rounded).all():
            raise UserError("a weight is not finite in float16: its value doesn't fit, or training diverged")
        parts = [struct.pack("<I", HALF_TAG), rounded.tobytes(), bytes(-rounded.nbytes % 4), *parts]
    elif layer.kernel is not None:
        parts = [bytes(4), layer.kernel.astype("<f4").tobytes(), *parts]
    return b"".join(parts)


def _split(layers: list[Layer]) -> Iterator[Layer]:
    """Yields the layers with a Split after each blob that several layers read: ncnn wants one reader for a blob."""
    readers = Counter(name for layer in layers for name in layer.inputs)
    used: Counter[str] = Counter()

    def copy_of(name: str) -> str:
        used[name] += 1
        return f"{name}_copy_{used[name]}" if readers[name] > 1 else name

    for layer in layers:
        yield layer._replace(inputs=tuple(copy_of(name) for name in layer.inputs))
        for name in layer.outputs:
            if readers[name] > 1:
                yield Layer("Split", (name,), tuple(f"{name}_copy_{index + 1}" for index in range(readers[name])))


def _convolution(
    x: str, output: str, kernel: np.ndarray, bias: np.ndarray, stride: int = 1, pad: int = 0, groups: int = 1
) -> Layer:
    # number of outputs, kernel size, dilation, stride, padding, whether there is a bias, number of weights
    options = {0: kernel.shape[0], 1: kernel.shape[2], 2: 1, 3: stride, 4: pad, 5: 1, 6: kernel.size}
    if groups > 1:
        return Layer("ConvolutionDepthWise", (x,), (output,), options | {7: groups}, kernel, (bias,))
    return Layer("Convolution", (x,), (output,), options, kernel, (bias,))


def _conv(node: Node) -> list[Layer]:
    (x,) = node.inputs
    return [_convolution(x, node.output, **node.values)]


def _prelu(node: Node) -> list[Layer]:
    slope = node.values["slope"]
    return [Layer("PReLU", node.inputs, (node.output,), {0: slope.size}, data=(slope,))]


def _affine(node: Node) -> list[Layer]:
    slope, offset = node.values["slope"], node.values["offset"]
    if max(slope.size, offset.size) > 1:
        size = max(slope.size, offset.size)
        data = np.broadcast_to(slope, size), np.broadcast_to(offset, size)
        return [Layer("Scale", node.inputs, (node.output,), {0: size, 1: 1}, data=data)]
    steps = [(2, float(slope[0]), 1.0), (0, float(offset[0]), 0.0)]  # 2: multiply, 0: add; value; neutral value
    steps = [(operation, value) for operation, value, neutral in steps if value != neutral]
    names = [*node.inputs, f"{node.output}_product", node.output] if len(steps) == 2 else [*node.inputs, node.output]
    return [
        Layer("BinaryOp", (source,), (target,), {0: operation, 1: 1, 2: value})
        for (operation, value), source, target in zip(steps, names, names[1:], strict=False)
    ]


def _resize(node: Node) -> list[Layer]:
    mode, factor, (x,) = node.values["mode"], node.values["factor"], node.inputs
    if mode != "cubic":
        types = {"nearest": 1, "linear": 2}
        return [Layer("Interp", (x,), (node.output,), {0: types[mode], 1: float(factor), 2: float(factor)})]
    # ncnn's cubic kernel has a = -0.75: a padding, a convolution with the kernel of a = -0.5, and a pixel shuffle.
    kernel = interpolation_kernel(factor, "bicubic", channels=3).transpose(3, 2, 0, 1)
    radius, padded, phases = kernel.shape[2] // 2, f"{node.output}_padded", f"{node.output}_phases"
    return [
        Layer(
            "Padding", (x,), (padded,), {0: radius, 1: radius, 2: radius, 3: radius, 4: 1}
        ),  # 4: 1 repeats the border
        _convolution(padded, phases, kernel, np.zeros(kernel.shape[0]))._replace(exact=True),
        Layer("PixelShuffle", (phases,), (node.output,), {0: factor}),
    ]


def _channels(node: Node) -> list[Layer]:
    start, end = node.values["start"], node.values["end"]
    # first column, row and channel; number of columns and rows (-233: all that remain) and of channels
    options = {0: 0, 1: 0, 2: start, 3: -233, 4: -233, 5: end - start}
    return [Layer("Crop", node.inputs, (node.output,), options)]


def _group_norm(node: Node) -> list[Layer]:
    slope, offset, values = node.values["slope"], node.values["offset"], node.values
    options = {0: values["groups"], 1: slope.size, 2: values["epsilon"], 3: 1}
    return [Layer("GroupNorm", node.inputs, (node.output,), options, data=(slope, offset))]


def _plain(kind: str, options: Callable[[Mapping[str, Any]], Mapping[int, int | float]] = lambda values: {}):
    """Returns the function that writes an operation as one layer, with `options` of the node's values."""
    return lambda node: [Layer(kind, node.inputs, (node.output,), options(node.values))]


LAYERS: dict[str, Callable[[Node], list[Layer]]] = {
    "conv": _conv,
    "prelu": _prelu,
    "leaky_relu": _plain("ReLU", lambda values: {0: float(values["slope"])}),
    "affine": _affine,
    "add": _plain("BinaryOp", lambda values: {0: 0}),
    "mul": _plain("BinaryOp", lambda values: {0: 2}),
    "concat": _plain("Concat", lambda values: {0: 0}),
    "depth_to_space": _plain("PixelShuffle", lambda values: {0: values["factor"]}),
    "resize": _resize,
    "clip": _plain("Clip", lambda values: {0: values["low"], 1: values["high"]}),
    "crop_to": _plain("Crop"),
    "pad_reflect": _plain("Padding", lambda values: {1: values["after"], 3: values["after"], 4: 2}),  # 4: 2 reflects
    "channels": _channels,
    "group_norm": _group_norm,
    "mish": _plain("Mish"),
    "gelu": _plain("GELU"),  # with the error function
    "global_mean": _plain("Pooling", lambda values: {0: 1, 4: 1}),  # 0: 1 averages, 4: 1 over the image
    "tanh": _plain("TanH"),
    "sigmoid": _plain("Sigmoid"),
}
