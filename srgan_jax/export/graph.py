"""A graph of layers that is written as ONNX or ncnn; `graphs` builds it from each generator's weights.

Maps are NCHW. The operations of a node and its values:

    conv            kernel [out, in, size, size], bias [out], stride, pad (zeros on each side)
    prelu           slope [channels] or [1]
    leaky_relu      slope, a number; 0 is ReLU
    affine          slope and offset, [channels] or [1]: x * slope + offset
    add, mul        two maps of one shape
    concat          any number of maps, along the channels
    depth_to_space  factor; channel c * factor**2 + i * factor + j becomes channel c at sub-pixel (i, j)
    resize          mode ("nearest", "linear", "cubic"), factor; half-pixel centres, edge padding, cubic with a = -0.5
    clip            low, high
    crop_to         a map and a reference; the map's top left, of the reference's height and width
    pad_reflect     after, rows and columns that are added at the bottom and right by reflection without the edge
    channels        start, end: some of the channels
    group_norm      groups, slope [channels], offset [channels], epsilon; over the whole image
    tanh, sigmoid   no values; nor has mish, x * tanh(log(1 + e^x))
"""

from typing import Any, NamedTuple

import numpy as np

from srgan_jax.models import layers
from srgan_jax.runtime.errors import lookup
from srgan_jax.weights import Weights, fold_norms

RELU_SLOPES = {"relu": 0.0, "leaky_relu": 0.2, "leaky_relu_01": 0.1}  # layers.ACTIVATIONS without parameters
RESIZE_MODES = {"bilinear": "linear", "bicubic": "cubic"}  # kernel of layers.interpolate: mode


class Node(NamedTuple):
    """An operation: the names of its input maps and of its output, and its values (numbers, strings, arrays)."""

    op: str
    inputs: tuple[str, ...]
    output: str
    values: dict[str, Any]


class Graph:
    """The nodes of a generator, in the order of computation; methods append nodes and return their output's name.

    Attributes:
      architecture: of the generator.
      nodes: each reads `input` or outputs of nodes before it.
      output: the name of the last node's output; "" while the graph is built.
    """

    input = "lr"

    def __init__(self, weights: Weights):
        weights = fold_norms(weights)
        self.architecture = weights.architecture
        self.output = ""
        self.nodes: list[Node] = []
        self._params = weights.variables["params"]
        self._statistics = weights.variables.get("batch_stats", {})

    def add(self, op: str, *inputs: str, **values: Any) -> str:
        """Appends a node of any operation."""
        self.nodes.append(Node(op, inputs, f"{op}_{len(self.nodes)}", values))
        return self.nodes[-1].output

    def conv(self, x: str, layer: str, stride: int = 1, lead: int = 0) -> str:
        """Appends the convolution `layer` of the generator, with "same" padding.

        `lead` is how many rows and columns of zeros come before the kernel, even: it then reads that many pixels less
        before a position than after it.
        """
        kernel = np.asarray(self._params[layer]["kernel"]).transpose(3, 2, 0, 1)
        kernel = np.pad(kernel, ((0, 0), (0, 0), (lead, 0), (lead, 0)))
        bias = np.asarray(self._params[layer].get("bias", np.zeros(kernel.shape[0], np.float32)))
        return self.add("conv", x, kernel=kernel, bias=bias, stride=stride, pad=kernel.shape[2] // 2)

    def activation(self, x: str, kind: str, layer: str) -> str:
        """Appends an activation; `layer` has its slopes if it is a PReLU. `kind` is a name in `layers.ACTIVATIONS`."""
        if layer in self._params:
            return self.add("prelu", x, slope=np.asarray(self._params[layer]["slope"]))
        return self.add("leaky_relu", x, slope=lookup(RELU_SLOPES, kind, "activation for export"))

    def norm(self, x: str, layer: str, epsilon: float) -> str:
        """Appends batch normalisation with its running statistics; returns `x` if the generator has no such layer."""
        if layer not in self._params:
            return x
        norm, statistics = self._params[layer], self._statistics[layer]
        slope = np.asarray(norm["scale"], np.float64) / np.sqrt(np.asarray(statistics["var"], np.float64) + epsilon)
        return self.affine(x, slope, np.asarray(norm["bias"]) - np.asarray(statistics["mean"]) * slope)

    def group_norm(self, x: str, layer: str, groups: int, epsilon: float) -> str:
        """Appends the group normalisation `layer` of the generator."""
        slope, offset = (np.asarray(self._params[layer][name]) for name in ("scale", "bias"))
        return self.add("group_norm", x, groups=groups, slope=slope, offset=offset, epsilon=epsilon)

    def affine(self, x: str, slope: Any, offset: Any) -> str:
        """Appends x * slope + offset; part of the convolution before it, if `x` is the output of the last node."""
        slope, offset = (np.atleast_1d(np.asarray(value, np.float64)) for value in (slope, offset))
        if self.nodes and self.nodes[-1].op == "conv" and self.nodes[-1].output == x:
            values = self.nodes[-1].values
            kernel, bias = values["kernel"] * slope[:, None, None, None], values["bias"] * slope + offset
            self.nodes[-1] = self.nodes[-1]._replace(
                values=values | {"kernel": kernel.astype(np.float32), "bias": bias.astype(np.float32)}
            )
            return x
        if (slope == 1).all() and (offset == 0).all():
            return x
        return self.add("affine", x, slope=slope.astype(np.float32), offset=offset.astype(np.float32))

    def from_unit(self, x: str, target: str) -> str:
        """Appends the mapping of [0, 1] to a range, a name in `layers.RANGES`."""
        return self.affine(x, *lookup(layers.RANGES, target, "range"))

    def to_unit(self, x: str, source: str) -> str:
        """Appends the mapping of a range to [0, 1]; the inverse of `from_unit`."""
        slope, offset = lookup(layers.RANGES, source, "range")
        return self.affine(x, 1 / slope, -offset / slope)

    def resize(self, x: str, mode: str, factor: int) -> str:
        """Appends an upsampling; returns `x` for factor 1."""
        return x if factor == 1 else self.add("resize", x, mode=mode, factor=factor)

    def depth_to_space(self, x: str, factor: int) -> str:
        """Appends a pixel shuffle; returns `x` for factor 1."""
        return x if factor == 1 else self.add("depth_to_space", x, factor=factor)

    def pixel_unshuffle(self, x: str, factor: int, channels: int) -> str:
        """Appends the inverse of a pixel shuffle, as a convolution of ones and zeros, which every runtime has."""
        kernel = np.eye(channels * factor**2, dtype=np.float32).reshape(-1, channels, factor, factor)
        bias = np.zeros(len(kernel), np.float32)
        return self.add("conv", x, kernel=kernel, bias=bias, stride=factor, pad=0)
