"""`find_weights`: the weights of a run, or of one of its checkpoints, as a file for inference."""

import atexit
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from srgan_jax import models, weights
from srgan_jax.config.recorded import read_config
from srgan_jax.config.schema import RunConfig
from srgan_jax.evaluation import metrics
from srgan_jax.runtime import storage
from srgan_jax.runtime.errors import MissingFileError, UserError
from srgan_jax.runtime.json_files import read_lines
from srgan_jax.runtime.types import PyTree
from srgan_jax.training.checkpoint_reader import read_averaged
from srgan_jax.training.network_fields import find_generator, select_keys
from srgan_jax.training.publishing import GENERATOR, best_file

CONFIG, CHECKPOINTS = "config.json", "checkpoints"
NOT_NEEDED = ("dataset", "profile", "samples", "tensorboard")


def find_weights(path: str, step: int | None = None, best: bool = False) -> str:
    """Returns the weights file for `path`; `path` itself if it already names weights.

    Args:
      path: the folder of a run, finished or not; the folder of a checkpoint, `RUN/checkpoints/STAGE/STEP`; or any name
        that `weights.load` takes.
      step: the checkpoint after this update, in the last stage that has one.
      best: the generator with the best validation score, in the last stage that was validated.

    Raises:
      UserError: `step` or `best` without a run's folder, or the run has no such weights; the message lists those that
        it has.
    """
    if storage.scheme(path):
        run, _, checkpoint = path.partition(f"/{CHECKPOINTS}/")
        path = os.path.join(storage.local(run, NOT_NEEDED), *([CHECKPOINTS, checkpoint] if checkpoint else []))
    folder = Path(path.rstrip("/"))
    if folder.name.isdigit() and folder.parent.parent.name == CHECKPOINTS and step is None and not best:
        return _extract(folder)
    if not (folder / CONFIG).is_file():
        if step is not None or best:
            raise UserError(f"{path}: --step and --best need the folder of a run, with {CONFIG} in it")
        return path
    stages = read_config(folder)["stage_names"][::-1]  # the last first
    if best:
        return _find_best(folder, stages)
    if step is None and (folder / GENERATOR).is_file():
        return path
    found = [checkpoint for stage in stages for checkpoint in _checkpoints(folder, stage)]
    chosen = [checkpoint for checkpoint in found if step is None or checkpoint.name == str(step)]
    if not chosen:
        what = f"no checkpoint after update {step}" if step is not None else "no weights yet"
        raise MissingFileError(f"{folder} has {what}; its checkpoints: {_listed(folder, stages)}")
    return _extract(chosen[0])


def _checkpoints(folder: Path, stage: str) -> list[Path]:
    """Returns the folders of a stage's checkpoints, the newest first."""
    found = [path for path in (folder / CHECKPOINTS / stage).glob("*") if path.name.isdigit()]
    return sorted(found, key=lambda path: int(path.name), reverse=True)


def _listed(folder: Path, stages: Sequence[str]) -> str:
    """Returns the checkpoints of a run, for messages: "gan 200, gan 100"."""
    found = [checkpoint for stage in stages for checkpoint in _checkpoints(folder, stage)]
    return ", ".join(f"{checkpoint.parent.name} {checkpoint.name}" for checkpoint in found) or "none yet"


def _find_best(folder: Path, stages: Sequence[str]) -> str:
    for stage in stages:
        if (file := best_file(folder, stage)).is_file():
            return str(file)
        if checkpoint := _best_checkpoint(folder, stage):
            return _extract(checkpoint)
    if any(_validated(folder, stage) for stage in stages):
        raise MissingFileError(
            f"{folder} was trained by a version that kept no file of the best weights, and it has no checkpoint of a "
            f"validated update; choose a checkpoint with --step; its checkpoints: {_listed(folder, stages)}"
        )
    raise MissingFileError(
        f"{folder} has no validation scores, so none of its weights is the best; set config.validation.folder or "
        "config.validation.hold_out, or choose an update with --step"
    )


def _validated(folder: Path, stage: str) -> dict[str, float]:
    """Returns the logged scores of a stage by the metric that chooses the best weights, by update."""
    key, file = f"val_{_best_metric(folder)}", folder / "metrics.jsonl"
    rows = [row for row in read_lines(file) if row.get("stage") == stage] if file.is_file() else []
    return {str(row.get("step")): row[key] for row in rows if isinstance(row.get(key), int | float)}


def _best_metric(folder: Path) -> str:
    section = read_config(folder).get("validation", {})
    return section.get("best", RunConfig().validation.best)


def _best_checkpoint(folder: Path, stage: str) -> Path | None:
    """Returns the checkpoint with the best logged score: earlier versions kept it, but wrote no file of its weights."""
    scores = _validated(folder, stage)
    found = [checkpoint for checkpoint in _checkpoints(folder, stage) if checkpoint.name in scores]
    entry = metrics.METRICS.get(_best_metric(folder))
    choose = min if isinstance(entry, metrics.Metric) and entry.lower_is_better else max
    return choose(found, key=lambda checkpoint: scores[checkpoint.name]) if found else None


def _extract(checkpoint: Path) -> str:
    """Writes the averaged generator of a checkpoint to a temporary file, which is deleted when the process ends."""
    checkpoint = checkpoint.absolute()
    run, stage = checkpoint.parents[2], checkpoint.parent.name
    if not (run / CONFIG).is_file():
        raise MissingFileError(f"{checkpoint}: expected {CONFIG} of its run in {run}, which describes the generator")
    section: PyTree = read_config(run)["generator"]
    fields = select_keys(find_generator(section["name"]), section, RunConfig().generator)
    architecture = models.architecture_of(models.GENERATORS, models.build(models.GENERATORS, fields))
    averaged = weights.make_weights(read_averaged(checkpoint), architecture)
    temporary = tempfile.TemporaryDirectory()
    atexit.register(temporary.cleanup)
    file = Path(temporary.name, f"{run.name}_{stage}_{checkpoint.name}.safetensors")
    weights.save(file, averaged, {"stage": stage, "steps": checkpoint.name, "run": str(run)})
    return str(file)
