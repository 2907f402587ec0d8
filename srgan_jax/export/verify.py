"""Comparison of exported generators with the original, and the metadata of exported files."""

import importlib.metadata
import json
from collections.abc import Callable, Mapping

import jax
import numpy as np

from srgan_jax import inference
from srgan_jax.runtime.errors import UserError
from srgan_jax.weights import Weights

CHECKED_SIZES = ((1, 12, 9), (2, 17, 24))  # batch, height, width
TOLERANCE = 1e-4  # of values in [0, 1]


def largest_difference(run: Callable[[np.ndarray], np.ndarray], params: Weights, what: str) -> float:
    """Returns the largest absolute difference of an exported generator from the original, on random inputs.

    Args:
      run: the exported generator, `[N, H, W, 3]` to `[N, H * scale, W * scale, 3]`.
      params: the original.
      what: the format, for the message.

    Raises:
      UserError: a shape differs, or a value by more than `TOLERANCE`.
    """
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


def description(params: Weights, provenance: Mapping[str, str], layout: str) -> dict[str, str]:
    """Returns the metadata of an exported file: provenance, architecture, scale and ranges."""
    scale = params.scale
    return dict(provenance) | {
        "architecture": json.dumps(dict(params.architecture)),
        "scale": str(scale),
        "input": f"float32 RGB in [0, 1], {layout}, any batch, height and width",
        "output": f"float32 RGB in [0, 1], {layout}, {scale} times the height and width",
        "producer": f"srgan_jax {importlib.metadata.version('srgan-jax')}",
    }
