"""The graph of `SPAN`."""

import numpy as np

from srgan_jax.export.graph import Graph


def span(graph: Graph) -> str:
    """Appends the nodes of a `SPAN` whose branches are fused."""
    fields = graph.architecture
    offset = -np.asarray(fields["mean"]) * fields["img_range"]
    x = first = graph.conv(graph.affine(graph.input, np.full(3, fields["img_range"]), offset), "conv_in")
    first_block = inner = x
    for index in range(fields["blocks"]):
        x, inner = _block(graph, x, f"block_{index:02d}")
        first_block = x if index == 0 else first_block
    x = graph.conv(x, "conv_trunk")
    x = graph.conv(graph.add("concat", first, x, first_block, inner), "conv_fuse")
    return graph.depth_to_space(graph.conv(x, "conv_out"), fields["scale"])


def _block(graph: Graph, x: str, name: str) -> tuple[str, str]:
    inner = _silu(graph, graph.conv(x, f"{name}_conv_1"))
    y = graph.conv(_silu(graph, graph.conv(inner, f"{name}_conv_2")), f"{name}_conv_3")
    attention = graph.affine(graph.add("sigmoid", y), 1.0, -0.5)
    return graph.add("mul", graph.add("add", y, x), attention), inner


def _silu(graph: Graph, x: str) -> str:
    return graph.add("mul", x, graph.add("sigmoid", x))
