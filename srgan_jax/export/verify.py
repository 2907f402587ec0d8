"""Comparison of exported generators with the original, and the metadata of exported files."""

import importlib.metadata
import json
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np

from srgan_jax import inference
from srgan_jax.ops import resize
from srgan_jax.runtime.errors import UserError
from srgan_jax.weights import Weights

CHECKED_SIZES = ((1, 12, 9), (2, 17, 24))  # batch, height, width
TOLERANCE = 1e-4  # of values in [0, 1]
HALF_TOLERANCE = 0.02  # where weights, or weights and computation, are float16


def largest_difference(
    run: Callable[[np.ndarray], np.ndarray],
    params: Weights,
    what: str,
    sizes: Sequence[tuple[int, int, int]] = CHECKED_SIZES,
    tolerance: float = TOLERANCE,
) -> float:
    """Returns the largest absolute difference of an exported generator from the original, on random smooth images.

    Args:
      run: the exported generator, `[N, H, W, 3]` to `[N, H * scale, W * scale, 3]`.
      params: the original.
      what: the format, for the message.
      sizes: batch, height and width of each input.
      tolerance: the largest difference that is accepted.

    Raises:
      UserError: a shape differs, or a value by more than `tolerance`.
    """
    largest, rng = 0.0, np.random.default_rng(0)
    with jax.default_matmul_precision("highest"):
        for size in sizes:
            lr = _random_image(rng, *size)
            expected, got = np.asarray(inference.upscale(params, lr)), run(lr)
            difference = float(np.abs(got - expected).max()) if got.shape == expected.shape else np.inf
            if not difference <= tolerance:
                raise UserError(
                    f"the exported {what} differs from the original by {difference:.1e} on an input {size} (shape "
                    f"{got.shape}, expected {expected.shape}; accepted: {tolerance:.0e}): nothing was written"
                )
            largest = max(largest, difference)
    return largest


def _random_image(rng: np.random.Generator, count: int, height: int, width: int) -> np.ndarray:
    """Returns images `[N, H, W, 3]` with contrasts as in photographs.

    On white noise, which no image is, SPAN's output is up to 70, and float32 roundings alone differ by 0.001.
    """
    coarse = rng.random((count, height // 8 + 2, width // 8 + 2, 3))
    smooth = np.asarray(resize.resize(coarse, (height, width), convention="C", kernel="bilinear"))
    return np.clip(smooth + 0.02 * rng.standard_normal(smooth.shape), 0.0, 1.0).astype(np.float32)


def description(params: Weights, provenance: Mapping[str, str] | None, layout: str, largest: float) -> dict[str, str]:
    """Returns the metadata of an exported file: provenance, architecture, scale, ranges and largest difference."""
    return dict(provenance or {}) | {
        "architecture": json.dumps(dict(params.architecture)),
        "scale": str(params.scale),
        "input": f"LR in [0, 1], {layout}",
        "output": f"SR in [0, 1], {params.scale} times the height and width, {layout}",
        "largest_difference": f"{largest:.1e}",
        "producer": f"srgan_jax {importlib.metadata.version('srgan-jax')}",
    }
