"""The graph of `RealPLKSR`."""

from srgan_jax.export.graph import Graph
from srgan_jax.runtime.errors import UserError


def realplksr(graph: Graph) -> str:
    """Appends the nodes of a `RealPLKSR`.

    Raises:
      UserError: it has `DySample` or `layer_norm`.
    """
    fields = graph.architecture
    for option in ("dysample", "layer_norm"):
        if fields[option]:
            raise UserError(
                f"RealPLKSR with {option}=True can't be written as ONNX or ncnn; export with --to stablehlo"
            )
    x = graph.conv(graph.input, "conv_in")
    for index in range(fields["blocks"]):
        x = graph.add("add", x, _block(graph, x, f"block_{index:02d}"))
    x = graph.depth_to_space(graph.conv(x, "conv_out"), fields["scale"])
    return graph.add("add", x, graph.resize(graph.input, "nearest", fields["scale"]))


def _block(graph: Graph, x: str, name: str) -> str:
    fields = graph.architecture
    x = graph.conv(graph.add("mish", graph.conv(x, f"{name}_conv_1")), f"{name}_conv_2")
    split = max(1, round(fields["partial"] * fields["width"]))
    large = graph.conv(graph.add("channels", x, start=0, end=split), f"{name}_conv_large")
    if split < fields["width"]:
        large = graph.add("concat", large, graph.add("channels", x, start=split, end=fields["width"]))
    x = large
    if fields["elementwise_attention"]:
        x = graph.add("mul", x, graph.add("sigmoid", graph.conv(x, f"{name}_conv_attention")))
    return graph.group_norm(graph.conv(x, f"{name}_conv_refine"), f"{name}_norm", fields["groups"], 1e-5)
