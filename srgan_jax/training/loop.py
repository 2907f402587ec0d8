"""The training loop: `train_and_evaluate` runs all stages, `train_stage` runs one. Copy this file to write your own."""

import contextlib
import dataclasses
import functools
from pathlib import Path

import jax

from srgan_jax import models, weights
from srgan_jax.config.schema import RunConfig
from srgan_jax.evaluation.tables import Protocol
from srgan_jax.images.paired_folders import find_test_set
from srgan_jax.runtime import devices, messages, processes, storage
from srgan_jax.training import bands, logs, previews, samples, setup, start, workdir
from srgan_jax.training.initial import keep_initial, load_initial, load_initial_discriminator
from srgan_jax.training.monitor import Monitor
from srgan_jax.training.provenance import describe_run
from srgan_jax.training.publishing import open_publisher
from srgan_jax.training.rollback import Rollback
from srgan_jax.training.stage import Stage
from srgan_jax.training.stage_parts import (
    Shared,
    compile_update,
    finish_stage,
    finished_generator,
    open_data,
    open_feed,
    open_log,
    open_saver,
    rewind,
    save_if_validation_fails,
    save_state,
    shard_inputs,
    validate_and_preview,
)
from srgan_jax.training.state import count_parameters
from srgan_jax.training.stop import StopRequest, stop_run
from srgan_jax.training.validation import compare


def train_and_evaluate(
    run: RunConfig, folder: str | Path, *, profile: bool = False, config_file: str = ""
) -> weights.Weights:
    """Runs the stages of a config in order. Resumes where an earlier run in `folder` stopped.

    Args:
      run: config, from `config.resolve.resolve`.
      folder: folder of the run, local or of a bucket, for checkpoints, metrics, previews and, at the end,
        `generator.safetensors`. All processes need access to it.
      profile: whether to write a trace of a few updates.
      config_file: value of `--config`, for the record of the run.

    Returns:
      The averaged generator of the last stage.

    Raises:
      UserError: the config, the data or the folder can't be used, or training diverges after all rollbacks.
      SystemExit: SIGTERM or Ctrl-C was received. The state is saved first.
    """
    processes.check_semaphores()
    folder = storage.open_folder(folder)
    with workdir.locked(folder), StopRequest() as stop:
        data = samples.with_bands(samples.with_pairs(run.data, folder), folder)
        generator, validation = bands.with_channels(run.generator, data), bands.with_metrics(run.validation, data)
        run = dataclasses.replace(run, data=data, generator=generator, validation=validation)
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
            lr_folder = (
                find_test_set(storage.local(config.folder), scale)[1]
                if config.folder
                else run.data.lr and "the data set"
            )
            compare(initial, current, shared.validation, protocol, str(lr_folder or ""), folder / "before_after.md")
    return current


def train_stage(stage: Stage, current: weights.Weights | None, shared: Shared) -> weights.Weights:
    """Trains one stage to its end, resuming if it was stopped. Writes and returns its averaged generator.

    Args:
      stage: from `setup.build`.
      current: the averaged generator of the previous stage; None for a new initialisation.
      shared: what all stages share.
    """
    name, intervals = stage.name, stage.intervals
    if (finished := finished_generator(stage, shared)) is not None:
        return finished
    workdir.check_later_stages(shared.folder, shared.stage_names, name)

    with contextlib.ExitStack() as open_files:
        make_state = functools.partial(start.initial_state, stage, current, shared.mesh)
        saver = open_files.enter_context(contextlib.closing(open_saver(shared, name)))  # waits for those being written
        state = make_state()
        state = saver.restore(state) or state
        step = first = int(state.step)
        log = open_files.enter_context(contextlib.closing(open_log(stage, first, shared)))
        update, frozen, sharded = compile_update(stage, shared)
        feed, metrics = open_feed(stage, state, shared.samples), None
        trace = logs.Trace(shared.folder / "profile" if shared.profile else None, first)
        open_files.callback(trace.close)
        rollback = Rollback(saver, make_state, shared.mesh, shared.guard, name)
        monitor = Monitor(log, stage, state, saver.sums)
        messages.report(f"{name}: {count_parameters(state.generator.params):,} parameters; compiling the update")
        scores, stopping, queue = {}, 0, devices.UpdateQueue()
        shared.record.write()
        workdir.upload(shared.folder)

        while step < intervals.total and not stopping:
            # ---------------------------------------------------- feed, update
            step += intervals.per_call
            trace.before(step)
            if feed is not None:
                sharded = shard_inputs(stage, shared, windows=feed.take(metrics))
            with jax.transfer_guard("allow" if jax.config.jax_debug_nans else "disallow"):  # pyright: ignore[reportAttributeAccessIssue] made at run time
                state, metrics = update(state, frozen, sharded)
            trace.after(step, state)
            queue.add(metrics)
            log.advance(intervals.per_call)

            # ---------------------------------------------------- log
            if monitor.update(step, state, metrics, feed):
                state = rollback(state)
                step, feed = rewind(log, monitor, stage, state, saver.sums, shared)
                continue

            # ---------------------------------------------------- validate, save, stop
            with save_if_validation_fails(stage, state, step, shared, saver, monitor):
                scores = validate_and_preview(stage, state, step, shared, log, monitor.latest)
            stopping = shared.stop.agreed()
            if stopping or intervals.saves(step):
                save_state(state, step, shared, saver, monitor, scores)

    averaged = finish_stage(stage, state, scores, shared) if step >= intervals.total else None
    if stopping := stopping or shared.stop.agreed():
        stop_run(name, step, saver.saved or 0, stopping)
    assert averaged is not None  # the loop ends only at the end of the stage or by a stop
    return averaged
