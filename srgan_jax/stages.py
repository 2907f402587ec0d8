"""What a stage of training is made of, from its config: modules, the pure update, the weights it starts from."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from srgan_jax import devices, logs, metrics, models, steps, weights
from srgan_jax.data import pipeline, sampling
from srgan_jax.degradations import DEGRADATIONS
from srgan_jax.errors import UserError, lookup
from srgan_jax.losses import ADVERSARIAL, PIXEL
from srgan_jax.models.extractor import FEATURE_SCALE, TAPS
from srgan_jax.optimizers import create_optimizer
from srgan_jax.resize import kernel_reach_px

STAGE_SEED_STRIDE = 7919  # each stage has its own order of samples


class Stage(NamedTuple):
    """What a stage is made of, from its config."""

    generator: Any
    step: Callable  # (state, batch, features) -> (state, metrics)
    init: Callable  # (variables of the generator or None) -> TrainState
    terms: tuple[str, ...]  # the metrics that add up to the generator's loss


def check_names(config: Any) -> None:
    """Looks up every name that is used later, so that a misspelt one stops the run before it trains for a week."""
    lookup(DEGRADATIONS, config.data.degradation, "degradation")
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
        stage = lookup(dict(config.stages), name, "stage")
        lookup(PIXEL, stage.pixel, "pixel loss")
        lookup(PIXEL, stage.perceptual, "perceptual loss")
        lookup(ADVERSARIAL, stage.get("adversarial", "bce"), "adversarial loss")
        for tap in stage.perceptual_taps:
            lookup(dict.fromkeys(TAPS), tap, "VGG19 feature")
        if not any(stage.get(f"{term}_weight") for term in ("pixel", "perceptual", "tv", "adversarial")):
            raise UserError(f"every weight of config.stages.{name} is 0: there is no loss")
    if config.data.crop_px < 1 or config.data.crop_px % config.generator.scale:
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
        create_optimizer,
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
    step = steps.pretrain_step
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
    return Stage(generator, functools.partial(step, **step_options), init, terms)


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


def starting_variables(start: weights.Weights | None, generator: Any) -> Any:
    """The variables of `start`, which must be of the architecture of `generator`; None where there is no start."""
    if start is None:
        return None
    expected = models.architecture_of(models.GENERATORS, generator)
    differing = [f"{key} {start.architecture.get(key)} instead of {value}" for key, value in expected.items()
                 if start.architecture.get(key) != value]  # fmt: skip
    if differing:
        raise UserError(
            f"the weights to start from are of another architecture: {', '.join(differing)}"
            + (
                "; weights saved after srgan_jax.load need load(..., fold=False)"
                if start.architecture.get("norm") == "none"
                else ""
            )
        )
    return start.variables


def averaged_generator(state: steps.TrainState, generator: Any) -> weights.Weights:
    """The averaged generator as `Weights`, on the host."""
    variables = jax.device_get(dict(state.ema))
    return weights.make_weights(variables, models.architecture_of(models.GENERATORS, generator))
