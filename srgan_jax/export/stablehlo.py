"""Export of generators to StableHLO."""

import json
import os
import zipfile
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from srgan_jax import inference
from srgan_jax.export.verify import description, largest_difference
from srgan_jax.runtime.atomic import atomic_file
from srgan_jax.runtime.errors import MissingFileError, UserError
from srgan_jax.weights import Weights, fold_norms

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def to_stablehlo(params: Weights, path: str | os.PathLike, provenance: Mapping[str, str] | None = None) -> float:
    """Writes a generator and its weights as StableHLO for CPU, CUDA, ROCm and TPU.

    Args:
      params: from `srgan_jax.load`.
      path: a zip of `model.stablehlo` (as `jax.export` serialises it) and `about.json`; `load_stablehlo` reads it.
      provenance: added to `about.json`, with architecture, scale, ranges and the largest difference.

    Returns:
      The largest absolute difference from the original, over two input sizes.

    Raises:
      UserError: the result differs from the original.
    """
    params = fold_norms(params)
    batch, height, width = jax.export.symbolic_shape("b, h, w")
    apply = jax.jit(lambda lr: inference.upscale(params, lr))
    exported = jax.export.export(apply, platforms=PLATFORMS)(
        jax.ShapeDtypeStruct((batch, height, width, 3), jnp.float32)
    )
    data = exported.serialize()
    restored = jax.export.deserialize(data)
    largest = largest_difference(lambda lr: np.asarray(restored.call(lr)), params, "StableHLO")
    layout = "float32 RGB, [N, H, W, 3], any batch, height and width"
    about = json.dumps(description(params, provenance, layout, largest), indent=1)
    with atomic_file(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (("model.stablehlo", bytes(data)), ("about.json", about)):
            # ZipInfo has the date 1980: equal weights give equal files, whatever the clock says.
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return largest


def load_stablehlo(path: str | os.PathLike) -> tuple[Callable[[jax.Array], jax.Array], dict[str, str]]:
    """Reads a file written by `to_stablehlo`.

    Returns:
      A function from `[N, H, W, 3]` to `[N, H * scale, W * scale, 3]`, float32 RGB in [0, 1], and the metadata of
      `about.json`.

    Raises:
      FileNotFoundError: the file does not exist.
      UserError: the file was not written by `to_stablehlo`, or is damaged.
    """
    if not os.path.isfile(path):
        raise MissingFileError(f"no such file: {os.fspath(path)}")
    try:
        with zipfile.ZipFile(path) as archive:
            about = json.loads(archive.read("about.json"))
            return jax.export.deserialize(bytearray(archive.read("model.stablehlo"))).call, about
    except Exception as error:  # damaged files raise many types
        raise UserError(f"{os.fspath(path)} is not a StableHLO file of srgan_jax ({error})") from None
