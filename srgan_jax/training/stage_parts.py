"""`Shared`, the inputs of all stages of a run, and the functions that the training loop calls for a stage."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from srgan_jax import weights
from srgan_jax.config.schema import DataConfig, GuardConfig, Options, ValidationConfig
from srgan_jax.data import sampling
from srgan_jax.data.batch_plan import BatchPlan
from srgan_jax.data.feed import Feed, Samples
from srgan_jax.data.images import Images
from srgan_jax.evaluation import metrics
from srgan_jax.evaluation.pairs import Pair
from srgan_jax.runtime import devices, messages, storage
from srgan_jax.runtime.errors import UserError
from srgan_jax.runtime.types import PyTree
from srgan_jax.training import held_out, logs, mapping, nonfinite, previews, run_report, samples, setup, start, workdir
from srgan_jax.training.bands import bands_of
from srgan_jax.training.checkpoints import Checkpoints
from srgan_jax.training.interval import LATEST
from srgan_jax.training.monitor import Monitor
from srgan_jax.training.provenance import RunRecord
from srgan_jax.training.publishing import Publisher, stage_file
from srgan_jax.training.stage import Stage
from srgan_jax.training.state import TrainState
from srgan_jax.training.stop import StopRequest
from srgan_jax.training.validation import Validation, read_validation


class Shared(NamedTuple):
    """The inputs that all stages of a run share."""

    folder: Path
    stage_names: tuple[str, ...]
    mesh: Mesh
    mapping: str
    samples: Samples
    validation: Validation
    bicubic: Callable[[], dict[str, float]]
    previews: Sequence[Pair]
    stop: StopRequest
    guard: GuardConfig
    best: str
    keep_checkpoints: int
    publisher: Publisher
    loggers: tuple[str, ...]
    profile: bool
    record: RunRecord


def open_data(
    data: DataConfig, validation: ValidationConfig, degradation: Options, plan: BatchPlan, folder: Path
) -> tuple[Validation, Images]:
    """Returns the validation images and the training images; the latter are still encoded."""
    images, held_out = samples.open_images(data, validation, plan, folder)
    degrade, _ = setup.find_degradation(degradation, plan.scale, data)
    degrade = functools.partial(degrade, scale=plan.scale)
    return read_validation(validation, plan, degrade, held_out, bands_of(data)), images


def open_saver(shared: Shared, name: str) -> Checkpoints:
    """Opens the checkpoints of a stage."""
    return Checkpoints(
        storage.home(shared.folder) / "checkpoints" / name,
        keep=shared.keep_checkpoints,
        best_metric=shared.best if shared.validation.pairs else "",
        lower_is_better=metrics.find(shared.best).lower_is_better,
        report=functools.partial(messages.report, everywhere=True),
    )


def open_log(stage: Stage, first: int, shared: Shared) -> logs.StageLog:
    """Opens the log of a stage that continues after update `first`. Deletes later lines of earlier runs."""
    if first % stage.intervals.per_call:
        count = stage.intervals.per_call
        raise UserError(
            f"config.steps_per_call={count}: expected a divisor of {first}, the "
            f"update after which {stage.name} stopped; write 1"
        )
    dropped = logs.truncate_metrics(shared.folder / "metrics.jsonl", shared.stage_names, stage.name, first)
    if first:
        messages.report(f"{stage.name}: resumed after update {first}")
    else:
        shared.publisher.restart(stage.name)
    if dropped and not first:
        messages.report(f"{stage.name}: there is no checkpoint yet; the stage starts again at update 1")
    total, batch_size = stage.intervals.total, stage.plan.batch_size
    return logs.StageLog(shared.folder, stage.name, first, total, batch_size, shared.loggers)


def finished_generator(stage: Stage, shared: Shared) -> weights.Weights | None:
    """Returns the averaged generator of a stage that an earlier run finished, else None."""
    published = stage_file(shared.folder, stage.name)
    if workdir.finished_steps(published) < stage.intervals.total:
        return None
    messages.report(f"{stage.name}: finished, {published}")
    return weights.load(published, fold=False)


def map_stage(stage: Stage, guard: GuardConfig, mesh: Mesh, mapping_name: str) -> Callable:
    """Returns the update of a stage as training calls it: `(state, frozen, sharded) -> (state, metrics)`, mapped."""
    update = nonfinite.skip_nonfinite(
        stage.update, max_skips=guard.max_skips, d_wins_steps=guard.d_wins_steps, by_norms=stage.norms_suffice
    )
    update = mapping.repeat_update(update, stage.intervals.per_call, LATEST, scan=not devices.is_cpu(mesh))
    return mapping.map_update(update, mesh, mapping_name)


def compile_update(stage: Stage, shared: Shared):
    """Returns the update mapped over all devices, and its arguments besides the state."""
    update = map_stage(stage, shared.guard, shared.mesh, shared.mapping)
    variables = stage.extractor.variables if stage.extractor else None
    frozen = {"store": shared.samples.store, "extractor": devices.replicate(variables, shared.mesh)}
    return update, frozen, shard_inputs(stage, shared)


def shard_inputs(stage: Stage, shared: Shared, **windows: np.ndarray) -> PyTree:
    """Returns the positions of this process's samples in the global batch, and its windows if the host cuts them."""
    local = devices.local_slice(stage.plan.batch_size)
    indices = np.arange(local.start, local.stop, dtype=np.int32)
    return devices.shard({"indices": indices, **windows}, shared.mesh, shared.mapping)


