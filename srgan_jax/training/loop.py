"""The training loop: `train_and_evaluate` runs all stages, `train_stage` runs one. Copy this file to write your own."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from srgan_jax import models, weights
from srgan_jax.config.schema import DataConfig, GuardConfig, Options, RunConfig, ValidationConfig
from srgan_jax.data import sampling
from srgan_jax.data.batch_plan import BatchPlan
from srgan_jax.data.feed import Samples
from srgan_jax.data.images import Images
from srgan_jax.evaluation import metrics
from srgan_jax.evaluation.pairs import Pair
from srgan_jax.evaluation.tables import Protocol
from srgan_jax.runtime import devices, messages
from srgan_jax.runtime.errors import UserError
from srgan_jax.training import logs, mapping, nonfinite, previews, samples, setup, start, workdir
from srgan_jax.training.checkpoints import Checkpoints
from srgan_jax.training.initial import keep_initial, load_initial, load_initial_discriminator
from srgan_jax.training.interval import LATEST
from srgan_jax.training.monitor import Monitor
from srgan_jax.training.provenance import RunRecord, describe_run
from srgan_jax.training.publishing import Publisher, open_publisher, stage_file
from srgan_jax.training.rollback import Rollback
from srgan_jax.training.stage import Stage
from srgan_jax.training.state import TrainState, count_parameters
from srgan_jax.training.stop import StopRequest, stop_run
from srgan_jax.training.validation import Validation, compare, read_validation


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


def train_and_evaluate(
    run: RunConfig, folder: str | Path, *, profile: bool = False, config_file: str = ""
) -> weights.Weights:
    """Runs the stages of a config in order. Resumes where an earlier run in `folder` stopped.

    Args:
      run: config, from `config.resolve.resolve`.
      folder: folder of the run, for checkpoints, metrics, previews and, at the end, `generator.safetensors`. All
        processes need access to it.
      profile: whether to write a trace of a few updates.
      config_file: value of `--config`, for the record of the run.

    Returns:
      The averaged generator of the last stage.

    Raises:
      UserError: the config, the data or the folder can't be used, or training diverges after all rollbacks.
      SystemExit: SIGTERM or Ctrl-C was received. The state is saved first.
    """
    folder = Path(folder)
    with workdir.locked(folder), StopRequest() as stop:
        run = dataclasses.replace(run, data=samples.with_pairs(run.data, folder))
        initial = current = load_initial(run.init_from, folder)
        if run.generator_of_init_from:
            run = dataclasses.replace(run, generator=start.generator_from(initial, run.init_from))
        opponent = load_initial_discriminator(run.discriminator_init_from, folder)
        if opponent:
            fields = start.discriminator_from(opponent, run.discriminator_init_from, run.data.crop_px)
            run = dataclasses.replace(run, discriminator=fields)
        stages = setup.build(run, opponent)
        architecture = models.architecture_of(models.GENERATORS, stages[0].generator)
        workdir.check_same_run(folder, architecture, run.stage_names, run.init_from, run.discriminator_init_from)
        if run.deterministic:
            devices.check_deterministic()
        mesh, plan = devices.make_mesh(), stages[0].plan
        devices.local_slice(plan.batch_size, run.micro_batches)  # raises UserError if the batch can't be divided
        validation, train_images = open_data(run.data, run.validation, run.degradation, plan, folder)
        keep_initial(initial, run.init_from, folder)
        keep_initial(opponent, run.discriminator_init_from, folder)
        record = describe_run(folder, run, config_file)
        for line in record.changes:
            messages.report(f"changed since this run began: {line}")
        devices.report_devices(run.compute_dtype, run.devices.mapping)
        data = samples.open_samples(train_images, run.data, plan, run.steps_per_call)
        data = data._replace(store=devices.replicate(data.store, mesh))  # frees the host copy
        preview_pairs = previews.make_previews(run.sample_pictures, validation, data, plan, run.seed)
        bicubic = functools.cache(functools.partial(validation.bicubic, plan.scale))
        stop.listen(mesh)
        publisher = open_publisher(folder, run.data, run.validation.best, stages, initial)
        shared = Shared(
            folder, run.stage_names, mesh, run.devices.mapping, data, validation, bicubic, preview_pairs, stop,
            run.guard, run.validation.best, run.keep_checkpoints, publisher, run.loggers, profile, record,
        )  # fmt: skip
        for stage in stages:
            current = train_stage(stage, current, shared)
        publisher.copy_last(stages[-1].name)
        assert current is not None  # build refuses a run without stages
        if initial and shared.validation.pairs and initial.scale == plan.scale:
            scale, config = plan.scale, run.validation
            protocol = Protocol(scale, degradation=str(run.degradation["name"]) if config.degraded else "")
            from_files = Path(config.folder, f"LRx{scale}").is_dir() if config.folder else bool(run.data.lr)
            compare(initial, current, shared.validation, protocol, from_files, folder / "before_after.md")
    return current


def train_stage(stage: Stage, current: weights.Weights | None, shared: Shared) -> weights.Weights:
    """Trains one stage to its end, resuming if it was stopped. Writes and returns its averaged generator.

    Args:
      stage: from `setup.build`.
      current: the averaged generator of the previous stage; None for a new initialisation.
      shared: what all stages share.
    """
    name, intervals, published = stage.name, stage.intervals, stage_file(shared.folder, stage.name)
    if workdir.finished_steps(published) >= intervals.total:
        messages.report(f"{name}: finished, {published}")
        return weights.load(published, fold=False)
    workdir.check_later_stages(shared.folder, shared.stage_names, name)

    with contextlib.ExitStack() as open_files:
        # -------------------------------------------------------- restore
        make_state = functools.partial(start.initial_state, stage, current, shared.mesh)
        saver = open_saver(shared, name)
        open_files.callback(saver.close)  # waits for checkpoints that are being written
        state = make_state()
        state = saver.restore(state) or state
        step = first = int(state.step)
        log = open_log(stage, first, shared)
        open_files.callback(log.close)
        update, frozen, sharded = compile_update(stage, shared)
        feed, metrics = open_feed(stage, state, shared.samples), None
        trace = logs.Trace(shared.folder / "profile" if shared.profile else None, first)
        open_files.callback(trace.close)
        rollback = Rollback(saver, make_state, shared.mesh, shared.guard, name)
        monitor = Monitor(log, stage, state, saver.sums)
        messages.report(f"{name}: {count_parameters(state.generator.params):,} parameters; compiling the update")
        scores, stopping, queue = {}, 0, devices.UpdateQueue()
        shared.record.write()

        while step < intervals.total and not stopping:
            # ---------------------------------------------------- feed, update
            step += intervals.per_call
            trace.before(step)
            if feed is not None:
                sharded = devices.shard(
                    {"indices": stage_indices(stage), "windows": feed.take(metrics)}, shared.mesh, shared.mapping
                )
            with jax.transfer_guard("allow" if jax.config.jax_debug_nans else "disallow"):  # pyright: ignore[reportAttributeAccessIssue] made at run time
                state, metrics = update(state, frozen, sharded)
            trace.after(step, state)
            queue.add(metrics)
            log.advance(intervals.per_call)

            # ---------------------------------------------------- log
            if monitor.update(step, state, metrics, feed):
                state = rollback(state)
                step = int(state.step)
                logs.truncate_metrics(shared.folder / "metrics.jsonl", shared.stage_names, name, step)
                log.rewind(step)
                monitor.restart(state, saver.sums)
                feed = open_feed(stage, state, shared.samples)
                continue

            # ---------------------------------------------------- validate, save, stop
            try:
                scores = validate_and_preview(stage, state, step, shared, log)
            except Exception:  # if validation fails, save the checkpoint that is due, without scores
                if intervals.saves(step):
                    saver.save(step, devices.as_global(state, shared.mesh), sums=monitor.sums())
                raise
            stopping = shared.stop.agreed()
            if stopping or intervals.saves(step):
                saver.save(step, devices.as_global(state, shared.mesh), scores, monitor.sums())

    if step >= intervals.total:
        current = finish_stage(stage, state, scores, shared)
    if stopping := stopping or shared.stop.agreed():
        stop_run(name, step, saver.saved or 0, stopping)
    assert current is not None  # the loop ends only at the end of the stage or by a stop
    return current


# ---------------------------------------------------------------------------------------------- helpers


def open_data(
    data: DataConfig, validation: ValidationConfig, degradation: Options, plan: BatchPlan, folder: Path
) -> tuple[Validation, Images]:
    """Returns the validation images and the training images; the latter are still encoded."""
    images, held_out = samples.open_images(data, validation, plan, folder)
    degrade, _ = setup.find_degradation(degradation, plan.scale)
    return read_validation(validation, plan.scale, functools.partial(degrade, scale=plan.scale), held_out), images


def open_saver(shared: Shared, name: str) -> Checkpoints:
    """Opens the checkpoints of a stage."""
    return Checkpoints(
        shared.folder / "checkpoints" / name,
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


def compile_update(stage: Stage, shared: Shared):
    """Returns the update mapped over all devices, and its arguments besides the state."""
    update = nonfinite.skip_nonfinite(
        stage.update, max_skips=shared.guard.max_skips, d_wins_steps=shared.guard.d_wins_steps
    )
    update = mapping.map_update(
        mapping.repeat_update(update, stage.intervals.per_call, LATEST), shared.mesh, shared.mapping
    )
    variables = stage.extractor.variables if stage.extractor else None
    frozen = {"store": shared.samples.store, "extractor": devices.replicate(variables, shared.mesh)}
    return update, frozen, devices.shard({"indices": stage_indices(stage)}, shared.mesh, shared.mapping)


def stage_indices(stage: Stage) -> np.ndarray:
    """Returns the positions of this process's samples in the global batch."""
    local = devices.local_slice(stage.plan.batch_size)
    return np.arange(local.start, local.stop, dtype=np.int32)


