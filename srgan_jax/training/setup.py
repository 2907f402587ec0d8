"""What a stage of training is made of, from its config: modules, the pure update, the weights it starts from."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from srgan_jax import models, weights
from srgan_jax.data import sampling
from srgan_jax.evaluation import metrics
from srgan_jax.losses import ADVERSARIAL, PIXEL
from srgan_jax.models.extractors import FEATURE_SCALE
from srgan_jax.runtime import devices, messages
from srgan_jax.runtime.errors import UserError, lookup
from srgan_jax.training import gan_step, mapping, pretrain_step
from srgan_jax.training.batch_plan import make_batch, margin_px
from srgan_jax.training.optimizers import create_optimizer
from srgan_jax.training.state import create_train_state

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


def _optimizer(options: Any, learning_rate: float) -> Any:
    keys = ("total_steps", "schedule", "drop_factor", "warmup_steps")
    keys += ("optimizer", "b1", "b2", "weight_decay", "clip_norm")
    return create_optimizer(learning_rate, drops=tuple(options.drops), **{key: options[key] for key in keys})


def make_stage(config: Any, name: str) -> Stage:
    """Modules, optimisers and the pure step of the stage `name`."""
    options = config.stages[name]
    axis_name = lookup(mapping.MAPPINGS, config.devices.mapping, "config.devices.mapping")
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
        return create_train_state(seed, generator, step_options["optimizer"], variables=variables, **init_options)

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
    return pretrain_step.pretrain_step(state, batches[0], features, **options)


def _gan_update(state, batches, features, *, updates, **options):
    """The generator gets the last batch: the discriminator's last one, or one of its own."""
    return gan_step.gan_step(state, batches[-1], features, discriminator_batches=batches[:updates], **options)


def load_extractor(config: Any, stage: str) -> tuple[Callable | None, Any]:
    """`features(variables, images)` for the perceptual loss of a stage, and its variables; None where it has none."""
    options = config.stages[stage]
    if not options.perceptual_weight:
        return None, None
    name = config.extractor.name
    variables, header = weights.load_extractor(name, config.extractor.weights)
    convention = header["convention"]
    scale = lookup(FEATURE_SCALE, convention, f"{name} convention")
    module = models.build(
        models.EXTRACTORS,
        {"name": name, "taps": tuple(options.perceptual_taps), "convention": convention},
        dtype=devices.compute_dtype(config.compute_dtype),
    )
    taps = ", ".join(options.perceptual_taps)
    messages.report(
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
