"""The paper's update (SRGAN, arXiv 1609.04802, section 2.2): pure, un-jitted, no device named.

Copy this file for an update of your own, and add it to `steps.STEPS`; `gan_variants` shows some.
"""

from collections.abc import Sequence

from srgan_jax.losses.terms import Metrics
from srgan_jax.training.game import Batch, Game
from srgan_jax.training.players import (
    advance,
    apply_gradient,
    averaged,
    discriminator_gradient,
    generate,
    generator_gradient,
    once,
)
from srgan_jax.training.state import TrainState


def gan_step(state: TrainState, batches: Sequence[Batch], game: Game) -> tuple[TrainState, Metrics]:
    """Updates the discriminator, then the generator against the updated discriminator, on the same batch.

    Args:
      state: from `state.create_train_state`, with a discriminator.
      batches: one, with "lr", "hr" and "keys".
      game: both players with their losses and optimisers.

    Returns:
      The next state, and scalars: "loss" and each term of the generator's under its name, "d_loss" and the other terms
      of the discriminator's, and D's accuracies "d_accuracy_real" and "d_accuracy_fake".
    """
    (batch,) = batches
    g, d = state.generator, state.opponent
    generated = once(lambda part: generate(game, g, part), batch, game.averaging)  # one pass serves both players

    def d_gradient(part):
        return discriminator_gradient(game, d, part, generated(part), state.step)

    d_grads, d_stats, d_metrics = averaged(d_gradient, batch, game.averaging)
    d = apply_gradient(d, d_grads, d_stats, game.opponent.optimizer, state.step)

    def g_gradient(part):
        return generator_gradient(game, d, part, generated(part), state.step)

    g_grads, g_stats, g_metrics = averaged(g_gradient, batch, game.averaging)
    g = apply_gradient(g, g_grads, g_stats, game.generator.optimizer, state.step)
    return advance(state, g, game.ema_decay, discriminator=d), g_metrics | d_metrics
