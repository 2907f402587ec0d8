"""What a stage of training is made of, from its config: modules, the pure update, the weights it starts from."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from srgan_jax import adversarial, devices, logs, metrics, models, steps, weights
from srgan_jax.data import pipeline, sampling
from srgan_jax.degradations import DEGRADATIONS
from srgan_jax.errors import UserError, lookup
from srgan_jax.losses import ADVERSARIAL, PIXEL
from srgan_jax.models.extractor import FEATURE_SCALE
from srgan_jax.optimizers import create_optimizer

STAGE_SEED_STRIDE = 7919  # each stage has its own order of samples


class Stage(NamedTuple):
    """What a stage is made of, from its config."""

    generator: Any
    step: Callable  # (state, batches, features) -> (state, metrics)
    init: Callable  # (variables of the generator or None) -> TrainState
    terms: tuple[str, ...]  # the metrics that add up to the generator's loss
    draws: int = 1  # batches that an update takes


def check_names(config: Any) -> None:
    """Looks up every name that is used later, so that a misspelt one stops the run before it trains for a week."""
    margin_px(config)
    for metric in config.validation.metrics:
        metrics.find(metric)
    if config.validation.best not in config.validation.metrics:
        raise UserError(
            f"config.validation.best={config.validation.best!r} is not among config.validation.metrics: "
            f"{', '.join(config.validation.metrics)}"
        )
    if not config.stage_names:
        raise UserError(f"config.stage_names is empty; stages: {', '.join(sorted(config.stages))}")
    for name in config.stage_names:
        _check_stage(name, lookup(dict(config.stages), name, "stage"), config.extractor.name)
    _check_sizes(config.data, config.generator.scale)


def _check_sizes(data: Any, scale: int) -> None:
    if data.crop_px < 1 or data.crop_px % scale:
        raise UserError(f"config.data.crop_px={data.crop_px} is not a multiple of the scale {scale}")
    if 0 < data.resize_px < data.crop_px or data.resize_px % scale:
        raise UserError(
            f"config.data.resize_px={data.resize_px}: expected a multiple of the scale {scale}, and no less than "
            f"config.data.crop_px={data.crop_px}"
        )
    if not 0 < data.rescale <= 1:
        raise UserError(f"config.data.rescale={data.rescale}: expected more than 0 and at most 1")


def _check_stage(name: str, stage: Any, extractor: str) -> None:
    lookup(PIXEL, stage.pixel, "pixel loss")
    lookup(PIXEL, stage.perceptual, "perceptual loss")
    lookup(ADVERSARIAL, stage.get("adversarial", "bce"), "adversarial loss")
    lookup(models.EXTRACTORS, extractor, "network")
    for tap in stage.perceptual_taps if stage.perceptual_weight else ():
        lookup(dict.fromkeys(models.EXTRACTORS[extractor].TAPS), tap, f"{extractor} feature")
    if len(stage.perceptual_tap_weights) not in (0, len(stage.perceptual_taps)):
        raise UserError(
            f"config.stages.{name}.perceptual_tap_weights has {len(stage.perceptual_tap_weights)} numbers for "
            f"{len(stage.perceptual_taps)} perceptual_taps"
        )
    if not any(stage.get(f"{term}_weight") for term in ("pixel", "perceptual", "tv", "adversarial")):
        raise UserError(f"every weight of config.stages.{name} is 0: there is no loss")
    if stage.get("discriminator_updates", 1) < 1 or stage.get("discriminator_every", 1) < 1:
        raise UserError(f"config.stages.{name}: discriminator_updates and discriminator_every must be 1 or more")


def _degradation(config: Any) -> tuple[Callable, dict[str, Any], int]:
    """The function, its keyword arguments, and its margin: a multiple of the scale."""
    options = dict(config.degradation)
    name, scale = options.pop("name"), config.generator.scale
    degrade, reach_px = lookup(DEGRADATIONS, name, "degradation")
    valid = dict.fromkeys(inspect.getfullargspec(degrade).kwonlyargs)
    valid.pop("scale")
    for option in options:
        lookup(valid, option, f"option of {name}")
    return degrade, options, -(-reach_px(scale=scale, **options) // scale) * scale


def degradation(config: Any) -> Callable:
    """`(key, hr) -> lr` as the config has it."""
    degrade, options, _ = _degradation(config)
    return functools.partial(degrade, scale=config.generator.scale, **options)


def margin_px(config: Any) -> int:
    """HR pixels around a crop that its LR image depends on; 0 where the LR picture is given."""
    return 0 if config.data.lr_feature else _degradation(config)[2]


def geometry(config: Any) -> dict[str, int]:
    """`crop_px`, `margin_px` and `channels` of the windows that the data sources cut; of pairs, in LR pixels."""
    data, scale = config.data, config.generator.scale
    if data.lr_feature:
        return {"crop_px": data.crop_px // scale, "margin_px": 0, "channels": 3 * scale**2 + 3}
    crop, margin = sampling.rescaled_window(data.crop_px, margin_px(config), data.rescale)
    return {"crop_px": crop, "margin_px": margin, "channels": 3}


def _optimizer(options: Any, learning_rate: float) -> Any:
    keys = ("total_steps", "schedule", "drop_factor", "warmup_steps")
    keys += ("optimizer", "b1", "b2", "weight_decay", "clip_norm")
    return create_optimizer(learning_rate, drops=tuple(options.drops), **{key: options[key] for key in keys})


def make_stage(config: Any, name: str) -> Stage:
    """Modules, optimisers and the pure step of the stage `name`."""
    options = config.stages[name]
    axis_name = lookup(devices.MAPPINGS, config.devices.mapping, "config.devices.mapping")
    bn_axis = axis_name if config.devices.sync_bn else None
    runtime = {"dtype": devices.compute_dtype(config.compute_dtype), "axis_name": bn_axis}
    generator = models.build(models.GENERATORS, config.generator, remat=config.remat, **runtime)
    content = ("pixel", "pixel_weight", "perceptual", "perceptual_weight", "perceptual_tap_weights", "tv_weight")
    step_options = {
        "generator": generator,
        "optimizer": _optimizer(options, options.learning_rate),
        "losses": {key: options[key] for key in content},
        "ema_decay": config.ema_decay,
        "axis_name": axis_name,
        "micro_batches": config.micro_batches,
    }
    init_options, draws = {"crop_px": config.data.crop_px}, 1
    if "adversarial" in options:
        networks, step_options, draws = _gan_options(config, options, step_options, runtime)
        step = functools.partial(_gan_update, updates=options.discriminator_updates, **networks, **step_options)
        init_options |= networks | {"with_history": options.historical_averaging > 0}
    else:
        step = functools.partial(_pretrain_update, **step_options)
    seed = config.seed + STAGE_SEED_STRIDE * list(config.stage_names).index(name)

    def init(variables):
        return steps.create_train_state(seed, generator, step_options["optimizer"], variables=variables, **init_options)

    weighted = {
        "pixel": options.pixel_weight,
        "perceptual": options.perceptual_weight,
        "total_variation": options.tv_weight,
        "adversarial": options.get("adversarial_weight", 0.0),
    }
    return Stage(generator, step, init, tuple(term for term, weight in weighted.items() if weight), draws)


def _gan_options(config: Any, options: Any, step_options: dict, runtime: dict) -> tuple[dict, dict, int]:
    """The discriminator with its optimiser, all keyword arguments of `gan_step` besides, and the batches it takes."""
    described = dict(config.discriminator)
    if "crop_px" in models.fields_of(lookup(models.DISCRIMINATORS, described["name"], "network")):
        described["crop_px"] = config.data.crop_px
    networks = {
        "discriminator": models.build(models.DISCRIMINATORS, described, **runtime),
        "discriminator_optimizer": _optimizer(options, options.discriminator_learning_rate),
    }
    if options.label_smoothing:  # refused by the losses that have no labels
        ADVERSARIAL[options.adversarial].discriminator(np.zeros(1), np.zeros(1), 1.0 - options.label_smoothing)
    keys = ("adversarial", "adversarial_weight", "discriminator_every", "generator_first", "historical_averaging")
    step_options = step_options | {key: options[key] for key in keys} | {"remat": config.remat}
    step_options["discriminator_losses"] = {
        "label_smoothing": options.label_smoothing,
        "gradient_penalty_weight": options.gradient_penalty,
    }
    return networks, step_options, options.discriminator_updates + options.fresh_batch


def _pretrain_update(state, batches, features, **options):
    return steps.pretrain_step(state, batches[0], features, **options)


def _gan_update(state, batches, features, *, updates, **options):
    """The generator gets the last batch: the discriminator's last one, or one of its own."""
    return adversarial.gan_step(state, batches[-1], features, discriminator_batches=batches[:updates], **options)


