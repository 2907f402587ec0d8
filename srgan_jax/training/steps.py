"""`STEPS`: the updates by name, for `config.stages.NAME.step`. A new one is a function and an entry in `STEPS`."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from srgan_jax.config.schema import GanStageConfig, StageConfig
from srgan_jax.losses.terms import Metrics
from srgan_jax.training import gan_variants
from srgan_jax.training.game import Batch, Game
from srgan_jax.training.gan_step import gan_step
from srgan_jax.training.pretrain_step import pretrain_step
from srgan_jax.training.state import TrainState

StepFunction = Callable[[TrainState, Sequence[Batch], Game], tuple[TrainState, Metrics]]


def one_batch(stage: StageConfig) -> int:
    """Returns 1: an update uses one batch."""
    del stage
    return 1


def batch_per_update(stage: StageConfig) -> int:
    """Returns the number of discriminator updates, plus 1 if the generator uses a batch of its own."""
    return stage.discriminator_updates + stage.fresh_batch if isinstance(stage, GanStageConfig) else 1


def two_batches(stage: StageConfig) -> int:
    """Returns 2: each network uses a batch of its own."""
    del stage
    return 2


class Step(NamedTuple):
    """An entry of `STEPS`.

    Attributes:
      function: `(state, batches, game) -> (state, metrics)`, pure.
      batches: returns the number of batches of an update, given the stage's config.
      has_discriminator: whether the step needs a discriminator.
      norms_of_all: whether the norms among its metrics are those of all gradients that it applies.
    """

    function: StepFunction
    batches: Callable[[StageConfig], int] = one_batch
    has_discriminator: bool = True
    norms_of_all: bool = False


STEPS: dict[str, Step] = {
    "pretrain": Step(pretrain_step, has_discriminator=False, norms_of_all=True),
    "gan": Step(gan_step, norms_of_all=True),
    "gan_generator_first": Step(gan_variants.generator_first, norms_of_all=True),
    "gan_several_updates": Step(gan_variants.several_updates, batch_per_update),
    "gan_two_steps": Step(gan_variants.two_steps),
    "gan_keras": Step(gan_variants.keras_order, two_batches),
}
