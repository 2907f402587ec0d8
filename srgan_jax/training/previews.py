"""Previews: LR, SR and HR of a few images side by side, drawn during training."""

import functools
import os
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from srgan_jax import images, inference, weights
from srgan_jax.data.batch_plan import BatchPlan, draw_batch
from srgan_jax.data.feed import Samples
from srgan_jax.evaluation import scoring
from srgan_jax.evaluation.pairs import Pair
from srgan_jax.ops import color
from srgan_jax.runtime.messages import report
from srgan_jax.training.validation import Validation

PREVIEW_PX = 192  # maximum side of a crop of a validation image


def make_previews(count: int, validation: Validation, samples: Samples, plan: BatchPlan, seed: int) -> Sequence[Pair]:
    """Returns centre crops of the first `count` validation images; without any, crops of the training data."""
    if not count:
        return []
    if not validation.pairs:
        return training_samples(samples, plan, seed)[:count]
    pairs = validation.pairs[:count]
    side = min(PREVIEW_PX // plan.scale, *(min(pair.lr.shape[:2]) for pair in pairs))
    return [_centre_crop(pair, side, plan.scale) for pair in pairs]


def _centre_crop(pair: Pair, side: int, scale: int) -> Pair:
    """Returns the centre of a validation image, `side` LR pixels square, with the LR image that is scored."""
    top, left = ((length - side) // 2 for length in pair.lr.shape[:2])
    hr = pair.hr[scale * top : scale * (top + side), scale * left : scale * (left + side)]
    return pair._replace(lr=pair.lr[top : top + side, left : left + side], hr=hr)


def training_samples(samples: Samples, plan: BatchPlan, seed: int) -> list[Pair]:
    """Returns the samples of the first update as pairs, with the LR images of training."""
    key = jax.random.key_data(jax.random.key(seed))
    indices, windows = np.arange(plan.batch_size, dtype=np.int32), None
    if samples.windows is not None:
        windows = next(samples.windows(np.asarray(key), range(0, 1)))
        indices = indices[: len(windows)]
    batch = jax.jit(functools.partial(draw_batch, plan))(key, 0, indices, samples.store, windows)
    hr, lr = (np.asarray(color.to_uint8(batch[name])) for name in ("hr", "lr"))
    return [Pair(f"sample {index}", hr[index], lr[index]) for index in range(len(hr))]


def draw_previews(averaged: weights.Weights, pairs: Sequence[Pair], path: Path | None = None) -> np.ndarray:
    """Returns a sheet with a row LR | SR | HR for each pair. Writes it if a path is given."""
    results = scoring.upscale_all(functools.partial(inference.upscale_canvas, averaged), pairs)
    rows = [(pair.lr, result, pair.hr) for pair, result in zip(pairs, results, strict=True)]
    return write_sheet(path, [[images.visible(image) for image in row] for row in rows])


def write_sheet(path: str | os.PathLike | None, rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Returns rows of images (LR, SR, HR) as one image. Writes it as PNG if a path is given.

    If the file can't be written, a warning is reported.
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
