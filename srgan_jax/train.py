"""The training loop: one long function, `train_and_evaluate`, and the pieces that it is made of.

The config stops here: everything below takes plain keyword arguments.
"""

import contextlib
import functools
import math
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from srgan_jax import checkpoints, devices, evaluate, inference, logs, models, steps, weights
from srgan_jax.data import builder, pipeline, sampling
from srgan_jax.degradations import DEGRADATIONS
from srgan_jax.errors import UserError, lookup
from srgan_jax.losses import ADVERSARIAL, PIXEL
from srgan_jax.metrics import METRICS
from srgan_jax.models.extractor import FEATURE_SCALE
from srgan_jax.resize import kernel_reach_px

PROFILED_STEPS = range(10, 15)  # after the start; the first few compile
STAGE_SEED_STRIDE = 7919  # each stage has its own order of samples


class Stage(NamedTuple):
    """What a stage is made of, from its config."""

    generator: Any
    discriminator: Any  # None in pretraining
    step: Callable  # (state, batch, features) -> (state, metrics)
    init: Callable  # (variables of the generator or None) -> TrainState
    terms: tuple[str, ...]  # the metrics that add up to the generator's loss


# ---------------------------------------------------------------------------------------------- pieces


def check_names(config: Any) -> None:
    """Looks up every name that is used later, so that a misspelt one stops the run before it trains for a week."""
    lookup(DEGRADATIONS, config.data.degradation, "degradation")
    for metric in config.validation.metrics:
        lookup(METRICS, metric, "metric")
    for name in config.stage_names:
        stage = lookup(dict(config.stages), name, "stage")
        lookup(PIXEL, stage.pixel, "pixel loss")
        lookup(PIXEL, stage.perceptual, "perceptual loss")
        lookup(ADVERSARIAL, stage.get("adversarial", "bce"), "adversarial loss")
    if config.data.crop_px % config.generator.scale:
        raise UserError(
            f"config.data.crop_px={config.data.crop_px} is not a multiple of the scale {config.generator.scale}"
        )


def make_stage(config: Any, name: str) -> Stage:
    """Modules, optimisers and the pure step of the stage `name`."""
    options = config.stages[name]
    axis_name = lookup(devices.MAPPINGS, config.devices.mapping, "config.devices.mapping")
    bn_axis = axis_name if config.devices.sync_bn else None
    runtime = {"dtype": devices.compute_dtype(config.compute_dtype), "axis_name": bn_axis}
    generator = models.build(models.GENERATORS, config.generator, **runtime)
    make_optimizer = functools.partial(
        steps.create_optimizer,
        total_steps=options.total_steps,
        schedule=options.schedule,
        drops=tuple(options.drops),
        warmup_steps=options.warmup_steps,
        b1=options.b1,
        b2=options.b2,
    )
    content = ("pixel", "pixel_weight", "perceptual", "perceptual_weight", "tv_weight")
    step_options = {
        "generator": generator,
        "optimizer": make_optimizer(options.learning_rate),
        "losses": {key: options[key] for key in content},
        "ema_decay": config.ema_decay,
        "axis_name": axis_name,
    }
    init_options = {"crop_px": config.data.crop_px}
    discriminator, step = None, steps.pretrain_step
    if "adversarial" in options:
        step = steps.gan_step
        described = dict(config.discriminator) | {"crop_px": config.data.crop_px}
        discriminator = models.build(models.DISCRIMINATORS, described, **runtime)
        networks = {
            "discriminator": discriminator,
            "discriminator_optimizer": make_optimizer(options.discriminator_learning_rate),
        }
        step_options |= networks | {key: options[key] for key in ("adversarial", "adversarial_weight")}
        init_options |= networks
    seed = config.seed + STAGE_SEED_STRIDE * list(config.stage_names).index(name)

    def init(variables):
        return steps.create_train_state(seed, generator, step_options["optimizer"], variables=variables, **init_options)

    weighted = {
        "pixel": options.pixel_weight,
        "perceptual": options.perceptual_weight,
        "total_variation": options.tv_weight,
        "adversarial": options.get("adversarial_weight", 0.0),
    }
    terms = tuple(term for term, weight in weighted.items() if weight)
    return Stage(generator, discriminator, functools.partial(step, **step_options), init, terms)


