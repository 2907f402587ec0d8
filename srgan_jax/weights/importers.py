"""Importers of published generators: PyTorch checkpoints to `Weights`. No pickle is executed.

A new importer is a function from tensors to (architecture, names) and an entry in `IMPORTERS`.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flax.traverse_util import unflatten_dict

from srgan_jax.runtime.errors import lookup
from srgan_jax.weights import WeightsError
from srgan_jax.weights.torch_checkpoint import Tensors, read_torch
from srgan_jax.weights.weights import Weights, make_weights

Names = dict[str, str]  # our layer -> their layer
OUTER_LAYERS = {"conv_in": "conv1.0", "act_in": "conv1.1", "conv_trunk": "conv2.0", "norm_trunk": "conv2.1"}
BLOCK_LAYERS = {"conv_1": "0", "norm_1": "1", "act": "2", "conv_2": "3", "norm_2": "4"}


def _count_indices(tensors: Tensors, pattern: str) -> int:
    """Returns n such that `pattern` formatted with 0, 1, ..., n - 1 names a tensor, and with n none."""
    number = 0
    while pattern.format(number) in tensors:
        number += 1
    return number


def _require(tensors: Tensors, name: str) -> np.ndarray:
    if name not in tensors:
        raise WeightsError(
            f"missing {name}; the file has {len(tensors)} tensors, such as {', '.join(list(tensors)[:3])}"
        )
    return tensors[name]


def _blocks(count: int, pattern: str, parts: Mapping[str, str], start: int = 0) -> Names:
    return {
        f"block_{index:02d}_{ours}": pattern.format(index + start) + theirs
        for index in range(count)
        for ours, theirs in parts.items()
    }


def srgan5(tensors: Tensors) -> tuple[dict[str, Any], Names]:
    """leftthomas/SRGAN: `block1` to `block8`, output (tanh + 1) / 2, biases before norms, PReLU after the trunk."""
    width = _require(tensors, "block1.0.weight").shape[0]
    last = max(int(name[5:].split(".")[0]) for name in tensors if name.startswith("block"))  # upsampling and output
    blocks, ups = last - 3, _count_indices(tensors, f"block{last}.{{}}.conv.weight")
    names = {"conv_in": "block1.0", "act_in": "block1.1"}
    parts = {"conv_1": "conv1", "norm_1": "bn1", "act": "prelu", "conv_2": "conv2", "norm_2": "bn2"}
    names |= _blocks(blocks, "block{}.", parts, start=2)
    names |= {"conv_trunk": f"block{last - 1}.0", "act_trunk": f"block{last - 1}.1", "conv_out": f"block{last}.{ups}"}
    for index in range(ups):
        names |= {f"conv_up_{index}": f"block{last}.{index}.conv", f"act_up_{index}": f"block{last}.{index}.prelu"}
    fields = {"blocks": blocks, "width": width, "scale": 2**ups, "trunk": "activation", "output": "tanh"}
    return {"name": "srresnet", "activation": "prelu_shared", "bias_before_norm": True, **fields}, names


def lornatang(tensors: Tensors) -> tuple[dict[str, Any], Names]:
    """Lornatang/SRGAN-PyTorch, `SRResNet`: `trunk.N.rcb`, output in [0, 1]."""
    width, blocks = _require(tensors, "conv1.0.weight").shape[0], _count_indices(tensors, "trunk.{}.rcb.0.weight")
    ups = _count_indices(tensors, "upsampling.{}.upsample_block.0.weight")
    names = OUTER_LAYERS | {"conv_out": "conv3"}
    names |= _blocks(blocks, "trunk.{}.rcb.", BLOCK_LAYERS)
    for index in range(ups):
        upsample = f"upsampling.{index}.upsample_block"
        names |= {f"conv_up_{index}": f"{upsample}.0", f"act_up_{index}": f"{upsample}.2"}
    fields = {"blocks": blocks, "width": width, "scale": _scale(tensors, "upsampling.{}.upsample_block.0.weight")}
    return {"name": "srresnet", "activation": "prelu_shared", "output_range": "unit", **fields}, names


def _scale(tensors: Tensors, pattern: str) -> int:
    """Returns the product of the sub-pixel factors, each the square root of output over input channels."""
    kernels = [tensors[pattern.format(index)] for index in range(_count_indices(tensors, pattern))]
    return int(np.prod([round((kernel.shape[0] / kernel.shape[1]) ** 0.5) for kernel in kernels]))


def eriklindernoren(tensors: Tensors) -> tuple[dict[str, Any], Names]:
    """eriklindernoren/PyTorch-GAN, `GeneratorResNet`: ImageNet's ranges, epsilon 0.8 except in the upsampling."""
    width, blocks = (
        _require(tensors, "conv1.0.weight").shape[0],
        _count_indices(tensors, "res_blocks.{}.conv_block.0.weight"),
    )
    ups = sum(f"upsampling.{4 * index}.weight" in tensors for index in range(8))
    names = OUTER_LAYERS | {"conv_out": "conv3.0"}
    names |= _blocks(blocks, "res_blocks.{}.conv_block.", BLOCK_LAYERS)
    for index in range(ups):
        for ours, offset in (("conv", 0), ("norm", 1), ("act", 3)):
            names[f"{ours}_up_{index}"] = f"upsampling.{4 * index + offset}"
    fields = {"blocks": blocks, "width": width, "scale": 2**ups, "bn_epsilon": 0.8, "norm_upsampling": True}
    ranges = {"input_range": "imagenet", "output_range": "imagenet", "output": "tanh"}
    return {"name": "srresnet", "activation": "prelu_shared", "bias_before_norm": True, **fields, **ranges}, names


