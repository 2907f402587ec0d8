"""Layout of RealPLKSR."""

import math
from typing import Any

import numpy as np

from srgan_jax.weights.layouts.layout import Entries, Source, Tensors, conv, norm, require

IGNORES = r"^to_img\.init_pos$"
OPTIONS = {"groups": "groups of channels of group normalisation; usually 4"}


def realplksr(tensors: Tensors, *, groups: int = 4) -> tuple[dict[str, Any], Entries]:
    """neosr, `realplksr_arch.py`; the number of groups isn't in the file."""
    blocks = sum(name.startswith("feats.") and name.endswith(".lk.conv.weight") for name in tensors)
    last = max(int(name.split(".")[1]) for name in tensors if name.startswith("feats."))
    seen, _, kernel_size, _ = require(tensors, "feats.1.lk.conv.weight").shape
    width = require(tensors, "feats.0.weight").shape[0]
    layer_norm = "feats.1.layer_norm.weight" in tensors
    entries = conv("conv_in", "feats.0") | conv("conv_out", f"feats.{last}") | _dysample("dysample", "to_img")
    for index in range(blocks):
        ours, theirs = f"block_{index:02d}", f"feats.{index + 1}"
        entries |= conv(f"{ours}_conv_1", f"{theirs}.channel_mixer.0")
        entries |= conv(f"{ours}_conv_2", f"{theirs}.channel_mixer.2")
        entries |= conv(f"{ours}_conv_large", f"{theirs}.lk.conv")
        entries |= conv(f"{ours}_conv_attention", f"{theirs}.attn.f.0")
        entries |= conv(f"{ours}_conv_refine", f"{theirs}.refine")
        entries |= norm(f"{ours}_norm", f"{theirs}.layer_norm" if layer_norm else f"{theirs}.norm")
    fields = {
        "blocks": blocks,
        "width": width,
        "scale": math.isqrt(require(tensors, f"feats.{last}.weight").shape[0] // 3),
        "kernel_size": kernel_size,
        "partial": seen / width,
        "elementwise_attention": "feats.1.attn.f.0.weight" in tensors,
        "layer_norm": layer_norm,
        "groups": int(groups),
        "dysample": "to_img.offset.weight" in tensors,
    }
    return {"name": "realplksr", **fields}, entries


def _dysample(ours: str, theirs: str) -> Entries:
    """Returns the entries of DySample: three 1x1 convolutions, which are dense layers here."""

    def to_dense(value: np.ndarray) -> np.ndarray:
        return value.squeeze((2, 3)).T

    layers = {"offset": "offset", "scope": "scope", "": "end_conv"}
    entries: Entries = {}
    for name, part in layers.items():
        path = f"params/{ours}/{name}/".replace("//", "/")
        entries |= {f"{path}kernel": Source(f"{theirs}.{part}.weight", to_dense)}
        entries |= {f"{path}bias": Source(f"{theirs}.{part}.bias")}
    return entries