def load_extractor(config: Any, stage: str) -> tuple[Callable | None, Any]:
    """`features(variables, images)` for the perceptual loss of a stage, and its variables; None where it has none."""
    options = config.stages[stage]
    if not options.perceptual_weight:
        return None, None
    variables, header = weights.load_extractor(config.extractor.weights)
    convention = header["convention"]
    scale = lookup(FEATURE_SCALE, convention, "VGG19 convention")
    module = models.build(
        models.EXTRACTORS,
        {"name": config.extractor.name, "taps": tuple(options.perceptual_taps), "convention": convention},
        dtype=devices.compute_dtype(config.compute_dtype),
    )
    taps = ", ".join(options.perceptual_taps)
    logs.say(
        f"{stage}: VGG19 {taps}, {convention} weights, features x {scale:.4g}, weight {options.perceptual_weight:g}"
    )

    def features(variables, image):
        return {tap: scale * feature for tap, feature in module.apply(variables, image).items()}

    return features, variables


class Samples(NamedTuple):
    """Where the crops of an update come from."""

    store: Any  # tiles that live on the devices, or None
    windows: Callable[[np.ndarray, range], Iterator[np.ndarray]] | None  # else: (seed, steps) -> windows of each step


def open_samples(config: Any) -> Samples:
    """The training data as its config describes it, with what it takes of memory reported before it is taken."""
    data = config.data
    lookup(dict.fromkeys(pipeline.SOURCES), data.source, "config.data.source")
    pictures = builder.open_source(data.dataset, split=data.split, feature=data.feature, data_dir=data.data_dir)
    geometry = {"crop_px": data.crop_px, "margin_px": kernel_reach_px(config.generator.scale)}
    found = f"data: {len(pictures)} pictures from {data.dataset}"
    if data.source == "memory":
        sizes = pipeline.picture_sizes(pictures, data.crop_px)
        needed = pipeline.store_bytes(sizes, tile_px=data.tile_px, **geometry)
        room = data.device_share * (devices.memory_bytes() or pipeline.host_memory_bytes())
        if needed <= room:
            logs.say(f"{found}, decoded once into {needed / 1e6:,.0f} MB of tiles on each device")
            return Samples(pipeline.build_store(pictures, sizes, tile_px=data.tile_px, **geometry), None)
        raw = int(sizes.prod(axis=1).sum()) * 3
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


def make_update(config: Any, stage: Stage, features: Callable | None) -> Callable:
    """`update(state, frozen, sharded)`: crops, LR images and the step, pure, for one device's share of the batch.

    `frozen` holds the tiles ("store") and the extractor's variables; `sharded` the samples' positions in the global
    batch ("indices") and, where crops come from the host, their "windows".
    """
    data, scale = config.data, config.generator.scale
    margin_px = kernel_reach_px(scale)
    degrade = DEGRADATIONS[data.degradation]

    def update(state, frozen, sharded):
        indices = sharded["indices"]
        keys = sampling.sample_keys(state.seed, state.step, indices)
        if "windows" in sharded:
            windows = sharded["windows"]
        else:
            pictures = frozen["store"]["sizes"].shape[0]
            chosen = sampling.choose_pictures(state.seed, state.step, indices, data.batch_size, pictures)
            geometry = {"crop_px": data.crop_px, "margin_px": margin_px}
            windows = pipeline.gather_windows(frozen["store"], chosen, keys, **geometry)
        batch = sampling.make_batch(
            windows, keys, degrade=degrade, scale=scale, margin_px=margin_px, augment=data.augment
        )
        see = None if features is None else functools.partial(features, frozen["extractor"])
        return stage.step(state, batch, see)

    return update


def read_validation(config: Any) -> list[evaluate.Pair]:
    """The validation pictures; none where the config names no folder."""
    folder = config.validation.folder
    return evaluate.read_pairs(folder, config.generator.scale) if folder else []


