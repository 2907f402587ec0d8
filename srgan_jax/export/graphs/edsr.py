"""The graph of `EDSR`."""

import numpy as np

from srgan_jax.export.graph import Graph
from srgan_jax.models.generators.edsr import UPSAMPLING_FACTORS


def edsr(graph: Graph) -> str:
    """Appends the nodes of an `EDSR`."""
    fields = graph.architecture
    mean, img_range = np.asarray(fields["mean"]), np.full(3, fields["img_range"])
    x = first = graph.conv(graph.affine(graph.input, img_range, -mean * img_range), "conv_in")
    for index in range(fields["blocks"]):
        name = f"block_{index:02d}"
        branch = graph.add("leaky_relu", graph.conv(x, f"{name}_conv_1"), slope=0.0)
        x = graph.add("add", x, graph.affine(graph.conv(branch, f"{name}_conv_2"), fields["residual_scale"], 0.0))
    x = graph.add("add", first, graph.conv(x, "conv_trunk"))
    for index, factor in enumerate(UPSAMPLING_FACTORS[fields["scale"]]):
        x = graph.depth_to_space(graph.conv(x, f"conv_up_{index}"), factor)
    return graph.affine(graph.conv(x, "conv_out"), 1 / img_range, mean)
