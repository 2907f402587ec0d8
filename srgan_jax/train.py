"""The training loop: one long function, `train_and_evaluate`, and the pieces that it is made of.

The config stops here: everything below takes plain keyword arguments.
"""

import contextlib
import functools
import math
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from srgan_jax import adversarial, checkpoints, color, devices, evaluate, inference, logs, stages, steps, weights
from srgan_jax.data import pairs, pipeline
from srgan_jax.errors import UserError, lookup
from srgan_jax.metrics import LOWER_IS_BETTER

SHOWN = ("d_loss", "d_accuracy_real", "d_accuracy_fake")  # in the progress bar, besides the terms of the loss


# ---------------------------------------------------------------------------------------------- pieces


class Samples(NamedTuple):
    """Where the crops of an update come from."""

    store: Any  # tiles to live on the devices, or None
    windows: Callable[[np.ndarray, range], Iterator[np.ndarray]] | None  # else: (seed, steps) -> windows of each step


def open_samples(config: Any) -> Samples:
    """The training data as its config describes it, with what it takes of memory reported before it is taken."""
    data = config.data
    lookup(dict.fromkeys(pipeline.SOURCES), data.source, "config.data.source")
    keys = ("split", "feature", "lr_feature", "data_dir", "resize_px")
    pictures = pairs.open_pictures(data.dataset, scale=config.generator.scale, **{key: data[key] for key in keys})
    geometry = stages.geometry(config)
    channels, unit = geometry.pop("channels"), config.generator.scale if data.lr_feature else 1  # pairs: LR pixels
    tiles = {"tile_px": data.tile_px // unit, "channels": channels, **geometry}
    found = f"data: {len(pictures)} pictures from {data.dataset}"
    if data.source == "memory":
        pictures, sizes, small = pipeline.without_small(pictures, geometry["crop_px"])
        for line in small:
            logs.say(f"skipped {line}")
        needed = pipeline.store_bytes(sizes, **tiles)
        room = data.device_share * (devices.memory_bytes() or pipeline.host_memory_bytes())
        if needed <= room:
            logs.say(f"{found}, decoded once into {needed / 1e6:,.0f} MB of tiles on each device")
            return Samples(pipeline.build_store(pictures, sizes, **tiles), None)
        raw = int(sizes.prod(axis=1).sum()) * channels
        if raw > 0.8 * pipeline.host_memory_bytes():
            raise UserError(f"{data.dataset} takes {raw / 1e9:.1f} GB decoded; use --config.data.source=stream")
        logs.say(f"{found}, decoded once into {raw / 1e6:,.0f} MB of host memory ({needed / 1e6:,.0f} MB of tiles "
                 f"exceed config.data.device_share)")  # fmt: skip
        pictures = pipeline.decode_all(pictures)
    else:
        logs.say(f"{found}, decoded as they are needed")
    share = devices.local_slice(data.batch_size)
    windows = functools.partial(
        pipeline.stream_windows,
        pictures,
        indices=np.arange(share.start, share.stop, dtype=np.int32),
        batch_size=data.batch_size,
        threads=data.threads or None,
        **geometry,
    )
    return Samples(None, lambda seed, steps: windows(seed=seed, steps=steps))


def read_validation(config: Any) -> list[evaluate.Pair]:
    """The validation pictures; none where the config names no folder."""
    folder = config.validation.folder
    return evaluate.read_pairs(folder, config.generator.scale) if folder else []


def sample_pairs(config: Any, validation: list[evaluate.Pair], samples: Samples) -> list[evaluate.Pair]:
    """A few crops to look at during training: the middle of validation pictures, or crops of the training data."""
    scale, count = config.generator.scale, config.sample_pictures
    if not count:
        return []
    if not validation:
        return training_samples(config, samples)[:count]
    side = min(192, *(min(pair.hr.shape[:2]) for pair in validation[:count])) // scale * scale
    corners = [((p.hr.shape[0] - side) // 2, (p.hr.shape[1] - side) // 2) for p in validation[:count]]
    crops = [p.hr[y : y + side, x : x + side] for p, (y, x) in zip(validation, corners, strict=False)]
    return [evaluate.make_pair(f"sample {index}", crop, scale) for index, crop in enumerate(crops)]


def training_samples(config: Any, samples: Samples) -> list[evaluate.Pair]:
    """The samples of the first update, with the LR images that training sees."""
    seed = jax.random.key_data(jax.random.key(config.seed))
    indices = np.arange(config.data.batch_size, dtype=np.int32)
    windows = None
    if samples.store is None:
        windows = next(samples.windows(np.asarray(seed), range(0, 1)))
        indices = indices[: len(windows)]
    batch = jax.jit(functools.partial(stages.make_batch, config))(seed, 0, indices, samples.store, windows)
    hr, lr = (np.asarray(color.to_uint8(batch[name])) for name in ("hr", "lr"))
    return [evaluate.Pair(f"sample {index}", hr[index], lr[index]) for index in range(len(hr))]


@contextlib.contextmanager
def stop_signals() -> Iterator[list[int]]:
    """Notes SIGTERM and Ctrl-C in a list instead of dying, so that the loop can save; a second one kills."""
    received: list[int] = []

    def note(number, frame):
        received.append(number)
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        for number in before:
            signal.signal(number, note)
    except ValueError:  # not in the main thread: signals are the caller's
        before = {}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def finished_steps(file: Path) -> int:
    """Updates behind a stage's published weights; -1 where there are none."""
    return int(weights.read_header(file).get("steps", -1)) if file.exists() else -1


# ---------------------------------------------------------------------------------------------- the loop


def train_and_evaluate(config: Any, workdir: str | Path, *, profile: bool = False) -> weights.Weights:
    """Runs the stages of `config` one after the other, going on where an earlier run in `workdir` stopped.

    Args:
      config: see `defaults.get_config`.
      workdir: holds checkpoints, metrics, samples, and at the end `generator.safetensors`.
      profile: write a trace of a few updates.

    Returns:
      The averaged generator of the last stage.

    Raises:
      UserError: the config, the data or the folder can't be used.
      SystemExit: SIGTERM or Ctrl-C came; the state is saved.
      FloatingPointError: the loss is not finite.
    """
    workdir = Path(workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    batch_size = config.data.batch_size

    # ---------------------------------------------------------------- what the whole run shares
    stages.check_names(config)
    parts = {name: stages.make_stage(config, name) for name in config.stage_names}
    extractors = {name: stages.load_extractor(config, name) for name in config.stage_names}
    mesh = devices.make_mesh()
    share = devices.local_slice(batch_size)
    indices = np.arange(share.start, share.stop, dtype=np.int32)
    validation = read_validation(config)
    current = weights.load(config.init_from, fold=False) if config.init_from else None
    for line in logs.record_run(workdir, config):
        logs.say(f"changed since this run began: {line}")
    dtype = np.dtype(devices.compute_dtype(config.compute_dtype)).name
    logs.say(f"devices: {jax.device_count()} x {jax.devices()[0].device_kind}, {dtype}, {config.devices.mapping}")
    samples = open_samples(config)
    samples = samples._replace(store=devices.replicate(samples.store, mesh))  # and let go of the host's copy
    looked_at = sample_pairs(config, validation, samples)

    with stop_signals() as signals, contextlib.ExitStack() as open_files:
        for name, stage in parts.items():
            # -------------------------------------------------------- one stage: state, resume
            total = config.stages[name].total_steps
            published = workdir / f"{name}.safetensors"
            if finished_steps(published) >= total:
                current = weights.load(published, fold=False)
                logs.say(f"{name}: finished, {published}")
                continue
            refuse_stale_stages(workdir, config.stage_names, name)
            state = devices.replicate(jax.jit(stage.init)(stages.starting_variables(current, stage.generator)), mesh)
            manager = checkpoints.open_manager(
                workdir / "checkpoints" / name,
                keep=config.keep_checkpoints,
                best_metric=config.validation.best if validation else "",
                lower_is_better=config.validation.best in LOWER_IS_BETTER,
            )
            open_files.callback(manager.close)  # waits for what is being written
            state = checkpoints.restore(manager, state) or state
            start = step = int(state.step)
            logs.truncate_metrics(workdir / "metrics.jsonl", config.stage_names, name, start)
            if start:
                logs.say(f"{name}: resumed after update {start}")
            log = logs.StageLog(workdir, name, start, total, batch_size)
            open_files.callback(log.close)
            features, extractor_variables = extractors[name]
            update = devices.map_update(stages.make_update(config, stage, features), mesh, config.devices.mapping)
            frozen = {"store": samples.store, "extractor": devices.replicate(extractor_variables, mesh)}
            sharded = devices.shard({"indices": indices}, mesh, config.devices.mapping)
            draws = range(start * stage.draws, total * stage.draws)
            stream = samples.windows(np.asarray(state.seed), draws) if samples.windows else None
            trace = logs.Trace(workdir / "profile", start) if profile else None
            open_files.callback(trace.close if trace else lambda: None)
            logs.say(f"{name}: {steps.count_parameters(state.generator.params):,} parameters; compiling the update")

            # -------------------------------------------------------- updates
            scores, guard = {}, adversarial.BalanceGuard(config.stages[name].get("balance_accuracy", 1.0))
            for step in range(start + 1, total + 1):
                if trace:
                    trace.before(step)
                if stream is not None:
                    windows = {"indices": indices, "windows": np.stack([next(stream) for _ in range(stage.draws)], 1)}
                    sharded = devices.shard(windows, mesh, config.devices.mapping)
                with jax.transfer_guard("allow" if jax.config.jax_debug_nans else "disallow"):
                    state, metrics = update(state, frozen, sharded)
                if trace:
                    trace.after(step, state)
                if devices.must_block():
                    jax.block_until_ready(state)
                log.advance()

                # ---------------------------------------------------- numbers, pictures, checkpoints
                logged = step in (1, total) or step % config.log_every_steps == 0
                if logged or step == start + 1:
                    values = {key: float(value) for key, value in jax.device_get(metrics).items()}
                    check_finite(values["loss"], name, step, config.log_every_steps)
                    if logged:  # the same lines whether or not the run was interrupted
                        log.write(step, values, shown=("loss", *stage.terms, *SHOWN))
                        if told := guard.line(values):
                            logs.say(f"{name}: update {step}: {told}")
                    if step == start + 1:
                        terms = logs.format_terms({term: values[term] for term in stage.terms})
                        logs.say(f"{name}: loss at update {step}: {terms}")
                scores = {}
                if step % config.validate_every_steps == 0 or step == total:
                    averaged = stages.averaged_generator(state, stage.generator)
                    scores = validate(averaged, validation, config)
                    if scores:
                        log.write(step, {f"val_{key}": value for key, value in scores.items()})
                        logs.say(f"{name}: update {step}: validation {logs.format_scores(scores)}")
                    if looked_at:
                        file = workdir / "samples" / f"{name}_{step:07d}.png"
                        log.picture(step, draw_samples(averaged, looked_at, file))
                elif looked_at and config.show_every_steps and step % config.show_every_steps == 0:
                    log.picture(step, draw_samples(stages.averaged_generator(state, stage.generator), looked_at))
                stopping = bool(signals)
                if stopping or step == total or step % config.save_every_steps == 0:
                    checkpoints.save(manager, step, state, scores)
                if stopping:
                    break
            open_files.close()

            # -------------------------------------------------------- the end of a stage
            if step >= total:
                current = stages.averaged_generator(state, stage.generator)
                scores = scores or validate(current, validation, config)
                values = {f"val_{key}": f"{value:.4f}" for key, value in scores.items()}
                provenance = {"stage": name, "steps": str(step), "dataset": str(config.data.dataset)}
                weights.save(published, current, provenance | values)
                logs.say(f"{name}: finished, {published}")
            if signals:
                logs.say(f"{name}: saved after update {step}; the same command goes on from there")
                raise SystemExit(128 + signals[0])

    shutil.copyfile(published, workdir / "generator.safetensors")
    return current


def refuse_stale_stages(workdir: Path, names: Sequence[str], name: str) -> None:
    """Raises UserError where a stage after `name` is finished already: it started from weights that will change."""
    for later in list(names)[list(names).index(name) + 1 :]:
        if (workdir / f"{later}.safetensors").exists():
            raise UserError(
                f"{later}.safetensors in {workdir} was trained from an earlier {name}; use another --workdir, or "
                f"delete it and {workdir / 'checkpoints' / later}"
            )


def check_finite(loss: float, stage: str, step: int, log_every_steps: int) -> None:
    """Raises FloatingPointError where the loss is not a number."""
    if not math.isfinite(loss):
        raise FloatingPointError(
            f"{stage}: the loss is {loss} at update {step}, not so at most {log_every_steps} updates before; "
            "try --debug_nans, or a lower learning rate"
        )


def validate(averaged: weights.Weights, pairs: list[evaluate.Pair], config: Any) -> dict[str, float]:
    """Mean scores over the validation pictures, computed in full float32 on every device."""
    if not pairs:
        return {}
    results = evaluate.upscale_all(functools.partial(inference.upscale_canvas, averaged), pairs)
    return evaluate.mean(evaluate.score(pairs, results, config.validation.metrics))


def draw_samples(averaged: weights.Weights, pairs: list[evaluate.Pair], path: Path | None = None) -> np.ndarray:
    """Returns a sheet of LR | SR | HR, and writes it where a path is given."""
    results = evaluate.upscale_all(functools.partial(inference.upscale_canvas, averaged), pairs)
    rows = [(pair.lr, result, pair.hr) for pair, result in zip(pairs, results, strict=True)]
    return logs.write_samples(path, rows)