def sample_pairs(config: Any, validation: list[evaluate.Pair], samples: Samples) -> list[evaluate.Pair]:
    """A few crops to look at during training: the middle of validation pictures, or crops of the training data."""
    scale, count = config.generator.scale, config.sample_pictures
    if validation:
        side = min(192, *(min(pair.hr.shape[:2]) for pair in validation[:count]))
        corners = [((p.hr.shape[0] - side) // 2, (p.hr.shape[1] - side) // 2) for p in validation[:count]]
        crops = [p.hr[y : y + side, x : x + side] for p, (y, x) in zip(validation, corners, strict=False)]
    else:
        crops = training_crops(config, samples)[:count]
    return [evaluate.make_pair(f"sample {index}", crop, scale) for index, crop in enumerate(crops)]


def training_crops(config: Any, samples: Samples) -> np.ndarray:
    """The HR crops of the first update, uint8, for the sample pictures of a run without validation."""
    margin = kernel_reach_px(config.generator.scale)
    seed = jax.random.key_data(jax.random.key(config.seed))
    if samples.store is None:
        windows = next(samples.windows(np.asarray(seed), range(0, 1)))
    else:
        batch_size = config.data.batch_size
        indices = np.arange(batch_size, dtype=np.int32)
        chosen = sampling.choose_pictures(seed, np.int32(0), indices, batch_size, len(samples.store["sizes"]))
        keys = sampling.sample_keys(seed, 0, indices)
        windows = pipeline.gather_windows(samples.store, chosen, keys, crop_px=config.data.crop_px, margin_px=margin)
    return np.asarray(windows)[:, margin:-margin, margin:-margin]


def starting_variables(start: weights.Weights | None, generator: Any) -> Any:
    """The variables of `start`, which must be of the architecture of `generator`; None where there is no start."""
    if start is None:
        return None
    expected = models.architecture_of(models.GENERATORS, generator)
    differing = [f"{key} {start.architecture.get(key)} instead of {value}" for key, value in expected.items()
                 if start.architecture.get(key) != value]  # fmt: skip
    if differing:
        raise UserError(f"the weights to start from are of another architecture: {', '.join(differing)}")
    return start.variables


def averaged_generator(state: steps.TrainState, generator: Any) -> weights.Weights:
    """The averaged generator as `Weights`, on the host."""
    variables = jax.device_get(dict(state.ema))
    return weights.make_weights(variables, models.architecture_of(models.GENERATORS, generator))


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
    check_names(config)
    stages = {name: make_stage(config, name) for name in config.stage_names}
    extractors = {name: load_extractor(config, name) for name in config.stage_names}
    mesh = devices.make_mesh()
    share = devices.local_slice(batch_size)
    indices = np.arange(share.start, share.stop, dtype=np.int32)
    validation = read_validation(config)
    current = weights.load(config.init_from) if config.init_from else None
    for line in logs.record_run(workdir, config):
        logs.say(f"changed since this run began: {line}")
    dtype = np.dtype(devices.compute_dtype(config.compute_dtype)).name
    logs.say(f"devices: {jax.device_count()} x {jax.devices()[0].device_kind}, {dtype}, {config.devices.mapping}")
    samples = open_samples(config)
    looked_at = sample_pairs(config, validation, samples)
    store = devices.replicate(samples.store, mesh)

    for name, stage in stages.items():
        # ------------------------------------------------------------ one stage: state, resume
        total = config.stages[name].total_steps
        published = workdir / f"{name}.safetensors"
        if finished_steps(published) >= total:
            current = weights.load(published)
            logs.say(f"{name}: finished, {published}")
            continue
        state = devices.replicate(jax.jit(stage.init)(starting_variables(current, stage.generator)), mesh)
        manager = checkpoints.open_manager(
            workdir / "checkpoints" / name,
            keep=config.keep_checkpoints,
            best_metric=config.validation.best if validation else "",
        )
        state = checkpoints.restore(manager, state) or state
        start = int(state.step)
        logs.truncate_metrics(workdir / "metrics.jsonl", config.stage_names, name, start)
        if start:
            logs.say(f"{name}: resumed after update {start}")
        log = logs.StageLog(workdir, name, start, total, batch_size)
        features, extractor_variables = extractors[name]
        update = devices.map_update(make_update(config, stage, features), mesh, config.devices.mapping)
        frozen = {"store": store, "extractor": devices.replicate(extractor_variables, mesh)}
        sharded = devices.shard({"indices": indices}, mesh, config.devices.mapping)
        stream = samples.windows(np.asarray(state.seed), range(start, total)) if samples.windows else None
        logs.say(f"{name}: {steps.count_parameters(state.generator.params):,} parameters; compiling the update")

        # ------------------------------------------------------------ updates
        with stop_signals() as signals:
            for step in range(start + 1, total + 1):
                if profile and step - start == PROFILED_STEPS.start:
                    jax.profiler.start_trace(str(workdir / "profile"))
                if stream is not None:
                    windows = {"indices": indices, "windows": next(stream)}
                    sharded = devices.shard(windows, mesh, config.devices.mapping)
                with jax.transfer_guard("disallow"):
                    state, metrics = update(state, frozen, sharded)
                if devices.must_block():
                    jax.block_until_ready(state)
                log.advance()
                if profile and step - start == PROFILED_STEPS.stop:
                    jax.block_until_ready(state)
                    jax.profiler.stop_trace()
                    logs.say(f"trace of updates in {workdir / 'profile'}")

                # ---------------------------------------------------- numbers, pictures, checkpoints
                stopping = step == total or bool(signals)
                first = step == start + 1
                if first or stopping or step % config.log_every_steps == 0:
                    values = {key: float(value) for key, value in jax.device_get(metrics).items()}
                    if not math.isfinite(values["loss"]):
                        raise FloatingPointError(
                            f"{name}: the loss is {values['loss']} at update {step}, not so at most "
                            f"{config.log_every_steps} updates before; try --debug_nans, or a lower learning rate"
                        )
                    log.write(
                        step, values, shown=("loss", *stage.terms, "d_loss", "d_accuracy_real", "d_accuracy_fake")
                    )
                    if first:
                        logs.say(
                            f"{name}: loss at update {step}: " + logs.format_terms({k: values[k] for k in stage.terms})
                        )
                scores = {}
                if step % config.validate_every_steps == 0 or step == total:
                    averaged = averaged_generator(state, stage.generator)
                    scores = validate(averaged, validation, config)
                    log.write(step, {f"val_{key}": value for key, value in scores.items()})
                    if scores:
                        text = ", ".join(f"{key} {value:.4g}" for key, value in scores.items())
                        logs.say(f"{name}: update {step}: validation {text}")
                    log.picture(step, draw_samples(averaged, looked_at, workdir / "samples" / f"{name}_{step:07d}.png"))
                if stopping or step % config.save_every_steps == 0:
                    checkpoints.save(manager, step, state, scores)
                if signals and step < total:
                    break
            manager.wait_until_finished()

        # ------------------------------------------------------------ the end of a stage
        manager.close()
        log.close()
        if step < total:
            logs.say(f"{name}: saved after update {step}; the same command goes on from there")
            raise SystemExit(128 + signals[0])
        current = averaged_generator(state, stage.generator)
        provenance = {"stage": name, "steps": str(total), "dataset": str(config.data.dataset)}
        weights.save(published, current, provenance | {f"val_{key}": f"{value:.4f}" for key, value in scores.items()})
        logs.say(f"{name}: finished, {published}")

    shutil.copyfile(published, workdir / "generator.safetensors")
    return current


def validate(averaged: weights.Weights, pairs: list[evaluate.Pair], config: Any) -> dict[str, float]:
    """Mean scores over the validation pictures."""
    if not pairs:
        return {}
    results = evaluate.upscale_all(functools.partial(inference.upscale_canvas, averaged), pairs)
    return evaluate.mean(evaluate.score(pairs, results, config.validation.metrics))


def draw_samples(averaged: weights.Weights, pairs: list[evaluate.Pair], path: Path) -> np.ndarray:
    """Writes and returns a sheet of LR | SR | HR."""
    results = evaluate.upscale_all(functools.partial(inference.upscale_canvas, averaged), pairs)
    rows = [(pair.lr, result, pair.hr) for pair, result in zip(pairs, results, strict=True)]
    return logs.write_samples(path, rows)
