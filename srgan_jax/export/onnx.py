"""Export of generators to ONNX."""

import logging
import os
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from srgan_jax.export.verify import description, largest_difference
from srgan_jax.models import layers
from srgan_jax.runtime.atomic import atomic_file
from srgan_jax.runtime.errors import UserError
from srgan_jax.weights import Weights


def to_onnx(params: Weights, path: str | os.PathLike, provenance: Mapping[str, str] | None = None) -> float:
    """Writes a generator as ONNX: input "lr" `[N, 3, H, W]`, output "sr" `[N, 3, H * scale, W * scale]`, in [0, 1].

    Args:
      params: from `srgan_jax.load`.
      path: the file to write.
      provenance: added to the metadata, with architecture, scale and ranges.

    Returns:
      The largest absolute difference between ONNX Runtime and the original, over two input sizes.

    Raises:
      UserError: packages are missing (`pip install "srgan-jax[onnx]"`), the architecture can't be converted, or
        the result differs from the original.
    """
    try:
        import jax2onnx
        import onnxruntime
    except ImportError as error:
        raise UserError(f'exporting to ONNX needs more packages: pip install "srgan-jax[onnx]" ({error})') from None
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)  # it warns of every symbolic shape
    module = params.module()

    def apply(lr):
        sr = module.apply(params.variables, jnp.transpose(lr, (0, 2, 3, 1)))
        return jnp.transpose(jnp.clip(sr, 0.0, 1.0), (0, 3, 1, 2))

    try:
        with layers.shape_preserving_interpolation(), jax.default_matmul_precision("highest"):
            model = jax2onnx.to_onnx(
                apply,
                [("N", 3, "H", "W")],
                model_name=params.architecture["name"],
                input_names=["lr"],
                output_names=["sr"],
            )
    except Exception as error:  # the converter raises many types
        raise UserError(f"{params.architecture['name']} can't be converted to ONNX: {error}") from None
    for key, value in description(params, provenance or {}, "[N, 3, H, W]").items():
        model.metadata_props.add(key=key, value=value)
    data = model.SerializeToString()
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])

    def run(lr: np.ndarray) -> np.ndarray:
        (sr,) = session.run(["sr"], {"lr": np.ascontiguousarray(lr.transpose(0, 3, 1, 2))})
        return np.asarray(sr).transpose(0, 2, 3, 1)

    largest = largest_difference(run, params, "ONNX")
    with atomic_file(path) as temporary:
        temporary.write_bytes(data)
    return largest
