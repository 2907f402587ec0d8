"""Layouts of SRResNet in four projects: leftthomas, Lornatang, eriklindernoren, BasicSR."""

from typing import Any

import numpy as np

from srgan_jax.weights.layouts.layout import Entries, Tensors, conv, count, norm, require, slope

Described = tuple[dict[str, Any], Entries]


def _outer() -> Entries:
    """Returns the layers around the blocks, as Lornatang and eriklindernoren name them."""
    return conv("conv_in", "conv1.0") | slope("act_in", "conv1.1") | conv("conv_trunk", "conv2.0") | norm(
        "norm_trunk", "conv2.1"
    )  # fmt: skip


def _sequential_blocks(blocks: int, pattern: str) -> Entries:
    """Returns the layers of blocks that are numbered lists: convolution, norm, PReLU, convolution, norm."""
    entries: Entries = {}
    for index in range(blocks):
        ours, theirs = f"block_{index:02d}", pattern.format(index)
        entries |= conv(f"{ours}_conv_1", f"{theirs}.0") | norm(f"{ours}_norm_1", f"{theirs}.1")
        entries |= slope(f"{ours}_act", f"{theirs}.2")
        entries |= conv(f"{ours}_conv_2", f"{theirs}.3") | norm(f"{ours}_norm_2", f"{theirs}.4")
    return entries


def srgan5(tensors: Tensors) -> Described:
    """leftthomas/SRGAN: `block1` to `block8`, output (tanh + 1) / 2, biases before norms.

    After the trunk is a PReLU in files of before 2019, and batch normalisation since.
    """
    width = require(tensors, "block1.0.weight").shape[0]
    last = max(int(name[5:].split(".")[0]) for name in tensors if name.startswith("block"))  # upsampling and output
    blocks, ups = last - 3, count(tensors, f"block{last}.{{}}.conv.weight")
    entries = conv("conv_in", "block1.0") | slope("act_in", "block1.1")
    for index in range(blocks):
        ours, theirs = f"block_{index:02d}", f"block{index + 2}"
        entries |= conv(f"{ours}_conv_1", f"{theirs}.conv1") | norm(f"{ours}_norm_1", f"{theirs}.bn1")
        entries |= slope(f"{ours}_act", f"{theirs}.prelu")
        entries |= conv(f"{ours}_conv_2", f"{theirs}.conv2") | norm(f"{ours}_norm_2", f"{theirs}.bn2")
    has_norm = f"block{last - 1}.1.running_mean" in tensors
    after_trunk = norm("norm_trunk", f"block{last - 1}.1") if has_norm else slope("act_trunk", f"block{last - 1}.1")
    entries |= conv("conv_trunk", f"block{last - 1}.0") | after_trunk | conv("conv_out", f"block{last}.{ups}")
    for index in range(ups):
        entries |= conv(f"conv_up_{index}", f"block{last}.{index}.conv")
        entries |= slope(f"act_up_{index}", f"block{last}.{index}.prelu")
    fields = {"blocks": blocks, "width": width, "scale": 2**ups, "trunk": "norm" if has_norm else "activation"}
    fields |= {"output": "tanh", "bias_before_norm": True}
    return {"name": "srresnet", "activation": "prelu_shared", **fields}, entries


def lornatang(tensors: Tensors) -> Described:
    """Lornatang/SRGAN-PyTorch, `SRResNet`: `trunk.N.rcb`, output in [0, 1]."""
    width, blocks = require(tensors, "conv1.0.weight").shape[0], count(tensors, "trunk.{}.rcb.0.weight")
    pattern = "upsampling.{}.upsample_block"
    ups = count(tensors, f"{pattern}.0.weight")
    entries = _outer() | conv("conv_out", "conv3") | _sequential_blocks(blocks, "trunk.{}.rcb")
    for index in range(ups):
        entries |= conv(f"conv_up_{index}", f"{pattern.format(index)}.0")
        entries |= slope(f"act_up_{index}", f"{pattern.format(index)}.2")
    kernels = [tensors[f"{pattern.format(index)}.0.weight"] for index in range(ups)]
    fields = {"blocks": blocks, "width": width, "scale": _subpixel_scale(kernels), "output_range": "unit"}
    return {"name": "srresnet", "activation": "prelu_shared", **fields}, entries


def _subpixel_scale(kernels: list[np.ndarray]) -> int:
    """Returns the product of the sub-pixel factors, each the square root of output over input channels."""
    return int(np.prod([round((kernel.shape[0] / kernel.shape[1]) ** 0.5) for kernel in kernels]))


def eriklindernoren(tensors: Tensors) -> Described:
    """eriklindernoren/PyTorch-GAN, `GeneratorResNet`: ImageNet's ranges, epsilon 0.8 except in the upsampling."""
    width = require(tensors, "conv1.0.weight").shape[0]
    blocks = count(tensors, "res_blocks.{}.conv_block.0.weight")
    ups = sum(f"upsampling.{4 * index}.weight" in tensors for index in range(8))
    entries = _outer() | conv("conv_out", "conv3.0") | _sequential_blocks(blocks, "res_blocks.{}.conv_block")
    for index in range(ups):
        first = 4 * index  # convolution, norm, pixel shuffle, PReLU
        entries |= conv(f"conv_up_{index}", f"upsampling.{first}") | norm(f"norm_up_{index}", f"upsampling.{first + 1}")
        entries |= slope(f"act_up_{index}", f"upsampling.{first + 3}")
    fields = {"blocks": blocks, "width": width, "scale": 2**ups, "bn_epsilon": 0.8, "norm_upsampling": True}
    ranges = {"input_range": "imagenet", "output_range": "imagenet", "output": "tanh"}
    return {"name": "srresnet", "activation": "prelu_shared", "bias_before_norm": True, **fields, **ranges}, entries


def basicsr_msrresnet(tensors: Tensors) -> Described:
    """XPixelGroup/BasicSR, `MSRResNet`."""
    width, blocks = require(tensors, "conv_first.weight").shape[0], count(tensors, "body.{}.conv1.weight")
    ups = [name for name in ("upconv1", "upconv2") if f"{name}.weight" in tensors]
    entries = conv("conv_in", "conv_first") | conv("conv_hr", "conv_hr") | conv("conv_out", "conv_last")
    for index in range(blocks):
        entries |= conv(f"block_{index:02d}_conv_1", f"body.{index}.conv1")
        entries |= conv(f"block_{index:02d}_conv_2", f"body.{index}.conv2")
    for index, name in enumerate(ups):
        entries |= conv(f"conv_up_{index}", name)
    scale = _subpixel_scale([tensors[f"{name}.weight"] for name in ups])
    return {"name": "msrresnet", "blocks": blocks, "width": width, "scale": scale}, entries
