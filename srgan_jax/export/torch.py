"""Export of generators as PyTorch state dicts, for programs such as ComfyUI and chaiNNer; PyTorch isn't needed."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from srgan_jax import inference
from srgan_jax.export.graph import RELU_SLOPES
from srgan_jax.export.torch_pickle import write_pth
from srgan_jax.export.verify import HALF_TOLERANCE, TOLERANCE, description, largest_difference
from srgan_jax.runtime.atomic import atomic_file
from srgan_jax.runtime.errors import UserError
from srgan_jax.weights import Weights, make_weights
from srgan_jax.weights.safetensors_io import write_tensors
from srgan_jax.weights.torch_checkpoint import read_torch

Architecture = Mapping[str, Any]
SUFFIXES = (".safetensors", ".pth")


def rrdb(fields: Architecture) -> dict[str, str]:
    """Returns the names of BasicSR's `RRDBNet` (`conv_first`, `body.N.rdbN.convN`) by our layers."""
    if (fields["growth"], fields["residual_scale"]) != (32, 0.2):
        raise UserError(
            f"growth={fields['growth']} and residual_scale={fields['residual_scale']}: programs that read RRDB files "
            "expect 32 and 0.2, which the files don't hold; export with --to onnx"
        )
    names = {"conv_in": "conv_first", "conv_trunk": "conv_body", "conv_hr": "conv_hr", "conv_out": "conv_last"}
    for block in range(fields["blocks"]):
        for dense in (1, 2, 3):
            for conv in range(1, 6):
                names[f"block_{block:02d}_dense_{dense}_conv_{conv}"] = f"body.{block}.rdb{dense}.conv{conv}"
    steps = fields["scale"].bit_length() - 1  # scale is a power of 2
    return names | {f"conv_up_{index}": f"conv_up{index + 1}" for index in range(steps)}


def srvggnet_compact(fields: Architecture) -> dict[str, str]:
    """Returns the names of Real-ESRGAN's `SRVGGNetCompact` (`body.N`) by our layers."""
    inner = ("in", *(f"{index:02d}" for index in range(fields["blocks"])))
    names = {f"conv_{name}": f"body.{2 * index}" for index, name in enumerate(inner)}
    names |= {f"act_{name}": f"body.{2 * index + 1}" for index, name in enumerate(inner)}
    return names | {"conv_out": f"body.{2 * len(inner)}"}


# Name in models.GENERATORS: a function of the architecture that returns the community's names by our layers.
STATE_DICTS: dict[str, Callable[[Architecture], dict[str, str]]] = {"rrdb": rrdb, "srvggnet_compact": srvggnet_compact}


def to_torch(
    params: Weights, path: str | os.PathLike, provenance: Mapping[str, str] | None = None, *, half: bool = False
) -> float:
    """Writes a generator as a state dict with the names that its PyTorch implementations have.

    Args:
      params: from `srgan_jax.load`; its architecture has an entry in `export.STATE_DICTS`.
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
    names = STATE_DICTS[name](params.architecture)
    tensors = _state_dict(params, names, np.float16 if half else np.float32)
    layout = f"RGB, [N, 3, H, W], any batch, height and width; {'float16' if half else 'float32'} weights"
    with atomic_file(path) as temporary:
        _write(temporary, tensors, {})
        run = _in_spandrel(temporary) or _in_this_package(temporary, params, names)
        largest = largest_difference(run, params, "state dict", tolerance=HALF_TOLERANCE if half else TOLERANCE)
        _write(temporary, tensors, description(params, provenance, layout, largest))
    return largest


def _state_dict(params: Weights, names: Mapping[str, str], dtype: Any) -> dict[str, np.ndarray]:
    """Returns the tensors by their names; an activation with a constant slope becomes the PReLU that it equals."""
    layers, fields, tensors = params.variables["params"], params.architecture, {}
    for ours, theirs in names.items():
        if ours.startswith("act_"):
            slope = layers[ours]["slope"] if ours in layers else RELU_SLOPES[fields["activation"]]
            tensors[f"{theirs}.weight"] = np.broadcast_to(np.asarray(slope, dtype), fields["width"])
        else:
            tensors[f"{theirs}.weight"] = np.asarray(layers[ours]["kernel"], dtype).transpose(3, 2, 0, 1)
            tensors[f"{theirs}.bias"] = np.asarray(layers[ours]["bias"], dtype)
    if wrong := [name for name, tensor in tensors.items() if not np.isfinite(tensor).all()]:
        raise UserError(
            f"{wrong[0]} is not finite in {np.dtype(dtype).name}: its values don't fit, or training diverged"
        )
    return {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}


def _write(path: Path, tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    if path.suffix == ".pth":
        write_pth(path, {"params_ema": tensors, "metadata": metadata})
    else:
        write_tensors(path, tensors, {"format": "pt"} | dict(metadata))


def _in_spandrel(path: Path) -> Callable[[np.ndarray], np.ndarray] | None:
    """Returns the network of the file, `[N, H, W, 3]` to `[N, H * scale, W * scale, 3]`; None without spandrel."""
    try:
        import spandrel
        import torch
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


def _in_this_package(path: Path, params: Weights, names: Mapping[str, str]) -> Callable[[np.ndarray], np.ndarray]:
    """Returns the generator with the tensors that are read back from the file."""
    tensors, variables = read_torch(path), {}
    for layer, arrays in params.variables["params"].items():
        variables[layer] = {
            kind: np.asarray(
                _ours(tensors[f"{names[layer]}.{'bias' if kind == 'bias' else 'weight'}"], array), np.float32
            )
            for kind, array in arrays.items()
        }
    restored = make_weights(jax.tree.map(jnp.asarray, variables), params.architecture)
    return lambda lr: np.asarray(inference.upscale(restored, lr))


def _ours(tensor: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Returns a tensor in the layout of ours: kernels HWIO, a shared slope once."""
    return tensor.transpose(2, 3, 1, 0) if tensor.ndim == 4 else tensor[: like.shape[0]]
