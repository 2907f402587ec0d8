"""`Publisher`, which writes the averaged generator of a stage for inference: at validations, and at its end."""

import itertools
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax

from srgan_jax import models, weights
from srgan_jax.config.schema import DataConfig
from srgan_jax.evaluation import metrics
from srgan_jax.runtime import atomic, messages, processes
from srgan_jax.training.initial import COPY
from srgan_jax.training.stage import Stage

RETRY_SECONDS, REPORTED_ATTEMPTS = 5.0, 120  # a file that can't be written is reported every ten minutes
GENERATOR = "generator.safetensors"  # the newest averaged generator of the run


def stage_file(folder: Path, stage: str) -> Path:
    """Returns the path of the newest averaged generator of a stage."""
    return folder / f"{stage}.safetensors"


def best_file(folder: Path, stage: str) -> Path:
    """Returns the path of the averaged generator of a stage with the best validation score so far."""
    return folder / f"{stage}_best.safetensors"


def _partners(stages: Sequence[Stage], initial: weights.Weights | None) -> dict[str, str]:
    """Returns the file of the PSNR partner of each stage with a discriminator, by the name of the stage.

    It is the generator of the last stage without a discriminator before it, or else that of `init_from`.
    """
    partner = None
    if initial and initial.architecture == models.architecture_of(models.GENERATORS, stages[0].generator):
        partner = COPY
    partners = {}
    for stage in stages:
        if stage.game.discriminator is None:
            partner = stage_file(Path(), stage.name).name
        elif partner:
            partners[stage.name] = partner
    return partners


class Publisher(NamedTuple):
    """Writes weights to the folder of a run. Only process 0 writes.

    Attributes:
      folder: of the run.
      dataset: name of the training data, for the header.
      best: the metric by which the best generator is chosen.
      partners: file of the PSNR partner by stage, with which `upscale --strength` blends.
    """

    folder: Path
    dataset: str
    best: str
    partners: Mapping[str, str]

    def restart(self, stage: str) -> None:
        """Deletes the best generator of a stage that starts again at update 1."""
        if jax.process_index() == 0:
            best_file(self.folder, stage).unlink(missing_ok=True)

    def validated(self, stage: str, averaged: weights.Weights, step: int, scores: Mapping[str, float]) -> None:
        """Writes the generator after a validation; if it is the best so far, also as the best one.

        If the files can't be written, as on a full disk, this is only reported.
        """
        if jax.process_index():
            return
        try:
            self._write(stage, averaged, step, scores)
        except OSError as error:
            messages.report(f"WARNING: {stage_file(self.folder, stage)} can't be written ({error.strerror})")

    def finished(
        self,
        stage: str,
        averaged: weights.Weights,
        step: int,
        scores: Mapping[str, float],
        stopped: Callable[[], object] = lambda: False,
    ) -> None:
        """Writes the generator of a stage that made all its updates. All processes wait until the file exists.

        If it can't be written, as on a full disk, it is tried again until `stopped()`, because otherwise the updates
        since the last checkpoint would be lost.
        """
        if jax.process_index() == 0:
            self._write_when_possible(lambda: self._write(stage, averaged, step, scores), stage, stopped)
        processes.gather(None)

    def _write_when_possible(self, write: Callable[[], None], stage: str, stopped: Callable[[], object]) -> None:
        for attempt in itertools.count():
            try:
                return write()
            except OSError as error:
                if attempt % REPORTED_ATTEMPTS == 0:
                    messages.report(
                        f"WARNING: {stage_file(self.folder, stage)} can't be written ({error.strerror}); make space: "
                        f"it is tried again every {RETRY_SECONDS:g} s; Ctrl-C ends the run without it"
                    )
                end = time.monotonic() + RETRY_SECONDS
                while time.monotonic() < end:
                    if stopped():
                        raise
                    time.sleep(min(0.1, RETRY_SECONDS))

    def copy_last(self, stage: str) -> None:
        """Copies the generator of the last stage to `generator.safetensors`."""
        if jax.process_index() == 0:
            with atomic.atomic_file(self.folder / GENERATOR) as temporary:
                shutil.copyfile(stage_file(self.folder, stage), temporary)

    def _write(self, stage: str, averaged: weights.Weights, step: int, scores: Mapping[str, float]) -> None:
        values = {f"val_{key}": f"{value:.4f}" for key, value in scores.items()}
        provenance = {"stage": stage, "steps": str(step), "dataset": self.dataset} | values
        if stage in self.partners:
            provenance["partner"] = self.partners[stage]
        if self._is_best(stage, values):
            weights.save(best_file(self.folder, stage), averaged, provenance | {"best": self.best})
        weights.save(stage_file(self.folder, stage), averaged, provenance)
        self.copy_last(stage)

    def _is_best(self, stage: str, values: Mapping[str, str]) -> bool:
        """Returns whether the score is better than that in the header of the best generator so far."""
        key, file = f"val_{self.best}", best_file(self.folder, stage)
        if key not in values:
            return False
        before = weights.read_header(file).get(key) if file.exists() else None
        if before is None:
            return True
        now, best = float(values[key]), float(before)
        return now < best if metrics.find(self.best).lower_is_better else now > best


def open_publisher(
    folder: Path, data: DataConfig, best: str, stages: Sequence[Stage], initial: weights.Weights | None
) -> Publisher:
    """Returns the publisher of a run that begins with the generator `initial`, or with a new one."""
    return Publisher(folder, data.folder or data.dataset, best, _partners(stages, initial))
