"""The graph of `CompactResNet`."""

from srgan_jax.export.graph import Graph


def compact(graph: Graph) -> str:
    """Appends the nodes of a `CompactResNet`."""
    fields = graph.architecture
    x = graph.conv(graph.affine(graph.input, 1.0, -0.5), "conv_in")
    for index in range(fields["blocks"]):
        name = f"block_{index:02d}"
        branch = graph.activation(graph.conv(x, f"{name}_conv_1"), "prelu", f"{name}_act")
        x = graph.add("add", x, graph.conv(branch, f"{name}_conv_2"))
    x = graph.depth_to_space(graph.conv(x, "conv_out"), fields["scale"])
    return graph.add("add", x, graph.resize(graph.input, "linear", fields["scale"]))
