"""Layouts of RRDBNet in its three spellings."""

import re
from typing import Any

from srgan_jax.weights.layouts.layout import Entries, Tensors, conv, count, require, unshuffle_of
from srgan_jax.weights.safetensors_io import WeightsError


def esrgan(tensors: Tensors) -> tuple[dict[str, Any], Entries]:
    """ESRGAN's first code: `model.1.sub.N.RDB1.conv1.0`; what follows the blocks is numbered."""
    blocks = count(tensors, "model.1.sub.{}.RDB1.conv1.0.weight")
    after = sorted(int(name.split(".")[1]) for name in tensors if re.fullmatch(r"model\.\d+\.weight", name))[1:]
    outer = {"conv_in": "model.0", "conv_trunk": f"model.1.sub.{blocks}"}
    names = [*(f"conv_up_{index}" for index in range(len(after) - 2)), "conv_hr", "conv_out"]
    outer |= {name: f"model.{number}" for name, number in zip(names, after, strict=True)}
    return _describe(tensors, outer, blocks, "model.1.sub.{}.RDB{}.conv{}.0", "model.1.sub.{}.RDB{}.conv1x1")


def esrgan_trunk(tensors: Tensors) -> tuple[dict[str, Any], Entries]:
    """ESRGAN's later code and BSRGAN: `RRDB_trunk.N.RDB1.conv1`, `trunk_conv`, `upconv1`, `HRconv`."""
    outer = {"conv_in": "conv_first", "conv_trunk": "trunk_conv", "conv_hr": "HRconv", "conv_out": "conv_last"}
    outer |= {f"conv_up_{index}": f"upconv{index + 1}" for index in range(_ups(tensors, "upconv{}.weight"))}
    blocks = count(tensors, "RRDB_trunk.{}.RDB1.conv1.weight")
    return _describe(tensors, outer, blocks, "RRDB_trunk.{}.RDB{}.conv{}", "RRDB_trunk.{}.RDB{}.conv1x1")


def basicsr_rrdb(tensors: Tensors) -> tuple[dict[str, Any], Entries]:
    """BasicSR and Real-ESRGAN: `body.N.rdb1.conv1`, `conv_body`, `conv_up1`, `conv_hr`."""
    outer = {"conv_in": "conv_first", "conv_trunk": "conv_body", "conv_hr": "conv_hr", "conv_out": "conv_last"}
    outer |= {f"conv_up_{index}": f"conv_up{index + 1}" for index in range(_ups(tensors, "conv_up{}.weight"))}
    blocks = count(tensors, "body.{}.rdb1.conv1.weight")
    return _describe(tensors, outer, blocks, "body.{}.rdb{}.conv{}", "body.{}.rdb{}.conv1x1")


def _ups(tensors: Tensors, pattern: str) -> int:
    """Returns the number of upsampling convolutions, which are numbered from 1."""
    return sum(pattern.format(number) in tensors for number in range(1, 9))


def _describe(tensors: Tensors, outer: dict[str, str], blocks: int, dense: str, skip: str) -> tuple[dict, Entries]:
    """Returns the architecture and the entries.

    Args:
      tensors: of the file.
      outer: our names of the layers outside the blocks, and theirs.
      blocks: their number.
      dense: pattern of the convolutions of a dense block, formatted by block, dense block and convolution.
      skip: pattern of ESRGAN+'s 1x1 convolution, formatted by block and dense block.
    """
    first = require(tensors, f"{outer['conv_in']}.weight")
    growth = require(tensors, dense.format(0, 1, 1) + ".weight").shape[0]
    unshuffle = unshuffle_of(first)
    upsampled = 2 ** sum(name.startswith("conv_up_") for name in outer)
    if upsampled % unshuffle:
        raise WeightsError(f"upsampling by {upsampled} of an image in blocks of {unshuffle} gives less than scale 1")
    entries: Entries = {}
    for ours, theirs in outer.items():
        entries |= conv(ours, theirs)
    for index in range(blocks):
        for part in (1, 2, 3):
            ours = f"block_{index:02d}_dense_{part}"
            entries |= conv(f"{ours}_conv1x1", skip.format(index, part))
            for number in range(1, 6):
                entries |= conv(f"{ours}_conv_{number}", dense.format(index, part, number))
    fields = {"blocks": blocks, "width": first.shape[0], "growth": growth, "scale": upsampled // unshuffle}
    extra = {"unshuffle": unshuffle, "conv1x1": skip.format(0, 1) + ".weight" in tensors}
    return {"name": "rrdb", **fields, **extra}, entries
