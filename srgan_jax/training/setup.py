"""`build`: makes the stages of a run from its config, and checks them by shape before any image is opened."""

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from srgan_jax import models, weights
from srgan_jax.config.schema import (
    DataConfig,
    ExtractorConfig,
    GanStageConfig,
    LossConfig,
    Options,
    RunConfig,
    StageConfig,
)
from srgan_jax.data.batch_plan import BatchPlan
from srgan_jax.data.batches import AUGMENTATIONS
from srgan_jax.data.sources import SOURCES
from srgan_jax.degradations import DEGRADATIONS, options_for
from srgan_jax.evaluation import metrics
from srgan_jax.losses.terms import DISCRIMINATOR_TERMS, TERMS, Term, WeightedTerm, ramp, taps_of, views_of
from srgan_jax.models.extractors import FEATURE_SCALE
from srgan_jax.models.protocols import check_discriminator, check_extractor, takes_of
from srgan_jax.ops.resize_uint8 import RESIZINGS
from srgan_jax.runtime import devices, messages
from srgan_jax.runtime.errors import UserError, lookup
from srgan_jax.runtime.types import PyTree
from srgan_jax.training import bands
from srgan_jax.training.check_by_shape import check_by_shape
from srgan_jax.training.game import Averaging, Game, Optimizer, Player
from srgan_jax.training.mapping import MAPPINGS
from srgan_jax.training.network_fields import find_generator, select_keys
from srgan_jax.training.optimizers import create_optimizer
from srgan_jax.training.stage import Extractor, Intervals, Stage
from srgan_jax.training.steps import STEPS
from srgan_jax.training.writers import WRITERS

STAGE_SEED_STRIDE = 7919  # difference of the seeds of two stages, so that their sample orders differ
DEFAULTS = RunConfig()


def build(
    run: RunConfig, opponent: weights.DiscriminatorWeights | None = None, platform: str | None = None
) -> tuple[Stage, ...]:
    """Returns the stages of a run, each checked by shape, so that errors show before anything runs.

    Args:
      run: the config.
      opponent: with which the discriminator of each stage begins; its architecture is `run.discriminator`.
      platform: of the devices that the update is compiled for: "cpu", "gpu" or "tpu"; None is the default backend.

    Raises:
      UserError: a name or an option is unknown, weights are missing, or networks, losses and crops don't fit together.
        The message names the key.
    """
    validation = bands.with_metrics(run.validation, run.data)
    for metric in validation.metrics:
        if metrics.find(metric).target is not None and metric == validation.best:
            raise UserError(
                f"config.validation.best={metric!r}: expected a metric that is better where it is higher or lower"
            )
    lookup(SOURCES, run.data.source, "config.data.source")
    lookup(models.EXTRACTORS, run.extractor.name, "network")
    for name in run.loggers:
        lookup(WRITERS, name, "config.loggers")
    section = bands.with_channels(run.generator, run.data)
    fields = select_keys(find_generator(str(run.generator["name"])), section, DEFAULTS.generator)
    bands.check_bands(run.data, fields, validation.metrics)
    plan = make_plan(run.data, run.degradation, fields)
    _check_sizes(run.data.crop_px, run.data.resize_px, plan.scale)
    axis_name = lookup(MAPPINGS, run.devices.mapping, "config.devices.mapping")
    platform = platform or jax.default_backend()
    dtype = devices.compute_dtype(run.compute_dtype, platform)
    runtime = {"dtype": dtype, "axis_name": axis_name if run.devices.sync_bn else None}
    common = {"averaging": Averaging(run.micro_batches, axis_name, scan=platform != "cpu"), "ema_decay": run.ema_decay}
    stages = []
    for index, name in enumerate(run.stage_names):
        config = run.stages[name]
        step = lookup(STEPS, config.step, "step")
        generator = models.build(models.GENERATORS, fields, remat=run.remat, **runtime)
        g = make_generator(generator, config)
        d = None
        if step.has_discriminator:
            d = make_discriminator(run.discriminator, config, plan.crop_px, run.remat, runtime)
        extractor = find_extractor(run.extractor, g, d, dtype, run.remat, name, plan.bands)
        updates = config.discriminator_updates if isinstance(config, GanStageConfig) else 1
        game = Game(g, d, grad_share=run.log_grad_share, discriminator_updates=updates, **common)
        intervals = Intervals(
            config.total_steps, run.steps_per_call, run.log_every_steps, run.validate_every_steps,
            run.show_every_steps, run.save_every_steps,
        )  # fmt: skip
        seed = run.seed + STAGE_SEED_STRIDE * index
        start = opponent.variables if opponent and d else None
        stages.append(Stage(name, config, generator, step, game, plan, extractor, intervals, seed, start))
        check_by_shape(stages[-1])
    if opponent and not any(stage.game.discriminator for stage in stages):
        raise UserError(
            f"config.discriminator_init_from={run.discriminator_init_from!r} needs a stage with a discriminator; "
            f"config.stage_names={run.stage_names} has none"
        )
    return tuple(stages)


