"""`WRITERS`: writers of metrics besides `metrics.jsonl`, by name, for `config.writers`.

A writer is opened by `(workdir, stage, step) -> Writer`; `step` is the number of updates so far. A new writer is such a
function or class and an entry in `WRITERS`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import tensorboardX


class Writer(Protocol):
    """The interface of the objects that entries of `WRITERS` return."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes the finite values of an update."""
        ...

    def image(self, step: int, image: np.ndarray) -> None:
        """Writes a preview `[H, W, 3]` uint8."""
        ...

    def close(self) -> None:
        """Flushes and closes the files."""
        ...


class TensorBoard:
    """Writes TensorBoard events to `WORKDIR/tensorboard/STAGE`. Purges events of an earlier run after `step`."""

    def __init__(self, workdir: Path, stage: str, step: int):
        purge = step + 1 if step else None
        self._events = tensorboardX.SummaryWriter(str(workdir / "tensorboard" / stage), purge_step=purge)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes scalars."""
        for name, value in values.items():
            self._events.add_scalar(name, value, step)

    def image(self, step: int, image: np.ndarray) -> None:
        """Writes a preview."""
        self._events.add_image("LR | SR | HR", image, step, dataformats="HWC")

    def close(self) -> None:
        """Flushes and closes the file."""
        self._events.close()


WRITERS: dict[str, Callable[[Path, str, int], Writer]] = {"tensorboard": TensorBoard}