def load_extractor(config: Any, stage: str) -> tuple[Callable | None, Any]:
    """`features(variables, images)` for the perceptual loss of a stage, and its variables; None where it has none."""
    options = config.stages[stage]
    if not options.perceptual_weight:
        return None, None
    name = config.extractor.name
    variables, header = weights.load_extractor(config.extractor.weights, name)
    convention = header["convention"]
    scale = lookup(FEATURE_SCALE, convention, f"{name} convention")
    module = models.build(
        models.EXTRACTORS,
        {"name": name, "taps": tuple(options.perceptual_taps), "convention": convention},
        dtype=devices.compute_dtype(config.compute_dtype),
    )
    taps = ", ".join(options.perceptual_taps)
    logs.say(
        f"{stage}: {name} {taps}, {convention} weights, features x {scale:.4g}, weight {options.perceptual_weight:g}"
    )

    def features(variables, image):
        return {tap: scale * feature for tap, feature in module.apply(variables, image).items()}

    return features, variables


def make_update(config: Any, stage: Stage, features: Callable | None) -> Callable:
    """`update(state, frozen, sharded)`: crops, LR images and the step, pure, for one device's share of the batch.

    `frozen` holds the tiles ("store") and the extractor's variables; `sharded` the samples' positions in the global
    batch ("indices") and, where crops come from the host, their "windows" `[B, draws, ...]`.
    """

    def update(state, frozen, sharded):
        batches, seed = [], sampling.salted(state.seed, state.health.rollbacks)
        for number in range(stage.draws):
            step, windows = state.step * stage.draws + number, sharded.get("windows")
            windows = None if windows is None else windows[:, number]
            batches.append(make_batch(config, seed, step, sharded["indices"], frozen["store"], windows))
        see = None if features is None else functools.partial(features, frozen["extractor"])
        return stage.step(state, batches, jax.checkpoint(see) if see and config.remat else see)

    return update


