"""Generators as ONNX for browsers: float16 weights that are cast to float32, and no Clip.

With fixed shapes, which the page gives, WebGPU of the pinned ONNX Runtime Web computes every node of the generators
that ship, PRelu among them; a test checks it.
"""

import hashlib
import math
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from srgan_jax.export.graphs import build_graph
from srgan_jax.export.onnx import checked_opset, make_model, make_runner
from srgan_jax.export.onnx_writer import Writer
from srgan_jax.export.verify import HALF_TOLERANCE, description, largest_difference
from srgan_jax.inference import tile_grid
from srgan_jax.models import channels_of
from srgan_jax.runtime.atomic import atomic_file
from srgan_jax.runtime.errors import UserError
from srgan_jax.runtime.extras import require
from srgan_jax.weights import Weights, fold_norms

SMALLEST_HALF = 64  # constants of fewer numbers stay float32: a cast would be larger than what it saves
TILE_BYTES = 256 << 20  # of activations of a tile; a page's memory in WebAssembly is at most 4 GB, on phones less
MAX_TILE_PX = 256
SHOWN = ("purpose", "good_at", "bad_at", "data", "data_licences", "licence", "author", "source")  # of the provenance


class WebModel(NamedTuple):
    """A generator that was written for the web.

    Attributes:
      entry: what the page knows about it, see `write_web_model`.
      difference: largest difference from Python with the same float16 weights, of values in [0, 1].
      rounding: largest difference that rounding the weights to float16 makes.
    """

    entry: dict[str, Any]
    difference: float
    rounding: float


class _HalfStorage(Writer):
    """A writer that stores a constant as float16, with one cast to float32, where that loses nothing."""

    def constant(self, value: Any, dtype: Any = None) -> str:
        name = super().constant(value, dtype)
        array, stored = self.constants[name], f"{name}_half"
        if stored in self.constants:
            del self.constants[name]
        elif array.dtype == np.float32 and array.size >= SMALLEST_HALF:
            half = array.astype(np.float16)
            if (half.astype(np.float32) == array).all():
                self.constants[stored] = half
                del self.constants[name]
                self.cast(stored, np.float32, name)
        return name


def write_web_model(
    params: Weights, path: str | os.PathLike, name: str, provenance: Mapping[str, str] | None = None
) -> WebModel:
    """Writes a generator of RGB as ONNX for the page: input "lr" `[N, 3, H, W]` in [0, 1], output "sr", not clipped.

    The weights are rounded to float16, stored so, and cast to float32 when the model is loaded: WebAssembly has no
    convolution of float16.

    Args:
      params: from `srgan_jax.load`; its architecture has an entry in `export.GRAPHS`.
      path: the file to write.
      name: what the page calls the generator.
      provenance: shown by the page, and added to the metadata.

    Raises:
      UserError: packages are missing, the generator has other channels than 3 or no graph, a weight doesn't fit
        float16, or the file differs from Python's result.
    """
    require("onnx", "a model for the web page")
    if (channels := channels_of(params.architecture)) != 3:
        raise UserError(f"{name} has {channels} channels: expected 3, as the page's images are RGB")
    rounded = _rounded(fold_norms(params), name)
    graph = build_graph(rounded, clip=False)
    writer = _HalfStorage(np.dtype(np.float32), checked_opset(graph), {graph.input: "lr", graph.output: "sr"})
    model = make_model(graph, params.scale, writer)
    unclipped = make_runner(model.SerializeToString(), np.float32)

    def run(lr: np.ndarray) -> np.ndarray:
        return np.clip(unclipped(lr), 0.0, 1.0)

    difference = largest_difference(run, rounded, "ONNX for the web")
    rounding = largest_difference(run, params, "ONNX with float16 weights", tolerance=HALF_TOLERANCE)
    layout = "float32 RGB, [N, 3, H, W], any batch, height and width; SR is not clipped"
    for key, value in description(params, provenance, layout, difference).items():
        model.metadata_props.add(key=key, value=value)
    data = model.SerializeToString()
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)
    return WebModel(_entry(params, name, data, provenance or {}), difference, rounding)


def _rounded(params: Weights, name: str) -> Weights:
    """Returns the weights rounded to float16, as float32."""
    with np.errstate(over="ignore"):
        variables = jax.tree.map(lambda leaf: np.asarray(leaf, np.float16).astype(np.float32), dict(params.variables))
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(variables)):
        raise UserError(f"{name}: a weight is beyond 65504, float16's largest number, or isn't finite")
    return params.replace(variables=variables)


def _entry(params: Weights, name: str, data: bytes, provenance: Mapping[str, str]) -> dict[str, Any]:
    """Returns what the page must know: file, scale, halo, period, tile, parameters, and texts about the generator."""
    halo, exact = tile_grid.halo_px(params.architecture)
    period = tile_grid.period_px(params.architecture)
    side = int(math.sqrt(TILE_BYTES / tile_grid.bytes_per_px(params)))
    side = side // tile_grid.TILE_MULTIPLE_PX * tile_grid.TILE_MULTIPLE_PX
    about = [[key.replace("_", " "), str(provenance[key])] for key in SHOWN if provenance.get(key)]
    return {
        "name": name,
        "file": f"models/{name}.onnx",
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "scale": params.scale,
        "halo": halo,
        "exact": exact,
        "period": period,
        "tile": max(min(side, MAX_TILE_PX), tile_grid.smallest_tile(halo, period)),
        "parameters": params.parameter_count(),
        "purpose": str(provenance.get("purpose", params.architecture["name"])),
        "about": [["architecture", params.architecture["name"]], *about],
    }
