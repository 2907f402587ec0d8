"""Export of generators as PyTorch state dicts, for programs such as ComfyUI and chaiNNer; PyTorch isn't needed."""

import importlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from srgan_jax import inference
from srgan_jax.export.graph import RELU_SLOPES
from srgan_jax.export.torch_pickle import write_pth
from srgan_jax.export.verify import HALF_TOLERANCE, TOLERANCE, description, largest_difference
from srgan_jax.models.generators.span import add_branches
from srgan_jax.runtime.atomic import atomic_file
from srgan_jax.runtime.errors import UserError
from srgan_jax.weights import Weights, load
from srgan_jax.weights.safetensors_io import write_tensors

Tensors = dict[str, np.ndarray]
SUFFIXES = (".safetensors", ".pth")
SPAN_BRANCHES = {"expand": "conv.0", "conv": "conv.1", "reduce": "conv.2", "skip": "sk"}
SPAN_USUAL = ((0.4488, 0.4371, 0.4040), 255.0)  # mean and range, which the files don't hold
SPAN_NO_NORM = ((0.0, 0.0, 0.0), 1.0)


def rrdb(weights: Weights) -> Tensors:
    """Returns the state dict of `RRDBNet`: BasicSR's (`body.N.rdbN.convN`); ESRGAN+'s if it is one."""
    fields = weights.architecture
    if (fields["growth"], fields["residual_scale"]) != (32, 0.2):
        raise UserError(
            f"growth={fields['growth']} and residual_scale={fields['residual_scale']}: programs that read RRDB files "
            "expect 32 and 0.2, which the files don't hold; export with --to onnx"
        )
    ups = (fields["scale"] * fields["unshuffle"]).bit_length() - 1  # the product is a power of 2
    if fields["conv1x1"]:
        last = 3 * ups + 2
        names = {"conv_in": "model.0", "conv_trunk": f"model.1.sub.{fields['blocks']}"}
        names |= {f"conv_up_{index}": f"model.{3 * index + 3}" for index in range(ups)}
        names |= {"conv_hr": f"model.{last}", "conv_out": f"model.{last + 2}"}
        dense_block, conv = "model.1.sub.{}.RDB{}.conv", "{}.0"
    else:
        names = {"conv_in": "conv_first", "conv_trunk": "conv_body", "conv_hr": "conv_hr", "conv_out": "conv_last"}
        names |= {f"conv_up_{index}": f"conv_up{index + 1}" for index in range(ups)}
        dense_block, conv = "body.{}.rdb{}.conv", "{}"
    for block in range(fields["blocks"]):
        for dense in (1, 2, 3):
            ours, theirs = f"block_{block:02d}_dense_{dense}", dense_block.format(block, dense)
            names |= {f"{ours}_conv_{index}": theirs + conv.format(index) for index in range(1, 6)}
            names |= {f"{ours}_conv1x1": f"{theirs}1x1"} if fields["conv1x1"] else {}
    return _convolutions(weights.variables["params"], names)


def srvggnet_compact(weights: Weights) -> Tensors:
    """Returns the state dict of Real-ESRGAN's `SRVGGNetCompact` (`body.N`).

    An activation with a constant slope becomes the PReLU that it equals, as readers of these files expect one.
    """
    fields, params = weights.architecture, weights.variables["params"]
    inner = ("in", *(f"{index:02d}" for index in range(fields["blocks"])))
    names = {f"conv_{name}": f"body.{2 * index}" for index, name in enumerate((*inner, "out"))}
    tensors = _convolutions(params, names)
    for index, name in enumerate(inner):
        slope = params[f"act_{name}"]["slope"] if f"act_{name}" in params else RELU_SLOPES[fields["activation"]]
        tensors[f"body.{2 * index + 1}.weight"] = np.broadcast_to(np.asarray(slope), fields["width"])
    return tensors


def span(weights: Weights) -> Tensors:
    """Returns the state dict of `SPAN` with its branches (`conv`, `sk`) and their sum (`eval_conv`)."""
    fields = weights.architecture
    normalisation = tuple(fields["mean"]), fields["img_range"]
    if normalisation not in (SPAN_USUAL, SPAN_NO_NORM):
        raise UserError(
            f"mean={normalisation[0]} and img_range={normalisation[1]}: programs that read SPAN files expect "
            f"{SPAN_USUAL[0]} and {SPAN_USUAL[1]:g}, or 0 and 1, which the files don't hold; export with --to onnx"
        )
    if fields["fused"]:
        raise UserError("the branches of this SPAN are fused; load it with srgan_jax.load(path, fold=False)")
    params, names = weights.variables["params"], {"conv_fuse": "conv_cat", "conv_out": "upsampler.0"}
    tensors = _convolutions(params, names)
    branched = {"conv_in": "conv_1", "conv_trunk": "conv_2"}
    for index in range(fields["blocks"]):
        branched |= {f"block_{index:02d}_conv_{at}": f"block_{index + 1}.c{at}_r" for at in (1, 2, 3)}
    for ours, theirs in branched.items():
        layers = params[ours] | {"eval_conv": add_branches(params[ours])}
        tensors |= _convolutions(
            layers, {k: f"{theirs}.{v}" for k, v in SPAN_BRANCHES.items()} | {"eval_conv": f"{theirs}.eval_conv"}
        )
    return tensors | ({"no_norm": np.zeros(1)} if normalisation == SPAN_NO_NORM else {})


