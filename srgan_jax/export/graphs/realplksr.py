"""The graph of `RealPLKSR`."""

import numpy as np

from srgan_jax.export.graph import Graph


def realplksr(graph: Graph) -> str:
    """Appends the nodes of a `RealPLKSR`."""
    fields = graph.architecture
    x = graph.conv(graph.input, "conv_in")
    for index in range(fields["blocks"]):
        x = graph.add("add", x, _block(graph, x, f"block_{index:02d}"))
    x = graph.conv(x, "conv_out")
    if fields["dysample"]:
        return _dysample(graph, x)
    x = graph.depth_to_space(x, fields["scale"])
    return graph.add("add", x, graph.resize(graph.input, "nearest", fields["scale"]))


def _block(graph: Graph, x: str, name: str) -> str:
    fields = graph.architecture
    if fields["layer_norm"]:
        x = graph.layer_norm(x, f"{name}_norm", 1e-6)
    x = graph.conv(graph.add("mish", graph.conv(x, f"{name}_conv_1")), f"{name}_conv_2")
    split = max(1, round(fields["partial"] * fields["width"]))
    large = graph.conv(graph.channels(x, 0, split), f"{name}_conv_large")
    if split < fields["width"]:
        large = graph.add("concat", large, graph.channels(x, split, fields["width"]))
    x = large
    if fields["elementwise_attention"]:
        x = graph.add("mul", x, graph.add("sigmoid", graph.conv(x, f"{name}_conv_attention")))
    x = graph.conv(x, f"{name}_conv_refine")
    return x if fields["layer_norm"] else graph.group_norm(x, f"{name}_norm", fields["groups"], 1e-5)


def _dysample(graph: Graph, x: str) -> str:
    """Appends `DySample` of the map to which LR was added, each channel scale**2 times."""
    scale = graph.architecture["scale"]
    groups, channels = (4 if scale % 2 == 0 else 3), 3 * scale**2
    repeat = np.repeat(np.eye(3, dtype=np.float32), scale**2, axis=0)[:, :, None, None]
    x = graph.add("add", x, graph.convolve(graph.input, repeat))
    # The order of the offsets is changed from (x, y), group, sub-pixel to group, (x, y), sub-pixel.
    order = np.arange(2 * groups * scale**2).reshape(2, groups, -1).swapaxes(0, 1).reshape(-1)
    kernels = [graph.param(f"dysample/{name}/kernel").T[order, :, None, None] for name in ("offset", "scope")]
    scope = graph.add("sigmoid", graph.convolve(x, kernels[1]))
    offset = graph.convolve(x, kernels[0] * 0.5, graph.param("dysample/offset/bias")[order] * 0.5)
    offset = graph.add("mul", offset, scope)
    offset = graph.depth_to_space(offset, scale)
    if scale == 1:
        return graph.add("sample", x, offset, groups=groups, channels=channels, factor=scale)
    # Projected before it is sampled, each group for itself; the groups are added up afterwards.
    kernel, bias = graph.param("dysample/kernel").T, graph.param("dysample/bias")
    part = channels // groups
    own = np.zeros((groups, 3, channels, 1, 1), np.float32)
    for group in range(groups):
        own[group, :, group * part : (group + 1) * part, 0, 0] = kernel[:, group * part : (group + 1) * part]
    x = graph.convolve(x, own.reshape(-1, channels, 1, 1))
    x = graph.add("sample", x, offset, groups=groups, channels=3 * groups, factor=scale)
    total = np.tile(np.eye(3, dtype=np.float32), (1, groups))[:, :, None, None]
    return graph.convolve(x, total, bias)
