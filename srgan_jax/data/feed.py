"""`Samples`, what a source returns, and `Feed`, its iterator of windows, which measures waiting times."""

import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np

from srgan_jax.runtime.types import PyTree


class Feed:
    """Iterates over the windows of updates, and reports when training waits for data."""

    MEASURE_EVERY = 8  # updates; not 1, because measuring blocks until the device is idle
    REPORT_ABOVE = 0.1  # fraction of the time spent waiting above which it is reported

    def __init__(self, windows: Iterator[np.ndarray], draws: int):
        self._windows, self._draws, self._reported = windows, draws, False
        self._reset()

    def _reset(self) -> None:
        self._start_time, self._count, self._waits = time.perf_counter(), 0, []

    def take(self, running: PyTree) -> np.ndarray:
        """Returns the windows `[B, draws, ...]` of the next update; `running` are results of the previous update."""
        self._count += 1
        measured = self._count % self.MEASURE_EVERY == 0
        if measured:
            jax.block_until_ready(running)  # while the device is busy, waiting for windows costs no time
        start = time.perf_counter()
        windows = np.stack([next(self._windows) for _ in range(self._draws)], 1)
        if measured:
            self._waits.append(time.perf_counter() - start)
        return windows

    def line(self) -> str | None:
        """Returns the line to report about the updates since the last call, None if there is nothing new."""
        if not self._waits:
            return None
        per_update = (time.perf_counter() - self._start_time) / self._count
        fraction = sum(self._waits) / len(self._waits) / per_update
        reported, self._reported = self._reported, fraction > self.REPORT_ABOVE
        self._reset()
        if self._reported and not reported:
            return (
                f"training waits for data {min(fraction, 1):.0%} of the time: decoding limits the throughput; "
                "config.data.source=memory decodes once, more cores (config.data.threads) decode faster"
            )
        return "training no longer waits for data" if reported and not self._reported else None


class Samples(NamedTuple):
    """An opened source: a store of tiles, or a function that returns windows.

    Attributes:
      store: tiles to replicate to the devices, or None.
      windows: `(seed, steps) -> windows` of each step, or None if there is a store.
    """

    store: PyTree
    windows: Callable[[np.ndarray, range], Iterator[np.ndarray]] | None

    def feed(self, seed: np.ndarray, step: int, total: int, draws: int) -> Feed | None:
        """Returns the windows of the updates after `step`; None if the devices cut them from the store.

        Args:
          seed: key data that determine the order of the samples.
          step: updates done so far.
          total: updates of the stage.
          draws: batches per update.
        """
        if self.windows is None:
            return None
        return Feed(self.windows(seed, range(step * draws, total * draws)), draws)
