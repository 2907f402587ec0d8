"""The graph of `SRResNet`."""

from srgan_jax.export.graph import RESIZE_MODES, Graph
from srgan_jax.models import layers
from srgan_jax.models.generators.srresnet import UPSAMPLING_FACTORS


def srresnet(graph: Graph) -> str:
    """Appends the nodes of an `SRResNet`."""
    fields = graph.architecture
    shared, kind = fields["shared_blocks"], fields["activation"]
    x = graph.conv(graph.from_unit(graph.input, fields["input_range"]), "conv_in")
    x = first = graph.activation(x, kind, "act_shared" if shared else "act_in")
    for index in range(fields["blocks"]):
        x = graph.add("add", x, _residual(graph, x, "block_shared" if shared else f"block_{index:02d}"))
    x = graph.conv(x, "block_shared_conv" if shared else "conv_trunk")
    if shared or fields["trunk"] == "norm":
        x = graph.norm(x, "block_shared_norm" if shared else "norm_trunk", fields["bn_epsilon"])
    else:
        x = graph.activation(x, kind, "act_trunk")
    x = graph.add("add", first, x)
    for index, factor in enumerate(UPSAMPLING_FACTORS[fields["scale"]]):
        x = _upsample(graph, x, index, factor)
    return _finish(graph, graph.conv(x, "conv_out"))


def _residual(graph: Graph, x: str, name: str) -> str:
    fields = graph.architecture
    suffixes = ("", "") if fields["shared_blocks"] else ("_1", "_2")
    activation = "act_shared" if fields["shared_blocks"] else f"{name}_act"
    x = graph.conv(x, f"{name}_conv{suffixes[0]}")
    if layers.BLOCK_ORDERS[fields["block_order"]]:
        x = graph.norm(x, f"{name}_norm{suffixes[0]}", fields["bn_epsilon"])
        x = graph.activation(x, fields["activation"], activation)
    else:
        x = graph.activation(x, fields["activation"], activation)
        x = graph.norm(x, f"{name}_norm{suffixes[0]}", fields["bn_epsilon"])
    return graph.norm(graph.conv(x, f"{name}_conv{suffixes[1]}"), f"{name}_norm{suffixes[1]}", fields["bn_epsilon"])


def _upsample(graph: Graph, x: str, index: int, factor: int) -> str:
    fields = graph.architecture
    subpixel = fields["upsampling"] == "subpixel"
    x = graph.conv(x if subpixel else graph.resize(x, "nearest", factor), f"conv_up_{index}")
    x = graph.norm(x, f"norm_up_{index}", fields["bn_epsilon_upsampling"])
    x = graph.depth_to_space(x, factor) if subpixel else x
    return graph.activation(x, fields["activation"], "act_shared" if fields["shared_blocks"] else f"act_up_{index}")


def _finish(graph: Graph, x: str) -> str:
    fields = graph.architecture
    slope, _ = layers.RANGES[fields["output_range"]]
    if fields["base"] == "none":
        x = graph.add("tanh", x) if fields["output"] == "tanh" else x
        return graph.to_unit(x, fields["output_range"])
    base_args = graph.input, RESIZE_MODES[fields["base"]], fields["scale"]
    if fields["output"] == "linear":  # the offsets of the range cancel
        return graph.add("add", graph.affine(x, 1 / slope, 0.0), graph.resize(*base_args))
    base = graph.from_unit(graph.resize(*base_args), fields["output_range"])
    return graph.to_unit(graph.add("tanh", graph.add("add", x, base)), fields["output_range"])
