"""The graph of `SRVGGNetCompact`."""

from srgan_jax.export.graph import Graph


def srvggnet_compact(graph: Graph) -> str:
    """Appends the nodes of an `SRVGGNetCompact`."""
    fields, x = graph.architecture, graph.input
    for name in ("in", *(f"{index:02d}" for index in range(fields["blocks"]))):
        x = graph.activation(graph.conv(x, f"conv_{name}"), fields["activation"], f"act_{name}")
    x = graph.depth_to_space(graph.conv(x, "conv_out"), fields["scale"])
    return graph.add("add", x, graph.resize(graph.input, "nearest", fields["scale"]))
