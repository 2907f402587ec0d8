"""One update of the generator alone: pure, un-jitted, no device named."""

from collections.abc import Sequence

from srgan_jax.losses.terms import Metrics
from srgan_jax.training.game import Batch, Game
from srgan_jax.training.players import advance, apply_gradient, average_over_batch, generate, generator_gradient
from srgan_jax.training.state import TrainState


def pretrain_step(state: TrainState, batches: Sequence[Batch], game: Game) -> tuple[TrainState, Metrics]:
    """Updates the generator on its loss.

    Args:
      state: from `state.create_train_state`.
      batches: one, with "lr" `[N, h, w, 3]` and "hr" `[N, h * scale, w * scale, 3]` in [0, 1].
      game: the generator and its loss.

    Returns:
      The next state, and scalars: "loss" and each term under its name.
    """
    (batch,) = batches
    g = state.generator

    def gradient(microbatch):
        return generator_gradient(game, None, microbatch, generate(game, g, microbatch), state.step)

    grads, batch_stats, metrics = average_over_batch(gradient, batch, game.averaging)
    g = apply_gradient(g, grads, batch_stats, game.generator.optimizer, state.step)
    return advance(state, g, game.ema_decay), metrics
