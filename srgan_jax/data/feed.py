"""Samples of either source, addressed by their global index: the position of both sources is the step."""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np

from srgan_jax.runtime.types import PyTree


class Feed:
    """The windows of the updates to come; reports when the updates wait for them."""

    MEASURE_EVERY = 8  # updates of which one is measured: waiting for the device first costs a little
    REPORT_ABOVE = 0.1  # of the time: more waiting is reported

    def __init__(self, windows: Iterator[np.ndarray], draws: int):
        self._windows, self._draws, self._reported = windows, draws, False
        self._reset()

    def _reset(self) -> None:
        self._start_time, self._count, self._waits = time.perf_counter(), 0, []

    def take(self, running: PyTree) -> np.ndarray:
        """The windows `[B, draws, ...]` of the next update; `running` are results of the one before."""
        self._count += 1
        measured = self._count % self.MEASURE_EVERY == 0
        if measured:  # otherwise the device may still be busy, and nothing is lost by waiting
            jax.block_until_ready(running)
        start = time.perf_counter()
        windows = np.stack([next(self._windows) for _ in range(self._draws)], 1)
        if measured:
            self._waits.append(time.perf_counter() - start)
        return windows

    def line(self) -> str | None:
        """Returns what is to be reported about the updates since the last answer, else None."""
        if not self._waits:
            return None
        each = (time.perf_counter() - self._start_time) / self._count
        fraction = sum(self._waits) / len(self._waits) / each
        reported, self._reported = self._reported, fraction > self.REPORT_ABOVE
        self._reset()
        if self._reported and not reported:
            return (
                f"the updates wait for their images {min(fraction, 1):.0%} of the time: decoding is the limit here; "
                "config.data.source=memory decodes once, more cores (config.data.threads) decode faster"
            )
        return "the updates no longer wait for their images" if reported and not self._reported else None


class Samples(NamedTuple):
    """Where the crops of an update come from."""

    store: PyTree  # tiles to live on the devices, or None
    windows: Callable[[np.ndarray, range], Iterator[np.ndarray]] | None  # else: (seed, steps) -> windows of each step

    def feed(self, seed: np.ndarray, step: int, total: int, draws: int) -> Feed | None:
        """Returns the windows of the updates after `step`, `draws` for each; None where crops are cut on the devices.

        Args:
          seed: key data of the order of the samples.
          step: updates so far.
          total: updates of the stage.
          draws: batches of an update.
        """
        if self.windows is None:
            return None
        return Feed(self.windows(seed, range(step * draws, total * draws)), draws)