@contextlib.contextmanager
def save_if_validation_fails(
    stage: Stage, state: TrainState, step: int, shared: Shared, saver: Checkpoints, monitor: Monitor
) -> Iterator[None]:
    """Saves the checkpoint that is due, without scores, if the validation inside raises an error."""
    try:
        yield
    except Exception:
        if stage.intervals.saves(step):
            save_state(state, step, shared, saver, monitor, {})
        raise


def save_state(
    state: TrainState, step: int, shared: Shared, saver: Checkpoints, monitor: Monitor, scores: dict[str, float]
) -> None:
    """Begins to write a checkpoint. If the run is in a bucket, first uploads its other files, such as the log."""
    workdir.upload(shared.folder)
    saver.save(step, devices.as_global(state, shared.mesh), scores, monitor.sums())


def open_feed(stage: Stage, state: TrainState, data: Samples) -> Feed | None:
    """Returns the windows of the following updates; None if crops are cut on the devices."""
    seed = sampling.rollback_seed(*jax.device_get((state.seed, state.health.rollbacks)))
    return data.feed(np.asarray(seed), int(state.step), stage.intervals.total, stage.draws)


def rewind(
    log: logs.StageLog,
    monitor: Monitor,
    stage: Stage,
    state: TrainState,
    sums: Mapping[str, tuple[float, float]],
    shared: Shared,
) -> tuple[int, Feed | None]:
    """Continues after the update of `state`, to which training was rolled back. Returns the update and its feed."""
    step = int(state.step)
    logs.truncate_metrics(shared.folder / "metrics.jsonl", shared.stage_names, stage.name, step)
    log.rewind(step)
    monitor.restart(state, sums)
    return step, open_feed(stage, state, shared.samples)


def validate_and_preview(
    stage: Stage, state: TrainState, step: int, shared: Shared, log: logs.StageLog, training: Mapping[str, float]
) -> dict[str, float]:
    """Validates and draws previews at the updates where they are due. Returns the scores, or {}.

    `training` holds the latest logged means over training images; the discriminator's accuracies are compared.
    """
    intervals = stage.intervals
    if not intervals.validates(step) and not intervals.shows(step):
        return {}
    averaged = start.averaged_generator(state, stage.generator)
    scores = shared.validation.scores(averaged) if intervals.validates(step) else {}
    if scores:
        bicubic = shared.bicubic()
        rows = {f"val_{key}": value for key, value in scores.items()}
        rows |= {f"bicubic_{key}": value for key, value in bicubic.items()}
        unseen = held_out.accuracies(stage, state, shared.validation.pairs)
        log.write(step, rows | unseen)
        log.warn(step, held_out.memorisation_warning(training, unseen))
        compared = f"validation {logs.format_scores(scores)}; bicubic {logs.format_scores(bicubic)}"
        messages.report(f"{stage.name}: update {step}: {compared}")
    trained = int(state.health.in_a_row) < step
    if intervals.validates(step) and trained and step < intervals.total:  # after the last, `finish_stage` writes
        shared.publisher.validated(stage.name, averaged, step, scores)
    if shared.previews and jax.process_index() == 0:
        file = shared.folder / "samples" / f"{stage.name}_{step:07d}.png" if intervals.validates(step) else None
        log.image(step, previews.draw_previews(averaged, shared.previews, file))
    if intervals.validates(step):
        run_report.write(shared.folder)
        workdir.upload(shared.folder)
    return scores


def finish_stage(stage: Stage, state: TrainState, scores: dict[str, float], shared: Shared) -> weights.Weights:
    """Writes and returns the averaged generator of a stage that made all its updates; `scores` if it was validated."""
    workdir.check_was_trained(stage.name, state.health, int(state.step))
    averaged = start.averaged_generator(state, stage.generator)
    scores = scores or shared.validation.scores(averaged)
    shared.publisher.finished(stage.name, averaged, stage.intervals.total, scores, shared.stop.received)
    run_report.write(shared.folder)
    workdir.upload(shared.folder)
    messages.report(f"{stage.name}: finished, {stage_file(shared.folder, stage.name)}")
    return averaged
