"""Images that are looked at during training: LR, SR and HR side by side."""

import functools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from srgan_jax import images, inference, weights
from srgan_jax.data.feed import Samples
from srgan_jax.evaluation import scoring
from srgan_jax.evaluation.pairs import Pair, make_pair
from srgan_jax.ops import color
from srgan_jax.runtime.messages import report
from srgan_jax.training import batch_plan
from srgan_jax.training.validation import as_validated


def write_samples(path: str | os.PathLike | None, rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Writes rows of pictures (LR, SR, HR) as one PNG, where a path is given, and returns it.

    Where it can't be written, a line says so.
    """
    strips = [images.side_by_side(list(row)) for row in rows]
    width = max(strip.shape[1] for strip in strips)
    padded = [np.pad(s, ((0, 4), (0, width - s.shape[1]), (0, 0)), constant_values=255) for s in strips]
    sheet = np.concatenate(padded)[:-4]
    try:
        if path is not None:
            images.write_image(path, sheet)
    except OSError as error:
        report(f"WARNING: {path} can't be written ({error.strerror})")
    return sheet


def sample_pairs(config: Any, validation: list[Pair], samples: Samples) -> list[Pair]:
    """A few crops to look at during training: the middle of validation pictures, or crops of the training data."""
    scale, count = config.generator.scale, config.sample_pictures
    if not count:
        return []
    if not validation:
        return training_samples(config, samples)[:count]
    side = min(192, *(min(pair.hr.shape[:2]) for pair in validation[:count])) // scale * scale
    corners = [((p.hr.shape[0] - side) // 2, (p.hr.shape[1] - side) // 2) for p in validation[:count]]
    crops = [p.hr[y : y + side, x : x + side] for p, (y, x) in zip(validation, corners, strict=False)]
    pairs_of_crops = [make_pair(f"sample {index}", crop, scale) for index, crop in enumerate(crops)]
    return as_validated(config, pairs_of_crops)


def training_samples(config: Any, samples: Samples) -> list[Pair]:
    """The samples of the first update, with the LR images that training sees."""
    seed = jax.random.key_data(jax.random.key(config.seed))
    indices = np.arange(config.data.batch_size, dtype=np.int32)
    windows = None
    if samples.store is None:
        windows = next(samples.windows(np.asarray(seed), range(0, 1)))
        indices = indices[: len(windows)]
    batch = jax.jit(functools.partial(batch_plan.make_batch, config))(seed, 0, indices, samples.store, windows)
    hr, lr = (np.asarray(color.to_uint8(batch[name])) for name in ("hr", "lr"))
    return [Pair(f"sample {index}", hr[index], lr[index]) for index in range(len(hr))]


def draw_samples(averaged: weights.Weights, pairs: list[Pair], path: Path | None = None) -> np.ndarray:
    """Returns a sheet of LR | SR | HR, and writes it where a path is given."""
    results = scoring.upscale_all(functools.partial(inference.upscale_canvas, averaged), pairs)
    rows = [(pair.lr, result, pair.hr) for pair, result in zip(pairs, results, strict=True)]
    return write_samples(path, rows)
