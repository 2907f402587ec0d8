"""The updates by name: `config.stages.NAME.step`. A new one is a function and an entry in `STEPS`."""

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
    """An update takes one batch."""
    del stage
    return 1


def batch_per_update(stage: StageConfig) -> int:
    """A batch for each update of the discriminator, and one more where the generator gets its own."""
    return stage.discriminator_updates + stage.fresh_batch if isinstance(stage, GanStageConfig) else 1


class Step(NamedTuple):
    """An entry of `STEPS`.

    Attributes:
      function: `(state, batches, game) -> (state, metrics)`, pure.
      batches: how many batches an update takes, from the stage's config.
      has_discriminator: whether it needs one.
    """

    function: StepFunction
    batches: Callable[[StageConfig], int] = one_batch
    has_discriminator: bool = True


STEPS: dict[str, Step] = {
    "pretrain": Step(pretrain_step, has_discriminator=False),
    "gan": Step(gan_step),
    "gan_generator_first": Step(gan_variants.generator_first),
    "gan_several_updates": Step(gan_variants.several_updates, batch_per_update),
    "gan_two_steps": Step(gan_variants.two_steps),
}