def make_plan(data: DataConfig, degradation: Options, generator: Options) -> BatchPlan:
    """Returns how batches are made."""
    scale = _scale_of(generator)
    lookup(AUGMENTATIONS, data.augment, "config.data.augment")
    lookup(RESIZINGS, data.resize_kernel, "config.data.resize_kernel")
    plan = BatchPlan(
        scale, data.crop_px, data.batch_size, data.augment, halo_px=data.halo_px, min_contrast=data.min_contrast,
        bands=bands.bands_of(data).count,
    )  # fmt: skip
    if data.lr_from_original:
        return dataclasses.replace(plan, lr_of_original=_find_lr_of_original(data, degradation))
    if data.lr:
        return plan
    degrade, radius_px = find_degradation(degradation, scale, data)
    return dataclasses.replace(plan, rescale=data.rescale, degrade=degrade, radius_px=radius_px)


def _find_lr_of_original(data: DataConfig, degradation: Options) -> Callable[..., np.ndarray]:
    """Returns `(original, size) -> lr` of the degradation with its options."""
    if not data.resize_px or data.lr:
        raise UserError(
            "config.data.lr_from_original=True: expected config.data.resize_px above 0, the side of HR in pixels, and "
            f"no config.data.lr_feature; got {data.resize_px} and {data.lr!r}"
        )
    degrade, _ = find_degradation(degradation, 1)  # checks the options
    found = {name: entry.of_original for name, entry in DEGRADATIONS.items() if entry.of_original}
    of_original = lookup(found, str(degradation["name"]), "degradation of original images")
    return functools.partial(of_original, **degrade.keywords)


def find_degradation(section: Options, scale: int, data: DataConfig | None = None) -> tuple[functools.partial, int]:
    """Returns `(key, hr, *, scale) -> lr` with its options, and the number of HR pixels around a crop that it reads.

    LR has the bits of `data`, by default 8.
    """
    options = {name: value for name, value in section.items() if name != "name"}
    options |= options_for(str(section["name"]), bands.bands_of(data)) if data else {}
    entry = lookup(DEGRADATIONS, str(section["name"]), "degradation")
    valid = dict.fromkeys(name for name in inspect.getfullargspec(entry.degrade).kwonlyargs if name != "scale")
    for option in options:
        lookup(valid, option, f"option of {section['name']}")
    return functools.partial(entry.degrade, **options), entry.radius_px(scale=scale, **options)


def _scale_of(generator: Options) -> int:
    fields = models.fields_of(find_generator(str(generator["name"])))
    return cast(int, generator.get("scale", fields["scale"]))


def _check_sizes(crop_px: int, resize_px: int, scale: int) -> None:
    if scale < 1:
        raise UserError(f"config.generator.scale={scale}: expected 1 or more")
    if crop_px % scale:
        raise UserError(f"config.data.crop_px={crop_px}: expected a multiple of the scale {scale}")
    if 0 < resize_px < crop_px or resize_px % scale:
        raise UserError(
            f"config.data.resize_px={resize_px}: expected a multiple of the scale {scale}, at least "
            f"config.data.crop_px={crop_px}; or 0 for no resizing"
        )


def _optimizer(config: StageConfig, learning_rate: float) -> Optimizer:
    averaging = config.historical_averaging if isinstance(config, GanStageConfig) else 0.0
    return Optimizer(create_optimizer(config, learning_rate), config.clip_norm, averaging)


def make_generator(module: nn.Module, config: StageConfig) -> Player:
    """Returns the generator of a stage as a player. Its module has a `remat` option of its own."""
    return Player(module, _optimizer(config, config.learning_rate), weighted_terms(config.losses, TERMS, "loss term"))


