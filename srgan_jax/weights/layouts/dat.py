"""Layout of DAT."""

from typing import Any

import numpy as np

from srgan_jax.weights.layouts.layout import Entries, Source, Tensors, conv, norm, require
from srgan_jax.weights.layouts.transformer import group_depths, outer_layers, upsampling_fields

IGNORES = r"(num_batches_tracked|\.attn_mask(_[01])?|\.rpe_biases|\.relative_position_index)$"
OPTIONS = {"split": "sides of a window where the file lacks them (rpe_biases); usually 8,32"}


def dat(tensors: Tensors, *, split: tuple[int, int] = (8, 32)) -> tuple[dict[str, Any], Entries]:
    """zhengchen1999/DAT, `dat_arch.py`; masks and indices in the file are derived, and ignored but for the split."""
    width = require(tensors, "conv_first.weight").shape[0]
    depths = group_depths(tensors, "layers.{}.blocks.{}")
    entries = outer_layers(tensors, "conv_first", "before_RG.1")
    for group, depth in enumerate(depths):
        for index in range(depth):
            ours, theirs = f"group_{group:02d}_block_{index:02d}", f"layers.{group}.blocks.{index}"
            entries |= _block(ours, theirs) | (_position(ours, theirs) if index % 2 == 0 else {})
    biases = tensors.get("layers.0.blocks.0.attn.attns.0.rpe_biases")
    sides = split if biases is None else (int(side) + 1 for side in biases[-1])  # the last row is the largest offset
    fields = {
        "depths": depths,
        "heads": tuple(_heads(tensors, group) for group in range(len(depths))),
        "width": width,
        "split": tuple(sides),
        "expansion": require(tensors, "layers.0.blocks.0.ffn.fc1.weight").shape[0] / width,
        "qkv_bias": "layers.0.blocks.0.attn.qkv.bias" in tensors,
    }
    return {"name": "dat"} | fields | upsampling_fields(tensors), entries


def _heads(tensors: Tensors, group: int) -> int:
    """Returns the heads of a group: those of its channel attention, or twice those of a branch of its spatial one."""
    temperature = tensors.get(f"layers.{group}.blocks.1.attn.temperature")
    if temperature is not None:
        return temperature.shape[0]
    return 2 * require(tensors, f"layers.{group}.blocks.0.attn.attns.0.pos.pos3.2.weight").shape[0]


def _block(ours: str, theirs: str) -> Entries:
    denses = {"qkv": "attn.qkv", "proj": "attn.proj", "fc_1": "ffn.fc1", "fc_2": "ffn.fc2"}
    norms = {"layernorm_1": "norm1", "layernorm_2": "norm2", "layernorm_gate": "ffn.sg.norm"}
    norms |= {"norm_local": "attn.dwconv.1", "norm_channels": "attn.channel_interaction.2"}
    norms |= {"norm_pixels": "attn.spatial_interaction.1"}
    convs = {"conv_local": "attn.dwconv.0", "conv_gate": "ffn.sg.conv"} | denses
    points = {"conv_channels": "attn.channel_interaction.1", "conv_channel": "attn.channel_interaction.4"}
    points |= {"conv_pixels": "attn.spatial_interaction.0", "conv_pixel": "attn.spatial_interaction.3"}
    entries: Entries = {}
    for name, part in convs.items():
        entries |= conv(f"{ours}_{name}", f"{theirs}.{part}")
    for name, part in norms.items():
        entries |= norm(f"{ours}_{name}", f"{theirs}.{part}")
    for name, part in points.items():
        entries |= pointwise(f"{ours}_{name}", f"{theirs}.{part}")
    temperature = Source(f"{theirs}.attn.temperature", np.ravel)
    return entries | {f"params/{ours}_temperature": temperature}


def _position(ours: str, theirs: str) -> Entries:
    """Returns the two networks from differences of positions to biases."""
    entries: Entries = {}
    for branch in (0, 1):
        name, part = f"{ours}_position_{branch}", f"{theirs}.attn.attns.{branch}.pos"
        entries |= conv(f"{name}_in", f"{part}.pos_proj")
        for index in range(3):
            entries |= norm(f"{name}_layernorm_{index}", f"{part}.pos{index + 1}.0")
            entries |= conv(f"{name}_{index}", f"{part}.pos{index + 1}.2")
    return entries


def pointwise(ours: str, theirs: str) -> Entries:
    """Returns the entries of a 1x1 convolution that is a dense layer here."""

    def to_dense(value: np.ndarray) -> np.ndarray:
        return value.squeeze((2, 3)).T

    return {
        f"params/{ours}/kernel": Source(f"{theirs}.weight", to_dense),
        f"params/{ours}/bias": Source(f"{theirs}.bias"),
    }