def _convolutions(layers: Mapping[str, Any], names: Mapping[str, str]) -> Tensors:
    """Returns "NAME.weight" and "NAME.bias" of convolutions; `names` has their names by ours."""
    tensors = {}
    for ours, theirs in names.items():
        tensors[f"{theirs}.weight"] = np.asarray(layers[ours]["kernel"]).transpose(3, 2, 0, 1)
        if "bias" in layers[ours]:
            tensors[f"{theirs}.bias"] = np.asarray(layers[ours]["bias"])
    return tensors


# Name in models.GENERATORS: a function that returns the state dict which the community's programs read.
STATE_DICTS: dict[str, Callable[[Weights], Tensors]] = {
    "rrdb": rrdb,
    "srvggnet_compact": srvggnet_compact,
    "span": span,
}


def to_torch(
    params: Weights, path: str | os.PathLike, provenance: Mapping[str, str] | None = None, *, half: bool = False
) -> float:
    """Writes a generator as a state dict with the names that its PyTorch implementations have.

    Args:
      params: from `srgan_jax.load`, with `fold=False` for SPAN; its architecture has an entry in `export.STATE_DICTS`.
      path: a `.safetensors`, or a `.pth` as `torch.save({"params_ema": state_dict, "metadata": ...})` writes it.
      provenance: added to the metadata, with architecture, scale, ranges and the largest difference.
      half: float16 tensors instead of float32.

    Returns:
      The largest absolute difference from the original: in spandrel, which ComfyUI and chaiNNer use, where it is
      installed; otherwise of the tensors that are read back from the file, in this package.

    Raises:
      UserError: the architecture has no entry, the suffix is another one, or the result differs from the original.
    """
    path, name = Path(path), params.architecture["name"]
    if name not in STATE_DICTS:
        raise UserError(
            f"{name} has no PyTorch state dict that other programs read: expected one of "
            f"{', '.join(sorted(STATE_DICTS))}; export with --to onnx"
        )
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path}: expected a file name that ends in {' or '.join(SUFFIXES)}")
    tensors = _rounded(STATE_DICTS[name](params), np.float16 if half else np.float32)
    layout = f"RGB, [N, 3, H, W], any batch, height and width; {'float16' if half else 'float32'} weights"
    with atomic_file(path) as temporary:
        _write(temporary, tensors, {})
        run = _in_spandrel(temporary) or _read_back(temporary)
        largest = largest_difference(run, params, "state dict", tolerance=HALF_TOLERANCE if half else TOLERANCE)
        _write(temporary, tensors, description(params, provenance, layout, largest))
    return largest


def _rounded(tensors: Tensors, dtype: Any) -> Tensors:
    rounded = {name: np.ascontiguousarray(tensor, dtype) for name, tensor in tensors.items()}
    if wrong := [name for name, tensor in rounded.items() if not np.isfinite(tensor).all()]:
        raise UserError(f"{wrong[0]} is not finite in {np.dtype(dtype)}: its values don't fit, or training diverged")
    return rounded


def _write(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    if path.suffix == ".pth":
        write_pth(path, {"params_ema": tensors, "metadata": metadata})
    else:
        write_tensors(path, tensors, {"format": "pt"} | dict(metadata))


def _in_spandrel(path: Path) -> Callable[[np.ndarray], np.ndarray] | None:
    """Returns the network of the file, `[N, H, W, 3]` to `[N, H * scale, W * scale, 3]`; None without spandrel."""
    try:
        spandrel, torch = (importlib.import_module(name) for name in ("spandrel", "torch"))  # neither is required
    except ImportError:
        return None
    try:
        network = spandrel.ModelLoader("cpu").load_from_file(path).model
    except Exception as error:  # spandrel raises many types
        raise UserError(f"spandrel can't read the result: {error}") from None

    def run(lr: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            sr = network(torch.from_numpy(np.ascontiguousarray(lr.transpose(0, 3, 1, 2))).float())
        return sr.clamp(0, 1).numpy().transpose(0, 2, 3, 1)

    return run


def _read_back(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the generator as this package reads it from the file."""
    restored = load(path)
    return lambda lr: np.asarray(inference.upscale(restored, lr))
