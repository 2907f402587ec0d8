"""What the graphs of the transformers have in common: everything but their blocks."""

from collections.abc import Callable

import numpy as np

from srgan_jax.export.graph import Graph
from srgan_jax.models.transformer import UPSAMPLING_FACTORS
from srgan_jax.runtime.errors import lookup

EPSILON = 1e-5  # of layer normalisation


def transformer(graph: Graph, image: str, x: str, scale: int, block: Callable[[str, int, int], str]) -> str:
    """Appends all of a `TransformerGenerator` but the normalised image, and returns SR.

    Args:
      graph: receives the nodes.
      image: the normalised image, to which the result is added with upsampling "none".
      x: what enters the first convolution.
      scale: from `x` to SR.
      block: appends a block to a map; its group, and its place there, are the other arguments.
    """
    fields = graph.architecture
    first = graph.conv(x, "conv_in")
    x = graph.layer_norm(first, "layernorm_in", EPSILON)
    for group, depth in enumerate(fields["depths"]):
        start = x
        for index in range(depth):
            x = block(x, group, index)
        x = graph.add("add", start, _residual_conv(graph, x, f"group_{group:02d}_conv"))
    x = _residual_conv(graph, graph.layer_norm(x, "layernorm_out", EPSILON), "conv_trunk")
    x = lookup(UPSAMPLINGS, fields["upsampling"], "upsampling")(graph, graph.add("add", first, x), scale)
    x = graph.add("add", image, x) if fields["upsampling"] == "none" else x
    return graph.affine(x, np.full(3, 1 / fields["img_range"]), np.asarray(fields["mean"]))


def normalised_image(graph: Graph) -> str:
    """Appends (LR - mean) * img_range."""
    fields = graph.architecture
    return graph.affine(graph.input, np.full(3, fields["img_range"]), -np.asarray(fields["mean"]) * fields["img_range"])


def scaled_queries(graph: Graph, x: str, layer: str, heads: int) -> str:
    """Appends the layer that makes queries, keys and values, with the factor of the queries in its kernel."""
    width = graph.architecture["width"]
    factors = np.repeat([(width // heads) ** -0.5, 1.0, 1.0], width)
    return graph.affine(graph.conv(x, layer), factors, 0.0)


def _residual_conv(graph: Graph, x: str, name: str) -> str:
    if graph.architecture["residual"] == "1conv":
        return graph.conv(x, name)
    x = _leaky(graph, graph.conv(_leaky(graph, graph.conv(x, f"{name}_1")), f"{name}_2"))
    return graph.conv(x, f"{name}_3")


def _subpixel(graph: Graph, x: str, scale: int) -> str:
    x = graph.add("leaky_relu", graph.conv(x, "conv_head"), slope=0.01)
    for index, factor in enumerate(UPSAMPLING_FACTORS[scale]):
        x = graph.depth_to_space(graph.conv(x, f"conv_up_{index}"), factor)
    return graph.conv(x, "conv_out")


def _direct(graph: Graph, x: str, scale: int) -> str:
    return graph.depth_to_space(graph.conv(x, "conv_out"), scale)


def _nearest(graph: Graph, x: str, scale: int) -> str:
    x = graph.add("leaky_relu", graph.conv(x, "conv_head"), slope=0.01)
    for index in range(scale.bit_length() - 1):
        x = _leaky(graph, graph.conv(graph.resize(x, "nearest", 2), f"conv_up_{index}"))
    return graph.conv(_leaky(graph, graph.conv(x, "conv_hr")), "conv_out")


def _leaky(graph: Graph, x: str) -> str:
    return graph.add("leaky_relu", x, slope=0.2)


UPSAMPLINGS: dict[str, Callable[[Graph, str, int], str]] = {
    "subpixel": _subpixel,
    "direct": _direct,
    "nearest": _nearest,
    "none": lambda graph, x, scale: graph.conv(x, "conv_out"),
}