def make_batch(
    config: Any, seed: jax.Array, step: jax.Array, indices: jax.Array, store: Any, windows: jax.Array | None = None
) -> dict[str, jax.Array]:
    """ "hr", "lr" and "keys" of the samples at `indices` of the global batch number `step`.

    Their crops are gathered from the tiles in `store`, or are given as `windows`.
    """
    data, scale = config.data, config.generator.scale
    keys = sampling.sample_keys(seed, step, indices)
    cut = geometry(config)
    if windows is None:
        chosen = sampling.choose_pictures(seed, step, indices, data.batch_size, store["sizes"].shape[0])
        cut = {"crop_px": cut["crop_px"], "margin_px": cut["margin_px"]}
        windows = pipeline.gather_windows(store, chosen, keys, **cut)
    if data.lr_feature:
        batch = sampling.make_paired_batch(windows, keys, scale=scale, augment=data.augment)
    else:
        degrade, options, margin = _degradation(config)
        degrade = functools.partial(degrade, **options)
        options = {"augment": data.augment, "rescale": data.rescale, "crop_px": data.crop_px}
        batch = sampling.make_batch(windows, keys, degrade=degrade, scale=scale, margin_px=margin, **options)
    return batch | {"keys": keys}


def differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """The fields in which two architectures differ, with both values; where it is the name, that alone."""
    found = [(key, first.get(key), value) for key, value in second.items() if first.get(key) != value]
    return [field for field in found if field[0] == "name"] or found


def with_generator_of(start: weights.Weights | None, config: Any) -> Any:
    """The config with the architecture of `start` as its generator, where it asks for that."""
    if not config.generator_of_init_from:
        return config
    if start is None:
        raise UserError("config.generator_of_init_from=True takes the generator from the weights to start from; name "
                        "them by --config.init_from=")  # fmt: skip
    listed = ", ".join(f"{key} {value}" for key, value in start.architecture.items())
    logs.say(f"the generator is that of {config.init_from} ({listed}); config.generator is not looked at")
    config = config.copy_and_resolve_references()
    config.generator = ConfigDict(dict(start.architecture))
    return config


def starting_variables(start: weights.Weights | None, generator: Any) -> Any:
    """The variables of `start`, which must be of the architecture of `generator`; None where there is no start.

    It may have fewer blocks: see `weights.deepen`.
    """
    if start is None:
        return None
    differences = differing(start.architecture, models.architecture_of(models.GENERATORS, generator))
    if [(key, wanted > found) for key, found, wanted in differences] == [("blocks", True)]:
        have, blocks = start.architecture["blocks"], generator.blocks
        logs.say(f"starts from weights of {have} blocks; the {blocks - have} behind them are new, and begin as nothing")
        return weights.deepen(start, blocks).variables
    if differences:
        listed = ", ".join(f"{key} {found} instead of {wanted}" for key, found, wanted in differences)
        raise UserError(
            f"the weights to start from are of another architecture: {listed}"
            + (
                "; weights saved after srgan_jax.load need load(..., fold=False)"
                if ("norm", "none", "batch") in differences
                else ""
            )
        )
    return start.variables


def averaged_generator(state: steps.TrainState, generator: Any) -> weights.Weights:
    """The averaged generator as `Weights`, on the host."""
    variables = jax.device_get(dict(state.ema))
    return weights.make_weights(variables, models.architecture_of(models.GENERATORS, generator))
