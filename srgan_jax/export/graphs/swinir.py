"""The graph of `SwinIR`."""

from srgan_jax.export.graph import Graph
from srgan_jax.export.graphs.transformer import EPSILON, normalised_image, scaled_queries, transformer


def swinir(graph: Graph) -> str:
    """Appends the nodes of a `SwinIR`."""
    fields = graph.architecture
    unshuffle, window, width = fields["unshuffle"], fields["window"], fields["width"]
    image = graph.add("pad_to_multiple", normalised_image(graph), multiple=window * unshuffle, mode="reflect")
    x = graph.pixel_unshuffle(image, unshuffle, channels=3) if unshuffle > 1 else image
    size, half = (window, window), (window // 2, window // 2)
    mask = graph.add("window_mask", x, size=size, shift=half) if any(half) and max(fields["depths"]) > 1 else ""

    def block(x: str, group: int, index: int) -> str:
        name, heads = f"group_{group:02d}_block_{index:02d}", fields["heads"][group]
        shift, masks = ((0, 0), []) if index % 2 == 0 or not mask else (half, [mask])
        qkv = scaled_queries(graph, graph.layer_norm(x, f"{name}_layernorm_1", EPSILON), f"{name}_qkv", heads)
        options = {"size": size, "shift": shift, "heads": heads, "channels": width}
        bias = graph.param(f"{name}_position").T
        attended = graph.add("window_attention", qkv, *masks, bias=bias, **options)
        x = graph.add("add", x, graph.conv(attended, f"{name}_proj"))
        y = graph.add("gelu", graph.conv(graph.layer_norm(x, f"{name}_layernorm_2", EPSILON), f"{name}_fc_1"))
        return graph.add("add", x, graph.conv(y, f"{name}_fc_2"))

    x = transformer(graph, image, x, fields["scale"] * unshuffle, block)
    return graph.add("crop_to", x, graph.resize(graph.input, "nearest", fields["scale"]), inferred=True)
