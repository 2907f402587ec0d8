"""The graph of `RestorationNet`."""

from srgan_jax.export.graph import Graph


def restoration(graph: Graph) -> str:
    """Appends the nodes of a `RestorationNet`."""
    fields = graph.architecture

    def leaky(x: str) -> str:
        return graph.add("leaky_relu", x, slope=0.1)

    lead = 2 if fields["padding"] == "keras" else 0
    x = first = graph.conv(graph.from_unit(graph.input, "signed"), "conv_in", stride=2, lead=lead)
    for index in range(fields["blocks"]):
        x = graph.add("add", x, _residual(graph, x, f"block_{index:02d}"))
    x = graph.add("add", first, graph.norm(graph.conv(x, "conv_trunk"), "norm_trunk", fields["bn_epsilon"]))
    x = leaky(graph.conv(graph.resize(x, "nearest", 2), "conv_up_0", stride=2, lead=lead))
    for index in (1, 2, 3):
        x = leaky(graph.conv(x, f"conv_up_{index}"))
    x = graph.add("leaky_relu", graph.conv(graph.resize(x, "nearest", 2), "conv_up_4"), slope=0.0)
    x = graph.to_unit(graph.add("tanh", graph.conv(x, "conv_out")), "signed")
    return graph.add("crop_to", x, graph.input)  # odd sides were rounded up


def _residual(graph: Graph, x: str, name: str) -> str:
    branch = graph.add("leaky_relu", graph.conv(x, f"{name}_conv_1"), slope=0.0)
    branch = graph.norm(branch, f"{name}_norm_1", graph.architecture["bn_epsilon"])
    return graph.norm(graph.conv(branch, f"{name}_conv_2"), f"{name}_norm_2", graph.architecture["bn_epsilon"])
