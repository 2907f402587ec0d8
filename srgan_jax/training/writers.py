"""Where a run's numbers go besides `metrics.jsonl`, by name: `config.writers`.

A writer is opened by `(workdir, stage, step) -> Writer`, where a run that resumes has made `step` updates. A new one is
such a function or class and an entry in `WRITERS`.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import tensorboardX


class Writer(Protocol):
    """What an entry of `WRITERS` makes."""

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Writes the finite numbers of an update."""
        ...

    def image(self, step: int, image: np.ndarray) -> None:
        """Writes a preview `[H, W, 3]` uint8."""
        ...

    def close(self) -> None:
        """Finishes what is being written."""
        ...


class TensorBoard:
    """Events for TensorBoard, in `WORKDIR/tensorboard/STAGE`; those of later updates of an earlier run are purged."""

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
