"""Layouts of EDSR in two projects: BasicSR, and the authors' EDSR-PyTorch."""

import math
from typing import Any

from srgan_jax.weights.layouts.layout import Entries, Tensors, conv, count, require

MEAN_LAYERS = r"^(sub|add)_mean\.(weight|bias)$"
OPTIONS = {
    "residual_scale": "factor of each branch; usually 0.1 for 32 blocks or more, else 1",
    "mean": "R,G,B subtracted from the input in [0, 1]; usually 0.4488,0.4371,0.4040",
    "img_range": "factor after that; usually 255",
}


def basicsr_edsr(tensors: Tensors, **options: Any) -> tuple[dict[str, Any], Entries]:
    """XPixelGroup/BasicSR, `edsr_arch.py`; the factors and the mean aren't in the file."""
    blocks = count(tensors, "body.{}.conv1.weight")
    layers = {"conv_in": "conv_first", "conv_trunk": "conv_after_body", "conv_out": "conv_last"}
    for index in range(blocks):
        layers |= {f"block_{index:02d}_conv_{at}": f"body.{index}.conv{at}" for at in (1, 2)}
    return _describe(tensors, layers, blocks, "upsample", **options)


def authors_edsr(tensors: Tensors, **options: Any) -> tuple[dict[str, Any], Entries]:
    """sanghyun-son/EDSR-PyTorch, `edsr.py`; the factor of the branches isn't in the file."""
    blocks = count(tensors, "body.{}.body.0.weight")
    layers = {"conv_in": "head.0", "conv_trunk": f"body.{blocks}", "conv_out": "tail.1"}
    for index in range(blocks):
        layers |= {f"block_{index:02d}_conv_{at}": f"body.{index}.body.{2 * at - 2}" for at in (1, 2)}
    return _describe(tensors, layers, blocks, "tail.0", **options)


def _describe(
    tensors: Tensors,
    layers: dict[str, str],
    blocks: int,
    upsampling: str,
    *,
    residual_scale: float | None = None,
    mean: tuple[float, ...] = (0.4488, 0.4371, 0.4040),
    img_range: float = 255.0,
) -> tuple[dict[str, Any], Entries]:
    width = require(tensors, f"{layers['conv_in']}.weight").shape[0]
    ups = [name for index in range(4) if f"{(name := f'{upsampling}.{2 * index}')}.weight" in tensors]
    layers = layers | {f"conv_up_{index}": name for index, name in enumerate(ups)}
    entries: Entries = {}
    for ours, theirs in layers.items():
        entries |= conv(ours, theirs)
    fields = {
        "blocks": blocks,
        "width": width,
        "scale": math.prod(math.isqrt(tensors[f"{name}.weight"].shape[0] // width) for name in ups),
        "residual_scale": (0.1 if blocks >= 32 else 1.0) if residual_scale is None else float(residual_scale),
        "mean": tuple(mean),
        "img_range": float(img_range),
    }
    return {"name": "edsr", **fields}, entries
