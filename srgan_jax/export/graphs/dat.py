"""The graph of `DAT`."""

import numpy as np

from srgan_jax.export.graph import Graph
from srgan_jax.export.graphs.transformer import EPSILON, normalised_image, scaled_queries, transformer
from srgan_jax.models.windows import Size, relative_offsets


def dat(graph: Graph) -> str:
    """Appends the nodes of a `DAT`, its batch normalisation folded."""
    image = normalised_image(graph)
    masks: dict[Size, str] = {}

    def block(x: str, group: int, index: int) -> str:
        name, heads = f"group_{group:02d}_block_{index:02d}", graph.architecture["heads"][group]
        normal = graph.layer_norm(x, f"{name}_layernorm_1", EPSILON)
        if index % 2 == 0:
            shifted = index % 4 == (2 if group % 2 == 0 else 0)
            attended = _attend_to_pixels(graph, normal, name, heads, masks if shifted else None)
        else:
            attended = _attend_to_channels(graph, normal, name, heads)
        x = graph.add("add", x, graph.conv(attended, f"{name}_proj"))
        return graph.add("add", x, _feed_forward(graph, x, name))

    return transformer(graph, image, image, graph.architecture["scale"], block)


def _attend_to_pixels(graph: Graph, x: str, name: str, heads: int, masks: dict[Size, str] | None) -> str:
    """Appends attention in windows of both directions; `masks` of shifted ones, made where they are first needed."""
    width, split = graph.architecture["width"], graph.architecture["split"]
    qkv = scaled_queries(graph, x, f"{name}_qkv", heads)
    local = _local(graph, qkv, name)
    padded = graph.add("pad_to_multiple", qkv, multiple=max(split), mode="zero")
    half, parts = width // 2, []
    for branch, size in enumerate(((split[0], split[1]), (split[1], split[0]))):
        starts = range(branch * half, 3 * width, width)
        part = graph.add("concat", *(graph.channels(padded, start, start + half) for start in starts))
        shift, mask = (0, 0), []
        if masks is not None:
            shift = (size[0] // 2, size[1] // 2)
            masks[size] = masks.get(size) or graph.add("window_mask", padded, size=size, shift=shift)
            mask = [masks[size]]
        bias = _position_bias(graph, f"{name}_position_{branch}", size)
        options = {"size": size, "shift": shift, "heads": heads // 2, "channels": half}
        parts.append(graph.add("window_attention", part, *mask, bias=bias, **options))
    attended = graph.add("crop_to", graph.add("concat", *parts), x, inferred=False)
    channel_map, spatial_map = _channel_map(graph, local, name), _spatial_map(graph, attended, name)
    return graph.add("add", graph.add("mul", attended, channel_map), graph.add("mul", local, spatial_map))


def _attend_to_channels(graph: Graph, x: str, name: str, heads: int) -> str:
    qkv = graph.conv(x, f"{name}_qkv")
    local, temperature = _local(graph, qkv, name), graph.param(f"{name}_temperature")
    options = {"heads": heads, "channels": graph.architecture["width"], "temperature": temperature}
    attended = graph.add("channel_attention", qkv, **options)
    spatial_map, channel_map = _spatial_map(graph, local, name), _channel_map(graph, attended, name)
    return graph.add("add", graph.add("mul", attended, spatial_map), graph.add("mul", local, channel_map))


def _local(graph: Graph, qkv: str, name: str) -> str:
    width = graph.architecture["width"]
    values = graph.channels(qkv, 2 * width, 3 * width)
    return graph.add("gelu", graph.conv(values, f"{name}_conv_local", groups=width))


def _channel_map(graph: Graph, x: str, name: str) -> str:
    y = graph.add("gelu", graph.conv(graph.add("global_mean", x), f"{name}_conv_channels"))
    return graph.add("sigmoid", graph.conv(y, f"{name}_conv_channel"))


def _spatial_map(graph: Graph, x: str, name: str) -> str:
    y = graph.add("gelu", graph.conv(x, f"{name}_conv_pixels"))
    return graph.add("sigmoid", graph.conv(y, f"{name}_conv_pixel"))


def _feed_forward(graph: Graph, x: str, name: str) -> str:
    y = graph.add("gelu", graph.conv(graph.layer_norm(x, f"{name}_layernorm_2", EPSILON), f"{name}_fc_1"))
    half = len(graph.param(f"{name}_layernorm_gate/scale"))
    gate = graph.layer_norm(graph.channels(y, half, 2 * half), f"{name}_layernorm_gate", EPSILON)
    gate = graph.conv(gate, f"{name}_conv_gate", groups=half)
    return graph.conv(graph.add("mul", graph.channels(y, 0, half), gate), f"{name}_fc_2")


def _position_bias(graph: Graph, name: str, size: Size) -> np.ndarray:
    """Returns `[heads, differences]`, the network from differences of positions to biases computed here."""

    def dense(x: np.ndarray, layer: str) -> np.ndarray:
        return x @ graph.param(f"{layer}/kernel").astype(np.float64) + graph.param(f"{layer}/bias")

    x = dense(relative_offsets(size).astype(np.float64), f"{name}_in")
    for index in range(3):
        normal = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + EPSILON)
        layer = f"{name}_layernorm_{index}"
        normal = normal * graph.param(f"{layer}/scale") + graph.param(f"{layer}/bias")
        x = dense(np.maximum(normal, 0.0), f"{name}_{index}")
    return x.T
