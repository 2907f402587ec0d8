"""Layout of SwinIR."""

import math
from typing import Any

from srgan_jax.weights.layouts.layout import Entries, Source, Tensors, conv, norm, require, unshuffle_of
from srgan_jax.weights.layouts.transformer import group_depths, outer_layers, upsampling_fields

IGNORES = r"\.(attn_mask|relative_position_index)$"
OPTIONS = {"img_range": "factor of the input; usually 1, and 255 for windows of 7 (JPEG artefacts)"}
DENSES = {"qkv": "attn.qkv", "proj": "attn.proj", "fc_1": "mlp.fc1", "fc_2": "mlp.fc2"}


def is_swinir(tensors: Tensors) -> bool:
    """Returns whether the tensors are those of SwinIR, and not of HAT, which has more."""
    table = "layers.0.residual_group.blocks.0.attn.relative_position_bias_table"
    return {"patch_embed.norm.weight", table} <= tensors.keys() and not any(
        ".overlap_attn." in name for name in tensors
    )


def swinir(tensors: Tensors, *, img_range: float | None = None) -> tuple[dict[str, Any], Entries]:
    """JingyunLiang/SwinIR, `network_swinir.py` (also KAIR, BasicSR); with pixel-unshuffle as in forks of BasicSR."""
    blocks = "layers.{}.residual_group.blocks.{}"
    depths = group_depths(tensors, blocks)
    first = "conv_first.1" if "conv_first.1.weight" in tensors else "conv_first"
    kernel = require(tensors, f"{first}.weight")
    width, unshuffle = kernel.shape[0], unshuffle_of(kernel)
    entries = outer_layers(tensors, first, "patch_embed.norm")
    tables = [f"{blocks.format(group, 0)}.attn.relative_position_bias_table" for group in range(len(depths))]
    for group, depth in enumerate(depths):
        for index in range(depth):
            ours, theirs = f"group_{group:02d}_block_{index:02d}", blocks.format(group, index)
            for name, part in DENSES.items():
                entries |= conv(f"{ours}_{name}", f"{theirs}.{part}")
            entries |= norm(f"{ours}_layernorm_1", f"{theirs}.norm1") | norm(f"{ours}_layernorm_2", f"{theirs}.norm2")
            table = Source(f"{theirs}.attn.relative_position_bias_table", lambda value: value)
            entries |= {f"params/{ours}_position": table}
    window = (math.isqrt(require(tensors, tables[0]).shape[0]) + 1) // 2
    fields = upsampling_fields(tensors) | {
        "depths": depths,
        "heads": tuple(require(tensors, table).shape[1] for table in tables),
        "width": width,
        "window": window,
        "expansion": require(tensors, f"{blocks.format(0, 0)}.mlp.fc1.weight").shape[0] / width,
        "qkv_bias": f"{blocks.format(0, 0)}.attn.qkv.bias" in tensors,
        "unshuffle": unshuffle,
        "img_range": float(img_range or (255.0 if window == 7 else 1.0)),
    }
    return {"name": "swinir"} | fields | {"scale": fields["scale"] // unshuffle}, entries