def open_feed(stage: Stage, state: TrainState, data: Samples):
    """Returns the windows of the following updates; None if crops are cut on the devices."""
    seed = sampling.rollback_seed(*jax.device_get((state.seed, state.health.rollbacks)))
    return data.feed(np.asarray(seed), int(state.step), stage.intervals.total, stage.draws)


def validate_and_preview(
    stage: Stage, state: TrainState, step: int, shared: Shared, log: logs.StageLog
) -> dict[str, float]:
    """Validates and draws previews at the updates where they are due. Returns the scores, or {}."""
    intervals = stage.intervals
    if not intervals.validates(step) and not intervals.shows(step):
        return {}
    averaged = start.averaged_generator(state, stage.generator)
    scores = shared.validation.scores(averaged) if intervals.validates(step) else {}
    if scores:
        bicubic = shared.bicubic()
        rows = {f"val_{key}": value for key, value in scores.items()}
        log.write(step, rows | {f"bicubic_{key}": value for key, value in bicubic.items()})
        compared = f"validation {logs.format_scores(scores)}; bicubic {logs.format_scores(bicubic)}"
        messages.report(f"{stage.name}: update {step}: {compared}")
    trained = int(state.health.in_a_row) < step
    if intervals.validates(step) and trained and step < intervals.total:  # after the last, `finish_stage` writes
        shared.publisher.validated(stage.name, averaged, step, scores)
    if shared.previews and jax.process_index() == 0:
        file = shared.folder / "samples" / f"{stage.name}_{step:07d}.png" if intervals.validates(step) else None
        log.image(step, previews.draw_previews(averaged, shared.previews, file))
    return scores


def finish_stage(stage: Stage, state: TrainState, scores: dict[str, float], shared: Shared) -> weights.Weights:
    """Writes and returns the averaged generator of a stage that made all its updates; `scores` if it was validated."""
    workdir.check_was_trained(stage.name, state.health, int(state.step))
    averaged = start.averaged_generator(state, stage.generator)
    scores = scores or shared.validation.scores(averaged)
    shared.publisher.finished(stage.name, averaged, stage.intervals.total, scores, shared.stop.received)
    messages.report(f"{stage.name}: finished, {stage_file(shared.folder, stage.name)}")
    return averaged
