"""Layers that the files of DAT and SwinIR have in common: those outside the blocks."""

import math
from typing import Any

from srgan_jax.weights.layouts.layout import Entries, Tensors, conv, count, norm, require


def group_depths(tensors: Tensors, blocks: str) -> tuple[int, ...]:
    """Returns the number of blocks of each group; `blocks` is the name of a block, of group and index."""
    depths = []
    while depth := count(tensors, blocks.format(len(depths), "{}") + ".norm1.weight"):
        depths.append(depth)
    return tuple(depths)


def outer_layers(tensors: Tensors, first_conv: str, first_norm: str) -> Entries:
    """Returns the layers of `TransformerGenerator` outside the blocks."""
    entries = conv("conv_in", first_conv) | norm("layernorm_in", first_norm) | norm("layernorm_out", "norm")
    ends = {"conv_trunk": "conv_after_body"}
    ends |= {
        f"group_{index:02d}_conv": f"layers.{index}.conv" for index in range(count(tensors, "layers.{}.conv.weight"))
    }
    ends |= {
        f"group_{index:02d}_conv": f"layers.{index}.conv" for index in range(count(tensors, "layers.{}.conv.0.weight"))
    }
    for ours, theirs in ends.items():
        entries |= conv(ours, theirs)
        for index in range(3):
            entries |= conv(f"{ours}_{index + 1}", f"{theirs}.{2 * index}")
    direct = upsampling_of(tensors) == "direct"
    entries |= conv("conv_out", "upsample.0" if direct else "conv_last")
    entries |= conv("conv_head", "conv_before_upsample.0") | conv("conv_hr", "conv_hr")
    for index in range(0 if direct else 3):
        nearest = f"conv_up{index + 1}.weight" in tensors
        entries |= conv(f"conv_up_{index}", f"conv_up{index + 1}" if nearest else f"upsample.{2 * index}")
    return entries


def upsampling_of(tensors: Tensors) -> str:
    """Returns `TransformerGenerator.upsampling`, by the names of its layers."""
    if "conv_up1.weight" in tensors:
        return "nearest"
    if "conv_before_upsample.0.weight" in tensors:
        return "subpixel"
    return "direct" if "upsample.0.weight" in tensors else "none"


def upsampling_fields(tensors: Tensors) -> dict[str, Any]:
    """Returns the fields of `TransformerGenerator` that follow from the layers outside the blocks."""
    upsampling = upsampling_of(tensors)
    if upsampling == "nearest":
        scale = 2 ** sum(f"conv_up{index}.weight" in tensors for index in (1, 2, 3))
    elif upsampling == "direct":
        scale = math.isqrt(require(tensors, "upsample.0.weight").shape[0] // 3)
    else:
        kernels = [tensors[name] for index in range(4) if (name := f"upsample.{2 * index}.weight") in tensors]
        scale = math.prod(math.isqrt(kernel.shape[0] // kernel.shape[1]) for kernel in kernels)
    fields = {"scale": scale, "upsampling": upsampling}
    fields["residual"] = "1conv" if "conv_after_body.weight" in tensors else "3conv"
    head = tensors.get("conv_before_upsample.0.weight")
    return fields if head is None else fields | {"head_width": head.shape[0]}
