"""The graph of `MSRResNet`."""

from srgan_jax.export.graph import Graph
from srgan_jax.models.generators.msrresnet import UPSAMPLING_FACTORS


def msrresnet(graph: Graph) -> str:
    """Appends the nodes of an `MSRResNet`."""
    fields = graph.architecture

    def leaky(x: str) -> str:
        return graph.add("leaky_relu", x, slope=0.1)

    x = leaky(graph.conv(graph.input, "conv_in"))
    for index in range(fields["blocks"]):
        name = f"block_{index:02d}"
        branch = graph.add("leaky_relu", graph.conv(x, f"{name}_conv_1"), slope=0.0)
        x = graph.add("add", x, graph.conv(branch, f"{name}_conv_2"))
    for index, factor in enumerate(UPSAMPLING_FACTORS[fields["scale"]]):
        x = leaky(graph.depth_to_space(graph.conv(x, f"conv_up_{index}"), factor))
    x = graph.conv(leaky(graph.conv(x, "conv_hr")), "conv_out")
    return graph.add("add", x, graph.resize(graph.input, "linear", fields["scale"]))
