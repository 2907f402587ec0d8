"""GAN updates in other orders than that of `gan_step`, composed of the same functions."""

from collections.abc import Callable, Sequence

from srgan_jax.losses.terms import Metrics
from srgan_jax.training.game import Batch, Game
from srgan_jax.training.observed import grad_norms
from srgan_jax.training.players import (
    Generated,
    apply_gradient,
    average_over_batch,
    compute_once,
    discriminator_gradient,
    generate,
    generator_gradient,
)
from srgan_jax.training.state import NetworkState, TrainState, advance


def generator_first(state: TrainState, batches: Sequence[Batch], game: Game) -> tuple[TrainState, Metrics]:
    """Updates both networks, each against the state of the other before the update.

    Arguments and results are those of `gan_step`, where the generator is updated against the updated discriminator.
    """
    (batch,) = batches
    g, d = state.generator, state.opponent
    generated = compute_once(lambda microbatch: generate(game, g, microbatch), batch, game.averaging)

    def g_gradient(microbatch):
        return generator_gradient(game, d, microbatch, generated(microbatch), state.step, state.grad_scale)

    def d_gradient(microbatch):
        return discriminator_gradient(game, d, microbatch, generated(microbatch), state.step)

    g_grads, g_stats, g_metrics = average_over_batch(g_gradient, batch, game.averaging)
    d_grads, d_stats, d_metrics = average_over_batch(d_gradient, batch, game.averaging)
    g = apply_gradient(g, g_grads, g_stats, game.generator.optimizer, state.step)
    d = apply_gradient(d, d_grads, d_stats, game.opponent.optimizer, state.step)
    norms = grad_norms(generator=g_grads, discriminator=d_grads)
    return advance(state, g, game.ema_decay, g_metrics, d), g_metrics | d_metrics | norms


def several_updates(state: TrainState, batches: Sequence[Batch], game: Game) -> tuple[TrainState, Metrics]:
    """Updates the discriminator several times, each time on a batch of its own, then the generator on the last batch.

    Args:
      state: with a discriminator.
      batches: `game.discriminator_updates` batches, and one more where the generator uses a batch of its own.
      game: both players with their losses and optimisers.

    Returns:
      As `gan_step`; the discriminator's metrics are those of its last update.
    """
    g, d, count = state.generator, state.opponent, game.discriminator_updates
    passes = [
        compute_once(lambda microbatch: generate(game, g, microbatch), batch, game.averaging) for batch in batches
    ]
    metrics: Metrics = {}
    for number, (batch, generated) in enumerate(zip(batches[:count], passes, strict=False)):

        def d_gradient(microbatch, d=d, generated=generated):
            return discriminator_gradient(game, d, microbatch, generated(microbatch), state.step)

        grads, stats, metrics = average_over_batch(d_gradient, batch, game.averaging)
        metrics |= grad_norms(discriminator=grads)
        optimizer = game.opponent.optimizer
        d = apply_gradient(d, grads, stats, optimizer, state.step, count=state.step * count + number)

    def g_gradient(microbatch):
        return generator_gradient(game, d, microbatch, passes[-1](microbatch), state.step, state.grad_scale)

    grads, stats, g_metrics = average_over_batch(g_gradient, batches[-1], game.averaging)
    g = apply_gradient(g, grads, stats, game.generator.optimizer, state.step)
    return advance(state, g, game.ema_decay, g_metrics, d), g_metrics | metrics | grad_norms(generator=grads)


def two_steps(state: TrainState, batches: Sequence[Batch], game: Game) -> tuple[TrainState, Metrics]:
    """Updates the discriminator twice, once on real and once on generated images, then the generator.

    Arguments and results are those of `gan_step`.
    """
    (batch,) = batches
    g = state.generator
    generated = compute_once(lambda microbatch: generate(game, g, microbatch), batch, game.averaging)
    d, metrics = _two_discriminator_steps(state, batch, game, generated)

    def g_gradient(microbatch):
        return generator_gradient(game, d, microbatch, generated(microbatch), state.step, state.grad_scale)

    grads, stats, g_metrics = average_over_batch(g_gradient, batch, game.averaging)
    g = apply_gradient(g, grads, stats, game.generator.optimizer, state.step)
    return advance(state, g, game.ema_decay, g_metrics, d), g_metrics | metrics | grad_norms(generator=grads)


def keras_order(state: TrainState, batches: Sequence[Batch], game: Game) -> tuple[TrainState, Metrics]:
    """Updates the networks as Keras examples do, by `predict` and `train_on_batch`.

    The discriminator is updated twice, on real images and on images that the generator makes with its running
    statistics; then the generator, on a batch of its own.

    Args:
      state: with a discriminator.
      batches: the discriminator's batch, and the generator's.
      game: both players with their losses and optimisers.

    Returns:
      As `gan_step`.
    """
    d_batch, g_batch = batches
    g = state.generator
    predicted = compute_once(lambda microbatch: generate(game, g, microbatch, train=False), d_batch, game.averaging)
    d, metrics = _two_discriminator_steps(state, d_batch, game, predicted)

    def g_gradient(microbatch):
        return generator_gradient(game, d, microbatch, generate(game, g, microbatch), state.step, state.grad_scale)

    grads, stats, g_metrics = average_over_batch(g_gradient, g_batch, game.averaging)
    g = apply_gradient(g, grads, stats, game.generator.optimizer, state.step)
    return advance(state, g, game.ema_decay, g_metrics, d), g_metrics | metrics | grad_norms(generator=grads)


def _two_discriminator_steps(
    state: TrainState, batch: Batch, game: Game, generated: Callable[[Batch], Generated]
) -> tuple[NetworkState, Metrics]:
    """Returns the discriminator after a step on real images and one on generated images, and its last metrics."""
    d, metrics = state.opponent, {}
    for number, through in enumerate(("real", "fake")):

        def d_gradient(microbatch, d=d, through=through):
            return discriminator_gradient(game, d, microbatch, generated(microbatch), state.step, through)

        grads, stats, metrics = average_over_batch(d_gradient, batch, game.averaging)
        metrics |= grad_norms(discriminator=grads)
        optimizer = game.opponent.optimizer
        d = apply_gradient(d, grads, stats, optimizer, state.step, count=2 * state.step + number)
    return d, metrics
