"""Validation during training, and the comparison of before and after."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from srgan_jax import inference, weights
from srgan_jax.evaluation import scoring, tables
from srgan_jax.evaluation.pairs import Pair, degrade_pairs, make_pair, read_pairs
from srgan_jax.runtime import atomic, messages, processes
from srgan_jax.training import batch_plan

HELD_OUT_PX = 1024  # of pictures that are held out, the middle of so many pixels a side is looked at


def read_validation(config: Any, held_out: Sequence[np.ndarray] = ()) -> list[Pair]:
    """The validation pictures: those of the config's folder, or the middles of those held out; none without either."""
    folder, scale = config.validation.folder, config.generator.scale
    if folder:
        found = read_pairs(folder, scale)
    else:
        found = [make_pair(f"held out {index}", _middle(hr), scale) for index, hr in enumerate(held_out)]
    scoring.check_sizes(found, config.validation.metrics)
    return as_validated(config, found)


def as_validated(config: Any, found: list[Pair]) -> list[Pair]:
    """The pairs with the LR that training sees, where the config asks for it."""
    return degrade_pairs(found, batch_plan.degradation(config)) if config.validation.degraded else found


def _middle(picture: np.ndarray) -> np.ndarray:
    corner = [max(0, side - HELD_OUT_PX) // 2 for side in picture.shape[:2]]
    return picture[corner[0] : corner[0] + HELD_OUT_PX, corner[1] : corner[1] + HELD_OUT_PX].copy()


def validate(averaged: weights.Weights, pairs: list[Pair], config: Any) -> dict[str, float]:
    """Mean scores over the validation pictures, in full float32; each process computes its share of them."""
    if not pairs:
        return {}
    share = processes.process_share(pairs)
    results = scoring.upscale_all(functools.partial(inference.upscale_canvas, averaged), share) if share else []
    rows = scoring.score(share, results, config.validation.metrics) if share else []
    return scoring.mean(processes.merge_shares(rows))


def compare(before: weights.Weights, after: weights.Weights, pairs: list[Pair], config: Any, path: Path) -> None:
    """A table of bicubic, the weights that training began with and the result, on the validation pictures."""
    scale, degraded = config.generator.scale, config.validation.degraded
    methods = {"bicubic": lambda pairs: [scoring.bicubic(pair.lr, scale) for pair in pairs]}
    for name, params in (("before", before), ("after", after)):
        upscale = functools.partial(inference.upscale_canvas, params)
        methods[name] = functools.partial(scoring.upscale_all, upscale)
    label = f"{len(pairs)} validation pictures"
    protocol = tables.Protocol(scale, degradation=config.degradation.name if degraded else "")
    rows = tables.compare({label: processes.process_share(pairs)}, methods, config.validation.metrics, protocol)
    from_files = bool(config.validation.folder) and Path(config.validation.folder, f"LRx{scale}").is_dir()
    table = tables.markdown(rows, protocol.lines(**{"ready" if from_files else "made": [label]}))
    messages.report(f"\n{table}\n")
    processes.on_first(functools.partial(atomic.write_text, path, table + "\n"))
