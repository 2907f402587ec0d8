"""One update of a GAN: discriminator and generator, pure, un-jitted, no device named.

What implementations differ in are keyword arguments of `gan_step`: the order, how often each player moves and on which
batch, the loss, its labels, a gradient penalty, historical averaging.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from srgan_jax.losses.content import Features, Metrics
from srgan_jax.training import mapping
from srgan_jax.training.players import (
    Batch,
    advance,
    discriminator_step,
    generated,
    generator_gradient,
    mean_over,
    updated,
)
from srgan_jax.training.state import NetworkState, TrainState


def _discriminator_updates(
    state: TrainState,
    batches: Sequence[Batch],
    generate: Callable[[Batch, Batch], jax.Array],
    *,
    every: int,
    historical_averaging: float,
    **options: Any,
) -> tuple[NetworkState, Metrics]:
    """The discriminator after an update on each of `batches`; `generate(batch, part)` makes pictures."""
    d = state.discriminator
    for index, batch in enumerate(batches):
        averaging = {"historical_averaging": historical_averaging, "count": state.step * len(batches) + index}
        d, metrics = discriminator_step(d, batch, functools.partial(generate, batch), **options, **averaging)
    if every > 1:
        moves = state.step % every == 0
        d = jax.tree.map(lambda new, old: jnp.where(moves, new, old), d, state.discriminator)
    return d, metrics


def gan_step(
    state: TrainState,
    batch: Batch,
    features: Features | None = None,
    *,
    generator: nn.Module,
    discriminator: nn.Module,
    optimizer: optax.GradientTransformation,
    discriminator_optimizer: optax.GradientTransformation,
    losses: Mapping[str, Any],
    adversarial: str = "bce",
    adversarial_weight: float = 1e-3,
    discriminator_losses: Mapping[str, Any] | None = None,
    discriminator_batches: Sequence[Batch] | None = None,
    discriminator_every: int = 1,
    generator_first: bool = False,
    historical_averaging: float = 0.0,
    ema_decay: float = 0.999,
    axis_name: str | None = None,
    micro_batches: int = 1,
    remat: bool = False,
) -> tuple[TrainState, Metrics]:
    """The discriminator's updates, then one of the generator against the updated discriminator.

    Args:
      state: from `create_train_state`, with a discriminator.
      batch, features, generator, optimizer, losses, ema_decay, axis_name: as for `pretrain_step`.
      micro_batches: as there; the generator's pictures are made once for each player then. What looks at a whole batch
        (batch normalisation, minibatch discrimination, the relativistic loss) looks at a part of it.
      remat: keep nothing of the discriminator's passes for their gradients.
      discriminator, discriminator_optimizer: module, `(image, train=, keys=)` to logits, and its optimiser.
      adversarial, adversarial_weight: a name in `losses.ADVERSARIAL`, and its weight; the paper's 1e-3.
      discriminator_losses: keyword arguments of `discriminator_terms`.
      discriminator_batches: one for each update of the discriminator; `(batch,)` by default.
      discriminator_every: the discriminator moves at every so many updates of the generator only.
      generator_first: update the generator before the discriminator, which sees the pictures of before.
      historical_averaging: see `players.updated`; the state needs `with_history`.

    Returns:
      The next state, and scalars: "loss" and each weighted term of the generator's, "d_loss", and the shares of real
      and generated pictures that the discriminator judges rightly, "d_accuracy_real" and "d_accuracy_fake".
    """
    g = state.generator
    generate = functools.partial(generated, generator, g)
    whole = generate(batch) if micro_batches == 1 else None  # one pass serves both players
    pictures = lambda own, part: (whole if whole and own is batch else generate(part))[0]  # noqa: E731
    shared = {"discriminator": discriminator, "remat": remat}
    options = {"losses": {"adversarial": adversarial, **(discriminator_losses or {})}, "every": discriminator_every}
    options |= {"historical_averaging": historical_averaging, "micro_batches": micro_batches, "axis_name": axis_name}
    batches = (batch,) if discriminator_batches is None else discriminator_batches
    d, d_metrics = _discriminator_updates(
        state, batches, pictures, optimizer=discriminator_optimizer, **shared, **options
    )
    judge = state.discriminator if generator_first else d
    options = {"losses": losses, "adversarial": adversarial, "adversarial_weight": adversarial_weight, **shared}
    gradient = lambda part: generator_gradient(whole or generate(part), part, judge, features, **options)  # noqa: E731
    g_grads, g_stats, terms = mapping.mean_of_parts(gradient, batch, micro_batches)
    g_grads, g_stats = mean_over((g_grads, g_stats), axis_name)
    g = updated(g, g_grads, g_stats, optimizer, historical_averaging=historical_averaging, count=state.step)
    metrics = mean_over({"loss": sum(terms.values()), **terms, **d_metrics}, axis_name)
    return advance(state, g, ema_decay, discriminator=d), metrics
