"""Validation during training, and the comparison of before and after."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from srgan_jax import inference, weights
from srgan_jax.config.schema import ValidationConfig
from srgan_jax.data.images import ImageArrays
from srgan_jax.evaluation import scoring, tables
from srgan_jax.evaluation.pairs import Pair, degrade_pairs, make_pair, read_pairs
from srgan_jax.runtime import atomic, messages, processes

HELD_OUT_PX = 1024  # of images that are held out, the middle of so many pixels a side is scored

Degrade = Callable[..., jax.Array]  # (key, hr) -> lr


class Validation(NamedTuple):
    """What is scored, and how.

    Attributes:
      pairs: HR and LR; none: nothing is scored.
      metrics: names in `evaluation.metrics.METRICS`.
      degrade: makes LR of HR as training sees it; None where LR is bicubic, or given.
    """

    pairs: Sequence[Pair]
    metrics: tuple[str, ...]
    degrade: Degrade | None = None

    def with_its_lr(self, pairs: Sequence[Pair]) -> Sequence[Pair]:
        """Returns other pairs with LR made in the same way."""
        return degrade_pairs(pairs, self.degrade) if self.degrade else pairs

    def scores(self, averaged: weights.Weights) -> dict[str, float]:
        """Returns the mean scores of a generator, in full float32; each process computes its part of them."""
        if not self.pairs:
            return {}
        mine = processes.process_slice(self.pairs)
        results = scoring.upscale_all(functools.partial(inference.upscale_canvas, averaged), mine) if mine else []
        rows = scoring.score(mine, results, self.metrics) if mine else []
        return scoring.mean(processes.merge_slices(rows))


def read_validation(
    config: ValidationConfig, scale: int, degrade: Degrade | None, held_out: ImageArrays = ()
) -> Validation:
    """Returns the validation images: those of the config's folder, or the middles of those held out, or none."""
    if config.folder:
        found = read_pairs(config.folder, scale)
    else:
        found = [
            make_pair(f"held out {index}", _middle(hr), scale)
            for index, hr in enumerate(held_out[place] for place in range(len(held_out)))
        ]
    scoring.check_sizes(found, config.metrics)
    validation = Validation(found, config.metrics, degrade if config.degraded else None)
    return validation._replace(pairs=validation.with_its_lr(found))


def _middle(image: np.ndarray) -> np.ndarray:
    corner = [max(0, side - HELD_OUT_PX) // 2 for side in image.shape[:2]]
    return image[corner[0] : corner[0] + HELD_OUT_PX, corner[1] : corner[1] + HELD_OUT_PX].copy()


def compare(
    before: weights.Weights, after: weights.Weights, validation: Validation, protocol: tables.Protocol,
    lr_from_files: bool, path: Path,
) -> None:  # fmt: skip
    """Writes a table of bicubic, the weights that training began with and the result, on the validation images."""
    methods = {"bicubic": lambda pairs: [scoring.bicubic(pair.lr, protocol.scale) for pair in pairs]}
    for name, params in (("before", before), ("after", after)):
        upscale = functools.partial(inference.upscale_canvas, params)
        methods[name] = functools.partial(scoring.upscale_all, upscale)
    label = f"{len(validation.pairs)} validation images"
    rows = tables.compare({label: processes.process_slice(validation.pairs)}, methods, validation.metrics, protocol)
    table = tables.markdown(rows, protocol.lines(**{"ready" if lr_from_files else "made": [label]}))
    messages.report(f"\n{table}\n")
    processes.on_first_process(functools.partial(atomic.write_text, path, table + "\n"))
