"""The training loop: one long function, `train_and_evaluate`.

The config stops here: everything below takes plain keyword arguments.
"""

import contextlib
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from srgan_jax import weights
from srgan_jax.config import checks
from srgan_jax.evaluation.metrics import LOWER_IS_BETTER
from srgan_jax.runtime import devices, messages
from srgan_jax.runtime.errors import UserError
from srgan_jax.training import checkpoints, logs, mapping, nonfinite, previews, samples, setup, stop
from srgan_jax.training.balance import BalanceGuard
from srgan_jax.training.previews import draw_samples
from srgan_jax.training.provenance import record_run
from srgan_jax.training.start import averaged_generator, begin_stage, with_generator_of
from srgan_jax.training.state import TrainState, count_parameters
from srgan_jax.training.validation import compare, read_validation, validate
from srgan_jax.training.workdir import (
    ADVICE,
    finished_steps,
    locked,
    publish,
    publish_last,
    refuse_another_run,
    refuse_stale_stages,
    refuse_untrained,
)

SHOWN = ("d_loss", "d_accuracy_real", "d_accuracy_fake")  # in the progress bar, besides the terms of the loss


def train_and_evaluate(config: Any, workdir: str | Path, *, profile: bool = False) -> weights.Weights:
    """Runs the stages of `config` one after the other, going on where an earlier run in `workdir` stopped.

    Args:
      config: see `defaults.get_config`.
      workdir: holds checkpoints, metrics, samples, and at the end `generator.safetensors`; shared by all processes.
      profile: write a trace of a few updates.

    Returns:
      The averaged generator of the last stage.

    Raises:
      UserError: the config, the data or the folder can't be used; or training diverges again and again.
      SystemExit: SIGTERM or Ctrl-C came; the state is saved.
    """
    workdir = Path(workdir)
    batch_size, per_call = config.data.batch_size, config.steps_per_call

    with locked(workdir), stop.stop_signals() as signals, contextlib.ExitStack() as open_files:
        # ------------------------------------------------------------ what the whole run shares
        before = current = weights.load(config.init_from, fold=False) if config.init_from else None
        config = with_generator_of(before, config)
        checks.check_counts(config)
        setup.check_names(config)
        checks.check_intervals(config)
        refuse_another_run(workdir, config)
        if config.deterministic:
            devices.check_deterministic()
        parts = {name: setup.make_stage(config, name) for name in config.stage_names}
        extractors = {name: setup.load_extractor(config, name) for name in config.stage_names}
        mesh = devices.make_mesh()
        share = devices.local_slice(batch_size, config.micro_batches)
        indices = np.arange(share.start, share.stop, dtype=np.int32)
        pictures, held_out = samples.open_pictures(config, workdir)
        validation = read_validation(config, held_out)
        for line in record_run(workdir, config):
            messages.report(f"changed since this run began: {line}")
        dtype = np.dtype(devices.compute_dtype(config.compute_dtype)).name
        messages.report(
            f"devices: {jax.device_count()} x {jax.devices()[0].device_kind}, {jax.process_count()} processes, "
            f"{dtype}, {config.devices.mapping}"
        )
        data = samples.open_samples(config, pictures)
        data = data._replace(store=devices.replicate(data.store, mesh))  # and let go of the host's copy
        looked_at = previews.sample_pairs(config, validation, data)
        told_to_stop = stop.AgreedStop(mesh)

        for name, stage in parts.items():
            # -------------------------------------------------------- one stage: state, resume
            total = config.stages[name].total_steps
            published = workdir / f"{name}.safetensors"
            if finished_steps(published) >= total:
                current = weights.load(published, fold=False)
                messages.report(f"{name}: finished, {published}")
                continue
            refuse_stale_stages(workdir, config.stage_names, name)
            begin = functools.partial(begin_stage, stage, current, mesh)
            saver = checkpoints.Checkpoints(
                workdir / "checkpoints" / name,
                keep=config.keep_checkpoints,
                best_metric=config.validation.best if validation else "",
                lower_is_better=config.validation.best in LOWER_IS_BETTER,
                say=functools.partial(messages.report, everywhere=True),
            )
            open_files.callback(saver.close)  # waits for what is being written
            state = begin()
            state = saver.restore(state) or state
            start = step = int(state.step)
            if start % per_call:
                raise UserError(f"{name} stopped after update {start}, no multiple of config.steps_per_call={per_call}")
            lines = logs.truncate_metrics(workdir / "metrics.jsonl", config.stage_names, name, start)
            if start:
                messages.report(f"{name}: resumed after update {start}")
            elif lines:
                messages.report(f"{name}: there is no checkpoint yet; it begins again at update 1")
            log = logs.StageLog(workdir, name, start, total, batch_size)
            open_files.callback(log.close)
            features, extractor_variables = extractors[name]
            update = setup.make_update(config, stage, features)
            update = nonfinite.guarded(update, max_skips=config.guard.max_skips, d_wins_steps=config.guard.d_wins_steps)
            update = mapping.repeated(update, per_call)
            update = mapping.map_update(update, mesh, config.devices.mapping)
            frozen = {"store": data.store, "extractor": devices.replicate(extractor_variables, mesh)}
            sharded = devices.shard({"indices": indices}, mesh, config.devices.mapping)
            feed, metrics = data.feed(state, step, total, stage.draws), None
            trace = logs.Trace(workdir / "profile", start) if profile else None
            open_files.callback(trace.close if trace else lambda: None)
            messages.report(f"{name}: {count_parameters(state.generator.params):,} parameters; compiling the update")

            # -------------------------------------------------------- updates
            scores, skipped = {}, int(state.health.skipped)
            balance = BalanceGuard(config.stages[name].get("balance_accuracy", 1.0))
            stopping = 0
            while step < total and not stopping:
                step += per_call
                if trace:
                    trace.before(step)
                if feed is not None:
                    windows = {"indices": indices, "windows": feed.take(metrics)}
                    sharded = devices.shard(windows, mesh, config.devices.mapping)
                with jax.transfer_guard("allow" if jax.config.jax_debug_nans else "disallow"):
                    state, metrics = update(state, frozen, sharded)
                if trace:
                    trace.after(step, state)
                if devices.must_block():
                    jax.block_until_ready(state)
                log.advance(per_call)

                # ---------------------------------------------------- numbers, pictures, checkpoints
                logged = step in (per_call, total) or step % config.log_every_steps == 0
                if logged or step == start + per_call:
                    values = {key: float(value) for key, value in jax.device_get(metrics).items()}
                    alarm = values.pop("alarm")
                    if logged:  # the same lines whether or not the run was interrupted
                        log.write(step, values, shown=("loss", *stage.terms, *SHOWN))
                        if told := balance.line(values):
                            messages.report(f"{name}: update {step}: {told}")
                        if feed and (told := feed.line()):
                            messages.report(f"{name}: update {step}: {told}", everywhere=True)
                        if values["skipped"] > skipped:
                            messages.report(
                                f"{name}: {values['skipped'] - skipped:.0f} updates up to {step} were not finite "
                                f"and left out, {values['skipped']:.0f} in all"
                            )
                        skipped = values["skipped"]
                    if step == start + per_call:
                        terms = logs.format_terms({term: values[term] for term in stage.terms})
                        messages.report(f"{name}: loss at update {step}: {terms}")
                    if logged and alarm:
                        state = go_back(saver, devices.as_global(state, mesh), begin, config.guard, name)
                        step = int(state.step)
                        logs.truncate_metrics(workdir / "metrics.jsonl", config.stage_names, name, step)
                        log.rewind(step)
                        feed = data.feed(state, step, total, stage.draws)
                        skipped = int(state.health.skipped)
                        continue
                scores = {}
                if step % config.validate_every_steps == 0 or step == total:
                    averaged = averaged_generator(state, stage.generator)
                    scores = validate(averaged, validation, config)
                    if scores:
                        log.write(step, {f"val_{key}": value for key, value in scores.items()})
                        messages.report(f"{name}: update {step}: validation {logs.format_scores(scores)}")
                    if looked_at and jax.process_index() == 0:
                        file = workdir / "samples" / f"{name}_{step:07d}.png"
                        log.picture(step, draw_samples(averaged, looked_at, file))
                elif looked_at and config.show_every_steps and step % config.show_every_steps == 0:
                    averaged = averaged_generator(state, stage.generator)
                    if jax.process_index() == 0:
                        log.picture(step, draw_samples(averaged, looked_at))
                stopping = told_to_stop(signals[0] if signals else 0)
                if stopping or step == total or step % config.save_every_steps == 0:
                    saver.save(step, devices.as_global(state, mesh), scores)
            open_files.close()

            # -------------------------------------------------------- the end of a stage
            if step >= total:
                refuse_untrained(name, state.health, step)
                current = averaged_generator(state, stage.generator)
                scores = scores or validate(current, validation, config)
                values = {f"val_{key}": f"{value:.4f}" for key, value in scores.items()}
                provenance = {
                    "stage": name,
                    "steps": str(step),
                    "dataset": str(config.data.folder or config.data.dataset),
                }
                publish(current, published, provenance | values)
                messages.report(f"{name}: finished, {published}")
            stopping = stopping or told_to_stop(signals[0] if signals else 0)
            if stopping:
                found = f"saved after update {step}" if saver.saved == step else f"NOT saved after update {step}"
                messages.report(f"{name}: {found}; the same command goes on from update {saver.saved or 0}")
                raise SystemExit(128 + stopping)

        publish_last(published)
        if before and validation:
            compare(before, current, validation, config, workdir / "before_after.md")
    return current


def go_back(saver: checkpoints.Checkpoints, state: TrainState, begin: Callable, limits: Any, name: str) -> TrainState:
    """The last sound state, with the salt of another order of samples.

    Raises:
      UserError: it went back `limits.max_rollbacks` times already.
    """
    step, health = int(state.step), state.health
    bad = f"in the {int(health.d_wins)} updates up to {step} D judged every picture rightly"
    if not limits.d_wins_steps or int(health.d_wins) < limits.d_wins_steps:
        bad = f"{limits.max_skips} or more updates in a row up to {step} were not finite"
    rollbacks = int(health.rollbacks) + 1
    if rollbacks > limits.max_rollbacks:
        raise UserError(f"{name}: {bad}, for the {rollbacks}th time; {ADVICE.format(name)}")
    back = saver.restore(state, functools.partial(nonfinite.is_sound, d_wins_steps=limits.d_wins_steps))
    back = nonfinite.gone_back(begin() if back is None else back, rollbacks)
    messages.report(f"WARNING: {name}: {bad}; back to update {int(back.step)}, with another order of samples "
             f"({rollbacks} of {limits.max_rollbacks})")  # fmt: skip
    return back
