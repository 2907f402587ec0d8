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

from srgan_jax import (
    adversarial,
    checkpoints,
    comparison,
    devices,
    evaluate,
    guard,
    inference,
    logs,
    runs,
    samples,
    stages,
    steps,
    weights,
)
from srgan_jax.errors import UserError
from srgan_jax.metrics import LOWER_IS_BETTER

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

    with runs.locked(workdir), runs.stop_signals() as signals, contextlib.ExitStack() as open_files:
        # ------------------------------------------------------------ what the whole run shares
        before = current = weights.load(config.init_from, fold=False) if config.init_from else None
        config = stages.with_generator_of(before, config)
        runs.check_counts(config)
        stages.check_names(config)
        runs.check_intervals(config)
        runs.refuse_another_run(workdir, config)
        if config.deterministic:
            devices.check_deterministic()
        parts = {name: stages.make_stage(config, name) for name in config.stage_names}
        extractors = {name: stages.load_extractor(config, name) for name in config.stage_names}
        mesh = devices.make_mesh()
        share = devices.local_slice(batch_size, config.micro_batches)
        indices = np.arange(share.start, share.stop, dtype=np.int32)
        pictures, held_out = samples.open_pictures(config, workdir)
        validation = samples.read_validation(config, held_out)
        for line in logs.record_run(workdir, config):
            logs.say(f"changed since this run began: {line}")
        dtype = np.dtype(devices.compute_dtype(config.compute_dtype)).name
        logs.say(f"devices: {jax.device_count()} x {jax.devices()[0].device_kind}, {jax.process_count()} processes, "
                 f"{dtype}, {config.devices.mapping}")  # fmt: skip
        data = samples.open_samples(config, pictures)
        data = data._replace(store=devices.replicate(data.store, mesh))  # and let go of the host's copy
        looked_at = samples.sample_pairs(config, validation, data)
        told_to_stop = devices.AgreedStop(mesh)

        for name, stage in parts.items():
            # -------------------------------------------------------- one stage: state, resume
            total = config.stages[name].total_steps
            published = workdir / f"{name}.safetensors"
            if runs.finished_steps(published) >= total:
                current = weights.load(published, fold=False)
                logs.say(f"{name}: finished, {published}")
                continue
            runs.refuse_stale_stages(workdir, config.stage_names, name)
            begin = functools.partial(begin_stage, stage, current, mesh)
            saver = checkpoints.Checkpoints(
                workdir / "checkpoints" / name,
                keep=config.keep_checkpoints,
                best_metric=config.validation.best if validation else "",
                lower_is_better=config.validation.best in LOWER_IS_BETTER,
                say=functools.partial(logs.say, everywhere=True),
            )
            open_files.callback(saver.close)  # waits for what is being written
            state = begin()
            state = saver.restore(state) or state
            start = step = int(state.step)
            if start % per_call:
                raise UserError(f"{name} stopped after update {start}, no multiple of config.steps_per_call={per_call}")
            lines = logs.truncate_metrics(workdir / "metrics.jsonl", config.stage_names, name, start)
            if start:
                logs.say(f"{name}: resumed after update {start}")
            elif lines:
                logs.say(f"{name}: there is no checkpoint yet; it begins again at update 1")
            log = logs.StageLog(workdir, name, start, total, batch_size)
            open_files.callback(log.close)
            features, extractor_variables = extractors[name]
            update = stages.make_update(config, stage, features)
            update = guard.guarded(update, max_skips=config.guard.max_skips, d_wins_steps=config.guard.d_wins_steps)
            update = devices.repeated(update, per_call)
            update = devices.map_update(update, mesh, config.devices.mapping)
            frozen = {"store": data.store, "extractor": devices.replicate(extractor_variables, mesh)}
            sharded = devices.shard({"indices": indices}, mesh, config.devices.mapping)
            feed, metrics = data.feed(state, step, total, stage.draws), None
            trace = logs.Trace(workdir / "profile", start) if profile else None
            open_files.callback(trace.close if trace else lambda: None)
            logs.say(f"{name}: {steps.count_parameters(state.generator.params):,} parameters; compiling the update")

            # -------------------------------------------------------- updates
            scores, skipped = {}, int(state.health.skipped)
            balance = adversarial.BalanceGuard(config.stages[name].get("balance_accuracy", 1.0))
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
                            logs.say(f"{name}: update {step}: {told}")
                        if feed and (told := feed.line()):
                            logs.say(f"{name}: update {step}: {told}", everywhere=True)
                        if values["skipped"] > skipped:
                            logs.say(f"{name}: {values['skipped'] - skipped:.0f} updates up to {step} were not finite "
                                     f"and left out, {values['skipped']:.0f} in all")  # fmt: skip
                        skipped = values["skipped"]
                    if step == start + per_call:
                        terms = logs.format_terms({term: values[term] for term in stage.terms})
                        logs.say(f"{name}: loss at update {step}: {terms}")
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
                    averaged = stages.averaged_generator(state, stage.generator)
                    scores = validate(averaged, validation, config)
                    if scores:
                        log.write(step, {f"val_{key}": value for key, value in scores.items()})
                        logs.say(f"{name}: update {step}: validation {logs.format_scores(scores)}")
                    if looked_at and jax.process_index() == 0:
                        file = workdir / "samples" / f"{name}_{step:07d}.png"
                        log.picture(step, draw_samples(averaged, looked_at, file))
                elif looked_at and config.show_every_steps and step % config.show_every_steps == 0:
                    averaged = stages.averaged_generator(state, stage.generator)
                    if jax.process_index() == 0:
                        log.picture(step, draw_samples(averaged, looked_at))
                stopping = told_to_stop(signals[0] if signals else 0)
                if stopping or step == total or step % config.save_every_steps == 0:
                    saver.save(step, devices.as_global(state, mesh), scores)
            open_files.close()

            # -------------------------------------------------------- the end of a stage
            if step >= total:
                runs.refuse_untrained(name, state.health, step)
                current = stages.averaged_generator(state, stage.generator)
                scores = scores or validate(current, validation, config)
                values = {f"val_{key}": f"{value:.4f}" for key, value in scores.items()}
                provenance = {
                    "stage": name,
                    "steps": str(step),
                    "dataset": str(config.data.folder or config.data.dataset),
                }
                runs.publish(current, published, provenance | values)
                logs.say(f"{name}: finished, {published}")
            stopping = stopping or told_to_stop(signals[0] if signals else 0)
            if stopping:
                found = f"saved after update {step}" if saver.saved == step else f"NOT saved after update {step}"
                logs.say(f"{name}: {found}; the same command goes on from update {saver.saved or 0}")
                raise SystemExit(128 + stopping)

        runs.publish_last(published)
        if before and validation:
            compare(before, current, validation, config, workdir / "before_after.md")
    return current


