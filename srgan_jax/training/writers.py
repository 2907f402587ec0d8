"""`WRITERS`: writers of metrics besides `metrics.jsonl`, by name, for `config.loggers`.

A writer is opened by `(workdir, stage, step) -> Writer`; `step` is the number of updates so far. A new writer is such a
function or class and an entry in `WRITERS`.
"""

import hashlib
import importlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import tensorboardX

from srgan_jax.runtime import extras

MAX_EVENTS = 1 << 20  # scalars and previews that wait to be written


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
        folder = str(workdir / "tensorboard" / stage)
        # A thread writes. After an error has ended it, a full queue would block training.
        self._events = tensorboardX.SummaryWriter(folder, purge_step=purge, max_queue=MAX_EVENTS)

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


class WandB:
    """Logs to Weights & Biases: a run for each stage, which continues when training resumes.

    The environment variables of W&B choose the account and the project; with `WANDB_MODE=offline` it uses no network.
    The number of the update is logged as "update", the axis of all charts. Updates that training repeats after a
    rollback can therefore be logged again; W&B's own step can only rise.
    """

    def __init__(self, workdir: Path, stage: str, step: int):
        extras.require("wandb", "config.loggers=wandb")
        wandb = importlib.import_module("wandb")
        name = f"{workdir.resolve().name} {stage}"
        same = hashlib.sha256(f"{workdir.resolve()} {stage}".encode()).hexdigest()[:16]
        project = os.environ.get("WANDB_PROJECT", "srgan_jax")
        self._image = wandb.Image
        self._run = wandb.init(project=project, name=name, id=same, dir=str(workdir), resume="allow", reinit=True)
        self._run.define_metric("update")
        self._run.define_metric("*", step_metric="update")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Logs numbers."""
        self._run.log({"update": step, **values})

    def image(self, step: int, image: np.ndarray) -> None:
        """Logs a preview."""
        self._run.log({"update": step, "LR | SR | HR": self._image(image)})

    def close(self) -> None:
        """Ends the run."""
        self._run.finish()


WRITERS: dict[str, Callable[[Path, str, int], Writer]] = {"tensorboard": TensorBoard, "wandb": WandB}
