"""Generators for other runtimes: StableHLO and ONNX, checked against the original before they are handed over."""

import importlib.metadata
import json
import logging
import os
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from srgan_jax import inference
from srgan_jax.errors import MissingFileError, UserError
from srgan_jax.models import layers
from srgan_jax.paths import whole_file
from srgan_jax.weights import Weights

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
CHECKED_SIZES = ((1, 12, 9), (2, 17, 24))  # batch, height, width
TOLERANCE = 1e-4  # of values in [0, 1]


def _check(run: Callable[[np.ndarray], np.ndarray], params: Weights, what: str) -> float:
    """The largest difference to the original; refuses what differs."""
    largest, rng = 0.0, np.random.default_rng(0)
    with jax.default_matmul_precision("highest"):
        for size in CHECKED_SIZES:
            lr = rng.random((*size, 3), np.float32)
            expected, got = np.asarray(inference.upscale(params, lr)), run(lr)
            if got.shape != expected.shape or not np.abs(got - expected).max() <= TOLERANCE:
                raise UserError(f"the exported {what} differs from the original on {size} (shape {got.shape}, expected "
                                f"{expected.shape}, tolerance {TOLERANCE}): nothing was written")  # fmt: skip
            largest = max(largest, float(np.abs(got - expected).max()))
    return largest


def _about(params: Weights, provenance: Mapping[str, str], layout: str) -> dict[str, str]:
    scale = params.scale
    return dict(provenance) | {
        "architecture": json.dumps(dict(params.architecture)),
        "scale": str(scale),
        "input": f"float32 RGB in [0, 1], {layout}, any batch, height and width",
        "output": f"float32 RGB in [0, 1], {layout}, {scale} times the height and width",
        "producer": f"srgan_jax {importlib.metadata.version('srgan-jax')}",
    }


def to_stablehlo(params: Weights, path: str | os.PathLike, provenance: Mapping[str, str] | None = None) -> float:
    """Writes a generator as StableHLO for CPU, CUDA, ROCm and TPU, with its weights inside.

    Args:
      params: from `srgan_jax.load`.
      path: a zip of `model.stablehlo` (as `jax.export` serialises it) and `about.json`; `load_stablehlo` reads it.
      provenance: goes into `about.json`, with architecture, scale and ranges.

    Returns:
      The largest difference to the original, over two sizes.

    Raises:
      UserError: it differs from the original.
    """
    batch, height, width = jax.export.symbolic_shape("b, h, w")
    apply = jax.jit(lambda lr: inference.upscale(params, lr))
    exported = jax.export.export(apply, platforms=PLATFORMS)(
        jax.ShapeDtypeStruct((batch, height, width, 3), jnp.float32)
    )
    data = exported.serialize()
    again = jax.export.deserialize(data)
    largest = _check(lambda lr: np.asarray(again.call(lr)), params, "StableHLO")
    about = json.dumps(_about(params, provenance or {}, "[N, H, W, 3]"), indent=1)
    with whole_file(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.stablehlo", bytes(data))
        archive.writestr("about.json", about)
    return largest


def load_stablehlo(path: str | os.PathLike) -> tuple[Callable[[jax.Array], jax.Array], dict[str, str]]:
    """Reads what `to_stablehlo` wrote.

    Returns:
      A function from `[N, H, W, 3]` float32 RGB in [0, 1] to the result, and what the file says about itself.

    Raises:
      FileNotFoundError: no such file.
      UserError: another kind of file.
    """
    if not os.path.isfile(path):
        raise MissingFileError(f"no such file: {os.fspath(path)}")
    try:
        with zipfile.ZipFile(path) as archive:
            about = json.loads(archive.read("about.json"))
            return jax.export.deserialize(bytearray(archive.read("model.stablehlo"))).call, about
    except Exception as error:  # damaged bytes show in all kinds of exceptions
        raise UserError(f"{os.fspath(path)} is not a StableHLO file of srgan_jax ({error})") from None


def to_onnx(params: Weights, path: str | os.PathLike, provenance: Mapping[str, str] | None = None) -> float:
    """Writes a generator as ONNX: "lr" `[N, 3, H, W]` to "sr" `[N, 3, H * scale, W * scale]`, as other tools want it.

    Args:
      params: from `srgan_jax.load`.
      path: the file.
      provenance: goes into the file's metadata, with architecture, scale and ranges.

    Returns:
      The largest difference to the original in ONNX Runtime, over two sizes.

    Raises:
      UserError: the packages are missing (`pip install "srgan-jax[onnx]"`), the architecture can't be converted, or
        the result differs from the original.
    """
    try:
        import jax2onnx
        import onnxruntime
    except ImportError as error:
        raise UserError(f'ONNX needs more packages: pip install "srgan-jax[onnx]" ({error})') from None
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)  # it warns of each shape that is unknown by design
    module = params.module()

    def apply(lr):
        sr = module.apply(params.variables, jnp.transpose(lr, (0, 2, 3, 1)))
        return jnp.transpose(jnp.clip(sr, 0.0, 1.0), (0, 3, 1, 2))

    names = {"input_names": ["lr"], "output_names": ["sr"]}
    try:
        with layers.keeping_sizes(), jax.default_matmul_precision("highest"):
            model = jax2onnx.to_onnx(apply, [("N", 3, "H", "W")], model_name=params.architecture["name"], **names)
    except Exception as error:  # the converter raises nearly everything on what it doesn't know
        raise UserError(f"{params.architecture['name']} can't be converted to ONNX: {error}") from None
    for key, value in _about(params, provenance or {}, "[N, 3, H, W]").items():
        model.metadata_props.add(key=key, value=value)
    data = model.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])

    def run(lr: np.ndarray) -> np.ndarray:
        return session.run(["sr"], {"lr": np.ascontiguousarray(lr.transpose(0, 3, 1, 2))})[0].transpose(0, 2, 3, 1)

    largest = _check(run, params, "ONNX")
    with whole_file(path) as temporary:
        temporary.write_bytes(data)
    return largest


EXPORTERS: dict[str, tuple[str, Callable[..., Any]]] = {
    "stablehlo": (".stablehlo.zip", to_stablehlo),
    "onnx": (".onnx", to_onnx),
}
