"""Checks a stage by tracing it with `jax.eval_shape`, so that errors show before anything is computed."""

import dataclasses
import functools
from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from srgan_jax.runtime.errors import UserError
from srgan_jax.runtime.types import PyTree
from srgan_jax.training.game import Batch, Player
from srgan_jax.training.players import discriminator_loss, forward, generator_loss
from srgan_jax.training.stage import Stage, with_features
from srgan_jax.training.state import TrainState


def check_by_shape(stage: Stage) -> None:
    """Traces initialisation, losses and inference of a stage, without computing them.

    Raises:
      UserError: tracing failed, or SR has another size than HR. The message gives the reason.
    """
    local = without_pmap_axis(stage)
    plan = stage.plan
    count = stage.game.averaging.microbatches
    sides = (plan.crop_px, plan.crop_px // plan.scale)
    hr, lr = (jax.ShapeDtypeStruct((count, side, side, plan.bands), jnp.float32) for side in sides)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), count))
    try:
        state = jax.eval_shape(local.init, None, stage.discriminator_variables)
        batch = {"hr": hr, "lr": lr, "keys": keys}
        variables = None if stage.extractor is None else stage.extractor.variables
        jax.eval_shape(functools.partial(_losses, local), state, batch, variables)
        if not stage.step.function.__module__.startswith("srgan_jax."):  # a step of the user
            jax.eval_shape(functools.partial(_update, local), state, [batch] * stage.draws, variables)
        mask = jax.ShapeDtypeStruct((*lr.shape[:3], 1), jnp.float32)
        sr = jax.eval_shape(lambda ema, lr, mask: local.generator.apply(ema, lr, mask=mask), dict(state.ema), lr, mask)
    except UserError as error:
        raise UserError(f"config.stages.{stage.name}: {error}") from None
    except Exception as error:  # networks and losses, those of users too, raise exceptions of any kind
        text = " ".join(str(error).split())[:500] or type(error).__name__
        notes = [note for note in getattr(error, "__notes__", []) if note.startswith("in the loss term")]
        where = f" ({', '.join(notes)})" if notes else ""
        raise UserError(f"config.stages.{stage.name} can't be built: {type(error).__name__}: {text}{where}") from error
    if sr.shape != hr.shape:
        raise UserError(
            f"config.generator: expected SR of shape {hr.shape[1:]} for LR of {lr.shape[1:]}, got {sr.shape[1:]}"
        )


def _losses(stage: Stage, state: TrainState, batch: Batch, variables: PyTree) -> PyTree:
    """Returns the losses of both players with their metrics."""
    game, d, step = with_features(stage.game, stage.extractor, variables), state.discriminator, state.step
    g = state.generator
    sr, _ = forward(game.generator, g.params, g.batch_stats, batch["lr"])
    g_loss = generator_loss(sr, game, d, batch, step)
    return g_loss, None if d is None else discriminator_loss(d.params, game, d, batch, sr, step)


def _update(stage: Stage, state: TrainState, batches: Sequence[Batch], variables: PyTree) -> PyTree:
    return stage.step.function(state, batches, with_features(stage.game, stage.extractor, variables))


def without_pmap_axis(stage: Stage) -> Stage:
    """Returns the stage without the axis of pmap, which is undefined outside pmap."""

    def without_axis(player: Player) -> Player:
        return player._replace(module=_clear_axis_name(player.module))

    game = stage.game
    game = dataclasses.replace(
        game, generator=without_axis(game.generator),
        discriminator=without_axis(game.discriminator) if game.discriminator else None,
        averaging=game.averaging._replace(axis_name=None),
    )  # fmt: skip
    return dataclasses.replace(stage, game=game, generator=game.generator.module)


def _clear_axis_name(module: nn.Module) -> nn.Module:
    return module.clone(axis_name=None) if hasattr(module, "axis_name") else module
