"""The graph of `RRDBNet`."""

import numpy as np

from srgan_jax.export.graph import Graph
from srgan_jax.models.generators.rrdb import UPSAMPLING_STEPS


def rrdb(graph: Graph) -> str:
    """Appends the nodes of an `RRDBNet`."""
    fields, x = graph.architecture, graph.input
    if fields["unshuffle"] > 1:  # ignores the added rows and columns where the size is a multiple already
        padded = graph.add("pad_reflect", x, after=fields["unshuffle"] - 1)
        x = graph.pixel_unshuffle(padded, fields["unshuffle"], channels=3)
    x = first = graph.conv(x, "conv_in")
    for index in range(fields["blocks"]):
        branch = x
        for dense in (1, 2, 3):
            branch = _add_scaled(graph, branch, _dense(graph, branch, f"block_{index:02d}_dense_{dense}"))
        x = _add_scaled(graph, x, branch)
    x = graph.add("add", first, graph.conv(x, "conv_trunk"))
    for index in range(UPSAMPLING_STEPS[fields["scale"] * fields["unshuffle"]]):
        x = _leaky(graph, graph.conv(graph.resize(x, "nearest", 2), f"conv_up_{index}"))
    x = graph.conv(_leaky(graph, graph.conv(x, "conv_hr")), "conv_out")
    if fields["unshuffle"] > 1:
        x = graph.add("crop_to", x, graph.resize(graph.input, "nearest", fields["scale"]), inferred=True)
    return x


def _add_scaled(graph: Graph, x: str, residual: str) -> str:
    # Not folded into a kernel: published kernels are float16, and stay exact where float16 is stored.
    scale = np.full(1, graph.architecture["residual_scale"], np.float32)
    return graph.add("add", x, graph.add("affine", residual, slope=scale, offset=np.zeros(1, np.float32)))


def _dense(graph: Graph, x: str, name: str) -> str:
    maps = [x]
    for index in range(1, 5):
        grown = graph.conv(maps[0] if len(maps) == 1 else graph.add("concat", *maps), f"{name}_conv_{index}")
        grown = _leaky(graph, grown)
        if graph.architecture["conv1x1"] and index == 2:
            grown = graph.add("add", grown, graph.conv(x, f"{name}_conv1x1"))
        if graph.architecture["conv1x1"] and index == 4:
            grown = graph.add("add", grown, maps[2])
        maps.append(grown)
    return graph.conv(graph.add("concat", *maps), f"{name}_conv_5")


def _leaky(graph: Graph, x: str) -> str:
    return graph.add("leaky_relu", x, slope=0.2)