def make_discriminator(
    section: Options, config: StageConfig, crop_px: int, remat: bool, runtime: Mapping[str, PyTree]
) -> Player:
    """Returns the discriminator of a stage as a player."""
    if not isinstance(config, GanStageConfig):
        raise UserError(f"step={config.step}: expected a stage with discriminator_losses, as in config.stages.gan")
    name = str(section["name"])
    kind = lookup(models.DISCRIMINATORS, name, "network")
    check_discriminator(name, kind)
    fields = dict(select_keys(kind, section, DEFAULTS.discriminator))
    if "crop_px" in models.fields_of(kind):
        fields["crop_px"] = crop_px
    module = models.build(models.DISCRIMINATORS, fields, **runtime)
    optimizer = _optimizer(config, config.discriminator_learning_rate)._replace(every=config.discriminator_every)
    terms = weighted_terms(config.discriminator_losses, DISCRIMINATOR_TERMS, "term of a discriminator's loss")
    return Player(module, optimizer, terms, takes_of(kind), remat=remat)


def find_extractor(
    config: ExtractorConfig, g: Player, d: Player | None, dtype: jnp.dtype, remat: bool, stage: str, channels: int
) -> Extractor | None:
    """Returns the extractor if a term or the discriminator of a stage reads features, else None.

    Raises:
      UserError: images of `channels` other than three, which extractors don't take.
    """
    terms = (*g.losses, *(d.losses if d else ()))
    taps = taps_of(terms)
    own_taps = getattr(d.module, "taps", ()) if d and "features" in d.takes else ()
    if not own_taps and "features" not in views_of(terms):
        return None
    if channels != 3:
        readers = [term.name for term in terms if "features" in term.term.views] + ["discriminator"] * bool(own_taps)
        raise UserError(
            f"config.stages.{stage}: {', '.join(readers)} read features of {config.name}, which takes RGB, but the "
            f"data has {channels} bands; set weights such as config.stages.{stage}.losses.perceptual.weight=0 and "
            f"config.stages.{stage}.losses.pixel.weight=1, or config.data.channels=3"
        )
    taps = tuple(dict.fromkeys([*taps, *own_taps]))
    return load_extractor(config, taps, dtype, stage)._replace(remat=remat)


def weighted_terms(losses: Mapping[str, LossConfig], table: Mapping[str, Term], what: str) -> tuple[WeightedTerm, ...]:
    """Returns the terms of non-zero weight. Checks the names of all terms, and the options of those returned."""
    entries = {name: (loss, lookup(table, loss.term, what)) for name, loss in losses.items()}
    used = {name: (loss, term) for name, (loss, term) in entries.items() if loss.weight}
    for name, (loss, term) in used.items():
        _check_options(name, term, loss.options)
    adaptive = [name for name, (loss, _) in used.items() if loss.grad_ratio]
    if adaptive and (len(adaptive) > 1 or len(used) == 1 or table is not TERMS):
        raise UserError(
            f"grad_ratio of {', '.join(adaptive)}: expected one term of the generator's loss, beside others"
        )
    return tuple(
        WeightedTerm(name, term, ramp(loss.weight, loss.ramp_steps), loss.options, loss.grad_ratio)
        for name, (loss, term) in used.items()
    )


def _check_options(name: str, term: Term, options: Options) -> None:
    arguments = inspect.getfullargspec(term.function)
    bound = term.function.keywords if isinstance(term.function, functools.partial) else {}
    valid = dict.fromkeys(
        argument for argument in (*arguments.args[1:], *arguments.kwonlyargs) if argument not in bound
    )
    for option in options if not arguments.varkw else ():
        lookup(valid, option, f"option of the loss term {name!r}")


def load_extractor(config: ExtractorConfig, taps: Sequence[str], dtype: jnp.dtype, stage: str) -> Extractor:
    """Returns the extractor with its weights, which computes the features of `taps` only."""
    network = lookup(models.EXTRACTORS, config.name, "network")
    check_extractor(config.name, network)
    for tap in taps:
        lookup(dict.fromkeys(network.TAPS), tap, f"{config.name} feature")
    variables, header = weights.load_extractor(config.name, config.weights)
    convention = config.preprocessing or header["convention"]
    scale = lookup(FEATURE_SCALE, convention, f"{config.name} convention")
    description = {"name": config.name, "taps": tuple(taps), "convention": convention}
    module = models.build(models.EXTRACTORS, description, dtype=dtype)
    messages.report(
        f"{stage}: {config.name} {', '.join(taps)}, {header['convention']} weights, "
        f"{convention} input, features x {scale:.4g}"
    )

    def apply(variables: PyTree, image: jax.Array) -> Mapping[str, jax.Array]:
        found = cast(Mapping[str, jax.Array], module.apply(variables, image))
        return {tap: scale * feature for tap, feature in found.items()}

    return Extractor(apply, variables)