def begin_stage(stage: stages.Stage, start: weights.Weights | None, mesh: Any) -> steps.TrainState:
    """The state before the first update of a stage, on all devices."""
    variables = stages.starting_variables(start, stage.generator)
    return devices.replicate(jax.jit(stage.init)(variables), mesh)


def go_back(
    saver: checkpoints.Checkpoints, state: steps.TrainState, begin: Callable, limits: Any, name: str
) -> steps.TrainState:
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
        raise UserError(f"{name}: {bad}, for the {rollbacks}th time; {runs.ADVICE.format(name)}")
    back = saver.restore(state, functools.partial(guard.is_sound, d_wins_steps=limits.d_wins_steps))
    back = guard.gone_back(begin() if back is None else back, rollbacks)
    logs.say(f"WARNING: {name}: {bad}; back to update {int(back.step)}, with another order of samples "
             f"({rollbacks} of {limits.max_rollbacks})")  # fmt: skip
    return back


def validate(averaged: weights.Weights, pairs: list[evaluate.Pair], config: Any) -> dict[str, float]:
    """Mean scores over the validation pictures, in full float32; each process computes its share of them."""
    if not pairs:
        return {}
    share = devices.process_share(pairs)
    results = evaluate.upscale_all(functools.partial(inference.upscale_canvas, averaged), share) if share else []
    rows = evaluate.score(share, results, config.validation.metrics) if share else []
    return evaluate.mean(devices.merge_shares(rows))


def compare(
    before: weights.Weights, after: weights.Weights, pairs: list[evaluate.Pair], config: Any, path: Path
) -> None:
    """A table of bicubic, the weights that training began with and the result, on the validation pictures."""
    scale, degraded = config.generator.scale, config.validation.degraded
    methods = {"bicubic": lambda pairs: [evaluate.bicubic(pair.lr, scale) for pair in pairs]}
    for name, params in (("before", before), ("after", after)):
        upscale = functools.partial(inference.upscale_canvas, params)
        methods[name] = functools.partial(evaluate.upscale_all, upscale)
    label = f"{len(pairs)} validation pictures"
    protocol = comparison.Protocol(scale, degradation=config.degradation.name if degraded else "")
    rows = comparison.compare({label: devices.process_share(pairs)}, methods, config.validation.metrics, protocol)
    from_files = bool(config.validation.folder) and Path(config.validation.folder, f"LRx{scale}").is_dir()
    table = comparison.markdown(rows, protocol.lines(**{"ready" if from_files else "made": [label]}))
    logs.say(f"\n{table}\n")
    devices.on_first(functools.partial(path.write_text, table + "\n"))


def draw_samples(averaged: weights.Weights, pairs: list[evaluate.Pair], path: Path | None = None) -> np.ndarray:
    """Returns a sheet of LR | SR | HR, and writes it where a path is given."""
    results = evaluate.upscale_all(functools.partial(inference.upscale_canvas, averaged), pairs)
    rows = [(pair.lr, result, pair.hr) for pair, result in zip(pairs, results, strict=True)]
    return logs.write_samples(path, rows)
