"""`Stage`: the modules of a stage, its step, and the update that the loop repeats."""

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from srgan_jax.config.schema import (
    StageConfig,
)
from srgan_jax.data import sampling
from srgan_jax.data.batch_plan import BatchPlan, draw_batch
from srgan_jax.losses.terms import Metrics
from srgan_jax.runtime.types import PyTree
from srgan_jax.training.game import Game, Player
from srgan_jax.training.grad_balance import balanced_term
from srgan_jax.training.state import TrainState, create_network_state, create_train_state
from srgan_jax.training.steps import Step


class Intervals(NamedTuple):
    """The intervals of logging, validation, previews and checkpoints, in updates."""

    total: int
    per_call: int
    log: int
    validate: int
    show: int
    save: int

    def logs(self, step: int) -> bool:
        """Returns whether the metrics of an update are logged: the first, the last, and every `log`-th one."""
        return step in (self.per_call, self.total) or step % self.log == 0

    def validates(self, step: int) -> bool:
        """Returns whether an update is followed by a validation: the first, the last, and every `validate`-th one."""
        return step in (self.per_call, self.total) or step % self.validate == 0

    def shows(self, step: int) -> bool:
        """Returns whether an update is followed by previews in TensorBoard only, without a validation."""
        return self.show > 0 and step % self.show == 0 and not self.validates(step)

    def saves(self, step: int) -> bool:
        """Returns whether an update is followed by a checkpoint."""
        return step % self.save == 0 or step == self.total


class Extractor(NamedTuple):
    """A network whose features are compared: `apply(variables, images) -> {tap: features}`."""

    apply: Callable[[PyTree, jax.Array], Mapping[str, jax.Array]]
    variables: PyTree
    remat: bool = False  # recompute activations for the gradient instead of storing them


@dataclasses.dataclass(frozen=True, eq=False)
class Stage:
    """A stage that is ready to run. It is equal only to itself, so it can be a static argument of compiled functions.

    Attributes:
      name: name in the config.
      config: section of the config.
      generator: Flax module of the generator.
      step: entry of `STEPS`.
      game: the players. The update adds `features`, because the extractor's variables are among its arguments.
      plan: how batches are made.
      extractor: None if no term and no discriminator reads features.
      intervals: when the stage logs, validates, draws previews and saves.
      seed: seed of samples and initialisation.
      discriminator_variables: with which the discriminator begins; None initialises it.
    """

    name: str
    config: StageConfig
    generator: nn.Module
    step: Step
    game: Game
    plan: BatchPlan
    extractor: Extractor | None
    intervals: Intervals
    seed: int
    discriminator_variables: PyTree = None

    @property
    def draws(self) -> int:
        """The number of batches that an update uses."""
        return self.step.batches(self.config)

    @property
    def norms_suffice(self) -> bool:
        """Whether finite metrics and batch statistics imply a finite update: see `nonfinite.skip_nonfinite`.

        With Adam and finite learning rates, every new parameter, moment and average is finite if the sum of the squared
        gradients is finite. For other optimisers, and steps without the norms of all gradients, each array is checked.
        """
        rates = (getattr(self.config, f"{name}learning_rate", 0.0) for name in ("", "discriminator_"))
        return self.step.norms_of_all and self.config.optimizer == "adam" and all(map(math.isfinite, rates))

    @property
    def terms(self) -> tuple[str, ...]:
        """The names of the terms of the generator's loss."""
        return tuple(term.name for term in self.game.generator.losses)

    def init(
        self, variables: Mapping[str, PyTree] | None, discriminator_variables: Mapping[str, PyTree] | None = None
    ) -> TrainState:
        """Returns the state before the first update, with variables for the players; None initialises them."""
        extractor = self.extractor
        features = functools.partial(extractor.apply, extractor.variables) if extractor else None
        game = dataclasses.replace(self.game, features=features)
        sizes = self.plan.crop_px, self.plan.scale
        return init_state(game, *sizes, self.seed, variables, discriminator_variables, self.plan.bands)

    def update(
        self, state: TrainState, frozen: Mapping[str, PyTree], sharded: Mapping[str, PyTree]
    ) -> tuple[TrainState, Metrics]:
        """Returns the state and the metrics after one update. Draws its batches first.

        This is a pure function. Under pmap it computes one device's part of the batch.

        Args:
          state: state before the update.
          frozen: "store" (tiles or None) and "extractor" (its variables or None).
          sharded: "indices" of the samples in the global batch and, if crops come from the host, their "windows"
            `[B, draws, ...]`.
        """
        seed = sampling.rollback_seed(state.seed, state.health.rollbacks)
        batches = []
        for number in range(self.draws):
            step, windows = state.step * self.draws + number, sharded.get("windows")
            windows = None if windows is None else windows[:, number]
            batches.append(draw_batch(self.plan, seed, step, sharded["indices"], frozen["store"], windows))
        return self.step.function(state, batches, with_features(self.game, self.extractor, frozen["extractor"]))


def with_features(game: Game, extractor: Extractor | None, variables: PyTree) -> Game:
    """Returns `game` with the extractor applied to `variables`, which are among the update's arguments."""
    if extractor is None:
        return game
    features = functools.partial(extractor.apply, variables)
    return dataclasses.replace(game, features=jax.checkpoint(features) if extractor.remat else features)


def init_state(
    game: Game,
    crop_px: int,
    scale: int,
    seed: int = 0,
    variables: Mapping[str, PyTree] | None = None,
    discriminator_variables: Mapping[str, PyTree] | None = None,
    bands: int = 3,
) -> TrainState:
    """Returns the state before the first update.

    Args:
      game: the players.
      crop_px: side of the HR crops.
      scale: HR pixels per LR pixel.
      seed: seed of the initialisation, the order of the samples and their crops.
      variables: variables of the generator, from the previous stage; None initialises them.
      discriminator_variables: variables of the discriminator; None initialises them.
      bands: channels of the images.
    """
    key = jax.random.key(seed)
    hr, lr = (jnp.zeros((1, side, side, bands)) for side in (crop_px, crop_px // scale))

    def create(player: Player, number: int, inputs: Mapping[str, PyTree], start: Mapping[str, PyTree] | None = None):
        optimizer = player.optimizer
        return create_network_state(
            player.module, optimizer.transformation, jax.random.fold_in(key, number), inputs, start,
            with_history=optimizer.historical_averaging > 0,
        )  # fmt: skip

    g, d = create(game.generator, 0, {"lr": lr}, variables), None
    if game.discriminator is not None:
        shapes = jax.eval_shape(game.features, hr) if game.features else {}
        features = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        inputs = {"image": hr, "features": features, "lr": lr}
        inputs = {name: inputs[name] for name in game.discriminator.takes}
        d = create(game.discriminator, 1, inputs, discriminator_variables)
    return create_train_state(seed, g, d, adaptive=balanced_term(game.generator.losses) is not None)
