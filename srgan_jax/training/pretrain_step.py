"""The update of pretraining: the generator alone. A pure function, not yet jitted, independent of devices."""

from collections.abc import Sequence

from srgan_jax.losses.terms import Metrics
from srgan_jax.training.game import Batch, Game
from srgan_jax.training.observed import grad_norms
from srgan_jax.training.players import apply_gradient, average_over_batch, generate, generator_gradient
from srgan_jax.training.state import TrainState, advance


def pretrain_step(state: TrainState, batches: Sequence[Batch], game: Game) -> tuple[TrainState, Metrics]:
    """Returns the state after one update of the generator.

    Args:
      state: from `state.create_train_state`.
      batches: one batch, with "lr" `[N, h, w, 3]` and "hr" `[N, h * scale, w * scale, 3]` in [0, 1].
      game: the generator with its optimiser and loss.

    Returns:
      The next state, and scalar metrics: "loss", each term of it under its name, and "grad_norm/generator".
    """
    (batch,) = batches
    g = state.generator

    def gradient(microbatch):
        generated = generate(game, g, microbatch)
        return generator_gradient(game, None, microbatch, generated, state.step, state.grad_scale)

    grads, batch_stats, metrics = average_over_batch(gradient, batch, game.averaging)
    g = apply_gradient(g, grads, batch_stats, game.generator.optimizer, state.step)
    return advance(state, g, game.ema_decay, metrics), metrics | grad_norms(generator=grads)
