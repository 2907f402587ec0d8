"""Validation during training, and the comparison of a fine-tuned generator with its initial weights."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from srgan_jax import weights
from srgan_jax.config.schema import ValidationConfig
from srgan_jax.data.batch_plan import BatchPlan
from srgan_jax.data.datasets import unpack
from srgan_jax.data.images import ImageArrays
from srgan_jax.evaluation import scoring, tables
from srgan_jax.evaluation.pairs import Pair, degrade_pairs, make_pair, read_pairs
from srgan_jax.images import RGB, Bands
from srgan_jax.runtime import atomic, messages, processes

HELD_OUT_PX = 1024  # held-out images larger than this are cropped to their centre

Degrade = Callable[..., jax.Array]  # (key, hr) -> lr


class Validation(NamedTuple):
    """The validation images and metrics.

    Attributes:
      pairs: pairs of HR and LR; empty for no validation.
      metrics: names in `evaluation.metrics.METRICS`.
      degrade: the degradation of training, which makes LR from HR; None if LR is bicubic or given as files.
    """

    pairs: Sequence[Pair]
    metrics: tuple[str, ...]
    degrade: Degrade | None = None

    def replace_lr(self, pairs: Sequence[Pair]) -> Sequence[Pair]:
        """Returns `pairs` with LR made by `degrade`, or unchanged if that is None."""
        return degrade_pairs(pairs, self.degrade) if self.degrade else pairs

    def scores(self, averaged: weights.Weights) -> dict[str, float]:
        """Returns the mean of each metric, with the generator in float32. Each process scores a part of the pairs."""
        if not self.pairs:
            return {}
        pairs = processes.process_slice(self.pairs)
        results = scoring.upscale_pairs(averaged, pairs) if pairs else []
        rows = scoring.score(pairs, results, self.metrics) if pairs else []
        return scoring.mean(processes.merge_slices(rows))

    def bicubic(self, scale: int) -> dict[str, float]:
        """Returns the scores of bicubic interpolation, for comparison; {} without validation images."""
        pairs = processes.process_slice(self.pairs)
        results = [scoring.bicubic(pair.lr, scale) for pair in pairs]
        rows = processes.merge_slices(scoring.score(pairs, results, self.metrics) if pairs else [])
        return scoring.mean(rows) if rows else {}


def read_validation(
    config: ValidationConfig, plan: BatchPlan, degrade: Degrade | None, held_out: ImageArrays = (), bands: Bands = RGB
) -> Validation:
    """Returns the validation images: those of `config.folder`, else centre crops of `held_out`, which may be empty."""
    if config.folder:
        found = read_pairs(config.folder, plan.scale, bands=bands)
    else:
        found = [_held_out_pair(f"held out {index}", held_out[index], plan) for index in range(len(held_out))]
    scoring.check_sizes(found, config.metrics)
    validation = Validation(found, config.metrics, degrade if config.degraded else None)
    return validation._replace(pairs=validation.replace_lr(found))


def _held_out_pair(name: str, image: np.ndarray, plan: BatchPlan) -> Pair:
    """Returns the centre of a held-out image as a pair; a packed pair has its own LR."""
    if not plan.is_paired:
        return make_pair(name, _centre_crop(image, HELD_OUT_PX), plan.scale)
    hr, lr = unpack(_centre_crop(image, HELD_OUT_PX // plan.scale), plan.scale)
    return Pair(name, lr, hr)


def _centre_crop(image: np.ndarray, side_px: int) -> np.ndarray:
    corner = [max(0, side - side_px) // 2 for side in image.shape[:2]]
    return image[corner[0] : corner[0] + side_px, corner[1] : corner[1] + side_px].copy()


def compare(
    before: weights.Weights, after: weights.Weights, validation: Validation, protocol: tables.Protocol,
    lr_folder: str, path: Path,
) -> None:  # fmt: skip
    """Prints a table that compares bicubic, the initial weights and the trained weights on the validation images.

    The table is also written to `path` as Markdown. `lr_folder` is the folder of their LR images; "" if LR was made
    from HR.
    """
    methods = {"bicubic": lambda pairs: [scoring.bicubic(pair.lr, protocol.scale) for pair in pairs]}
    for name, params in (("before", before), ("after", after)):
        methods[name] = functools.partial(scoring.upscale_pairs, params)
    label = f"{len(validation.pairs)} validation images"
    messages.report(f"scoring bicubic, and the weights before and after training, on {label}")
    rows = tables.compare({label: processes.process_slice(validation.pairs)}, methods, validation.metrics, protocol)
    notes = protocol.lines(made=[label], ready={label: lr_folder} if lr_folder else {})
    messages.report(f"\n{tables.text(rows, notes)}\n")
    processes.on_first_process(functools.partial(atomic.write_text, path, tables.markdown(rows, notes) + "\n"))
