"""The paper's GAN update (SRGAN, arXiv 1609.04802, section 2.2): a pure function, not yet jitted.

It is independent of devices. To write an update of your own, copy this file and add the function to `steps.STEPS`;
`gan_variants` has examples.
"""

from collections.abc import Sequence

from srgan_jax.losses.terms import Metrics
from srgan_jax.training.game import Batch, Game
from srgan_jax.training.observed import grad_norms
from srgan_jax.training.players import (
    apply_gradient,
    average_over_batch,
    compute_once,
    discriminator_gradient,
    generate,
    generator_gradient,
)
from srgan_jax.training.state import TrainState, advance


def gan_step(state: TrainState, batches: Sequence[Batch], game: Game) -> tuple[TrainState, Metrics]:
    """Updates the discriminator, then the generator against the updated discriminator, on the same batch.

    Args:
      state: from `state.create_train_state`, with a discriminator.
      batches: one batch, with "lr", "hr" and "keys".
      game: both players with their losses and optimisers.

    Returns:
      The next state, and scalar metrics: "loss" and each term of the generator's loss under its name, "d_loss" and the
      other terms of the discriminator's loss, its accuracies "d_accuracy_real" and "d_accuracy_fake", its mean logits
      "d_logit_real" and "d_logit_fake", and the norms of both gradients, "grad_norm/generator" and
      "grad_norm/discriminator".
    """
    (batch,) = batches
    g, d = state.generator, state.opponent
    # Both players use one forward pass of the generator.
    generated = compute_once(lambda microbatch: generate(game, g, microbatch), batch, game.averaging)

    def d_gradient(microbatch):
        return discriminator_gradient(game, d, microbatch, generated(microbatch), state.step)

    d_grads, d_stats, d_metrics = average_over_batch(d_gradient, batch, game.averaging)
    d = apply_gradient(d, d_grads, d_stats, game.opponent.optimizer, state.step)

    def g_gradient(microbatch):
        return generator_gradient(game, d, microbatch, generated(microbatch), state.step, state.grad_scale)

    g_grads, g_stats, g_metrics = average_over_batch(g_gradient, batch, game.averaging)
    g = apply_gradient(g, g_grads, g_stats, game.generator.optimizer, state.step)
    norms = grad_norms(generator=g_grads, discriminator=d_grads)
    return advance(state, g, game.ema_decay, g_metrics, d), g_metrics | d_metrics | norms