def basicsr_msrresnet(tensors: Tensors) -> tuple[dict[str, Any], Names]:
    """XPixelGroup/BasicSR, `MSRResNet`."""
    width, blocks = _require(tensors, "conv_first.weight").shape[0], _count_indices(tensors, "body.{}.conv1.weight")
    ups = [name for name in ("upconv1", "upconv2") if f"{name}.weight" in tensors]
    factors = [round((tensors[f"{name}.weight"].shape[0] / width) ** 0.5) for name in ups]
    names = {"conv_in": "conv_first", "conv_hr": "conv_hr", "conv_out": "conv_last"}
    names |= _blocks(blocks, "body.{}.", {"conv_1": "conv1", "conv_2": "conv2"})
    names |= {f"conv_up_{index}": name for index, name in enumerate(ups)}
    return {"name": "msrresnet", "blocks": blocks, "width": width, "scale": int(np.prod(factors))}, names


IMPORTERS: dict[str, Callable[[Tensors], tuple[dict[str, Any], Names]]] = {
    "srgan5": srgan5,
    "lornatang": lornatang,
    "eriklindernoren": eriklindernoren,
    "basicsr-msrresnet": basicsr_msrresnet,
}


def _tensor_names(layer: str) -> list[tuple[str, str, str]]:
    """Returns (collection, their name, our name) of each tensor of one of our layers."""
    if "norm" in layer:
        statistics = [("batch_stats", "running_mean", "mean"), ("batch_stats", "running_var", "var")]
        return [("params", "weight", "scale"), ("params", "bias", "bias"), *statistics]
    if layer.startswith("act_") or layer.endswith("_act"):
        return [("params", "weight", "slope")]
    return [("params", "weight", "kernel"), ("params", "bias", "bias")]


def _convert(tensors: Tensors, names: Names) -> dict[str, np.ndarray]:
    """Returns their tensors with our names and layouts, by "collection/layer/name".

    Raises:
      WeightsError: a tensor is left over.
    """
    found, used = {}, set()
    for ours, theirs in names.items():
        for place, kind, name in _tensor_names(ours):
            if (key := f"{theirs}.{kind}") in tensors:
                value = tensors[key]
                found[f"{place}/{ours}/{name}"] = value.transpose(2, 3, 1, 0) if value.ndim == 4 else value
                used.add(key)
    surplus = [key for key in tensors if key not in used and not key.endswith("num_batches_tracked")]
    if surplus:
        listed = "\n  ".join(f"surplus {key} {tensors[key].shape}" for key in surplus[:10])
        raise WeightsError(f"{len(surplus)} tensors don't belong to the generator:\n  {listed}")
    return found


def import_generator(path: str | os.PathLike, source: str) -> Weights:
    """Returns a published generator.

    Args:
      path: a PyTorch checkpoint or `.safetensors`.
      source: a name in `IMPORTERS`.

    Returns:
      `Weights`; blocks, width and scale are read from the tensors.

    Raises:
      UserError: the source is unknown, the file is unreadable, or tensors are missing, surplus or of another shape; the
        message lists them.
    """
    lookup(IMPORTERS, source, "source")
    tensors = read_torch(path)
    try:
        return _import_tensors(tensors, source)
    except WeightsError as error:
        others = [name for name in IMPORTERS if name != source]
        fitting = [f"--from {name} fits" for name in others if _fits(tensors, name)]
        hint = fitting[0] if fitting else f"other sources: {', '.join(others)}"
        raise WeightsError(f"{os.fspath(path)} is not laid out as {source} ({hint}): {error}") from None


def _import_tensors(tensors: Tensors, source: str) -> Weights:
    try:
        architecture, names = IMPORTERS[source](tensors)
        flat = {tuple(key.split("/")): np.ascontiguousarray(value) for key, value in _convert(tensors, names).items()}
        return make_weights(unflatten_dict(flat), architecture)
    except (ValueError, LookupError, ArithmeticError, TypeError) as error:  # the tensors may be those of any network
        raise WeightsError(str(error)) from None


def _fits(tensors: Tensors, source: str) -> bool:
    try:
        _import_tensors(tensors, source)
    except WeightsError:
        return False
    return True
