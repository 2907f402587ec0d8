"""Layout of SPAN."""

import math
from typing import Any

from srgan_jax.weights.layouts.layout import Entries, Tensors, conv, require

BRANCHES = {"expand": "conv.0", "conv": "conv.1", "reduce": "conv.2", "skip": "sk"}
IGNORES = r"(\.eval_conv\.(weight|bias)|^no_norm)$"
OPTIONS = {
    "mean": "R,G,B subtracted from the input in [0, 1]; usually 0.4488,0.4371,0.4040, and 0,0,0 for no_norm",
    "img_range": "factor after that; usually 255, and 1 for no_norm",
}


def span(
    tensors: Tensors, *, mean: tuple[float, ...] | None = None, img_range: float | None = None
) -> tuple[dict[str, Any], Entries]:
    """hongyuanyu/SPAN, `span_arch.py`; mean and range aren't in the file, only the mark `no_norm` of 0 and 1.

    The branches of a convolution count. The fused kernel beside them (`eval_conv`) is that of the last evaluation,
    which may be older; it is ignored.
    """
    blocks = sum(name.startswith("block_") and name.endswith(".c1_r.sk.weight") for name in tensors)
    layers = {"conv_in": "conv_1", "conv_trunk": "conv_2"}
    for index in range(blocks):
        layers |= {f"block_{index:02d}_conv_{at}": f"block_{index + 1}.c{at}_r" for at in (1, 2, 3)}
    entries = conv("conv_fuse", "conv_cat") | conv("conv_out", "upsampler.0")
    for ours, theirs in layers.items():
        for branch, part in BRANCHES.items():
            entries |= conv(f"{ours}/{branch}", f"{theirs}.{part}")
    usual = ((0.0, 0.0, 0.0), 1.0) if "no_norm" in tensors else ((0.4488, 0.4371, 0.4040), 255.0)
    fields = {
        "blocks": blocks,
        "width": require(tensors, "conv_cat.weight").shape[0],
        "scale": math.isqrt(require(tensors, "upsampler.0.weight").shape[0] // 3),
        "mean": tuple(mean or usual[0]),
        "img_range": float(img_range or usual[1]),
    }
    return {"name": "span", **fields}, entries
