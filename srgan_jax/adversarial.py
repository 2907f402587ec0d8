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

from srgan_jax import devices
from srgan_jax.errors import lookup
from srgan_jax.losses import ADVERSARIAL
from srgan_jax.runtime.random_keys import (
    PURPOSE_DROPOUT_FAKE,
    PURPOSE_DROPOUT_REAL,
    PURPOSE_GRADIENT_PENALTY,
    keys_for,
)
from srgan_jax.steps import (
    Features,
    Metrics,
    NetworkState,
    TrainState,
    advance,
    content_terms,
    forward,
    mean_over,
    updated,
)

Batch = Mapping[str, jax.Array]


def gradient_penalty(critic: Callable, real: jax.Array, fake: jax.Array, keys: jax.Array) -> jax.Array:
    """WGAN-GP's `(|gradient of D| - 1)^2` between real and generated pictures (arXiv 1704.00028, equation 3).

    Args:
      critic: `images -> [N, ...]` logits; of a map the mean counts.
      real: `[N, H, W, 3]` in [0, 1]; the gradient is taken on [-1, 1].
      fake: the same shape.
      keys: `[N]`, one for each pair's place between the two.

    Returns:
      `[N]`.
    """
    share = jax.vmap(lambda key: jax.random.uniform(key, (1, 1, 1)))(keys)

    def total(image):
        logits = critic(image)
        return logits.reshape(len(logits), -1).mean(axis=1).sum()

    slope = jax.grad(total)(share * real + (1.0 - share) * fake) / 2.0  # [-1, 1] is twice as long as [0, 1]
    return jnp.square(jnp.sqrt(jnp.square(slope).sum(axis=(1, 2, 3)) + 1e-12) - 1.0)


def _keys(batch: Batch, purpose: int) -> jax.Array | None:
    """A key for each sample, for dropout and the like; None where the batch has none."""
    keys = batch.get("keys")
    return None if keys is None else keys_for(keys, purpose)


def discriminator_terms(
    real: jax.Array,
    fake: jax.Array,
    penalty: Callable[[], jax.Array],
    *,
    adversarial: str = "bce",
    label_smoothing: float = 0.0,
    gradient_penalty_weight: float = 0.0,
) -> Metrics:
    """The weighted terms of the discriminator's loss.

    Args:
      real: logits on real pictures.
      fake: logits on generated ones.
      penalty: gives `gradient_penalty`; called where it has a weight.
      adversarial: a name in `losses.ADVERSARIAL`.
      label_smoothing: the target for real pictures is 1 minus this (one-sided, arXiv 1606.03498, section 3.4).
      gradient_penalty_weight: 10 in WGAN-GP; wants a discriminator without batch normalisation.
    """
    loss = lookup(ADVERSARIAL, adversarial, "adversarial loss")
    terms = {"d_loss": loss.discriminator(real, fake, 1.0 - label_smoothing)}
    if gradient_penalty_weight:
        terms["gradient_penalty"] = gradient_penalty_weight * penalty().mean()
    return terms


def discriminator_step(
    d: NetworkState,
    batch: Batch,
    sr: jax.Array | Callable[[Batch], jax.Array],
    *,
    discriminator: nn.Module,
    optimizer: optax.GradientTransformation,
    losses: Mapping[str, Any],
    axis_name: str | None = None,
    micro_batches: int = 1,
    remat: bool = False,
    **averaging: Any,
) -> tuple[NetworkState, Metrics]:
    """One update of the discriminator alone.

    Args:
      d: before.
      batch: "hr" `[N, H, W, 3]` in [0, 1]; "keys" `[N]` for dropout and the gradient penalty.
      sr: `[N, H, W, 3]` generated pictures, or what makes them of a part of the batch.
      discriminator: module.
      optimizer: its.
      losses: keyword arguments of `discriminator_terms`, "adversarial" among them.
      axis_name: under pmap, the axis to average over.
      micro_batches, remat: as for `gan_step`.
      **averaging: of `steps.updated`.
    """

    def gradient(part):
        fakes = sr(part) if callable(sr) else part["sr"]

        def loss_fn(params):
            see = functools.partial(forward, discriminator, params, remat=remat)
            real, batch_stats = see(d.batch_stats, part["hr"], keys=_keys(part, PURPOSE_DROPOUT_REAL))
            fake, batch_stats = see(
                batch_stats, fakes, keys=_keys(part, PURPOSE_DROPOUT_FAKE)
            )  # apart: their statistics must not mix

            def penalty():
                def critic(image):
                    return see(d.batch_stats, image, keys=_keys(part, PURPOSE_DROPOUT_REAL))[0]

                return gradient_penalty(critic, part["hr"], fakes, _keys(part, PURPOSE_GRADIENT_PENALTY))

            terms = discriminator_terms(real, fake, penalty, **losses)
            return sum(terms.values()), (terms, _accuracies(losses, real, fake), batch_stats)

        return jax.grad(loss_fn, has_aux=True)(d.params)

    batch = batch if callable(sr) else {**batch, "sr": sr}
    grads, (terms, accuracies, batch_stats) = devices.mean_of_parts(gradient, batch, micro_batches)
    grads, batch_stats = mean_over((grads, batch_stats), axis_name)
    return updated(d, grads, batch_stats, optimizer, **averaging), terms | accuracies


def _accuracies(losses: Mapping[str, Any], real: jax.Array, fake: jax.Array) -> Metrics:
    real, fake = ADVERSARIAL[losses["adversarial"]].verdict(real, fake)
    return {"d_accuracy_real": (real > 0).mean(), "d_accuracy_fake": (fake < 0).mean()}


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


def _generate(generator: nn.Module, g: NetworkState, batch: Batch) -> tuple[jax.Array, Callable, Any]:
    """The generator's pictures, the way back from them to its parameters, and its changed batch statistics."""
    return jax.vjp(lambda params: forward(generator, params, g.batch_stats, batch["lr"]), g.params, has_aux=True)


def _generator_gradient(
    pictures: tuple[jax.Array, Callable, Any],
    batch: Batch,
    d: NetworkState,
    features: Features | None,
    *,
    discriminator: nn.Module,
    losses: Mapping[str, Any],
    adversarial: str,
    adversarial_weight: float,
    remat: bool,
) -> tuple[Any, Any, Metrics]:
    """The gradient of the generator's loss, its batch statistics, and the terms of that loss."""
    loss = lookup(ADVERSARIAL, adversarial, "adversarial loss")
    sr, pull_back, batch_stats = pictures

    def loss_fn(sr):
        # The real pictures' pass is compiled away where the loss ignores it.
        see = functools.partial(forward, discriminator, d.params, d.batch_stats, remat=remat)
        real, fake = (
            see(batch["hr"], keys=_keys(batch, PURPOSE_DROPOUT_REAL))[0],
            see(sr, keys=_keys(batch, PURPOSE_DROPOUT_FAKE))[0],
        )
        terms = content_terms(sr, batch["hr"], features, **losses)
        terms["adversarial"] = adversarial_weight * loss.generator(real, fake)
        return sum(terms.values()), terms

    sr_grads, terms = jax.grad(loss_fn, has_aux=True)(sr)
    return pull_back(sr_grads)[0], batch_stats, terms


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
      historical_averaging: see `steps.updated`; the state needs `with_history`.

    Returns:
      The next state, and scalars: "loss" and each weighted term of the generator's, "d_loss", and the shares of real
      and generated pictures that the discriminator judges rightly, "d_accuracy_real" and "d_accuracy_fake".
    """
    g = state.generator
    generate = functools.partial(_generate, generator, g)
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
    gradient = lambda part: _generator_gradient(whole or generate(part), part, judge, features, **options)  # noqa: E731
    g_grads, g_stats, terms = devices.mean_of_parts(gradient, batch, micro_batches)
    g_grads, g_stats = mean_over((g_grads, g_stats), axis_name)
    g = updated(g, g_grads, g_stats, optimizer, historical_averaging=historical_averaging, count=state.step)
    metrics = mean_over({"loss": sum(terms.values()), **terms, **d_metrics}, axis_name)
    return advance(state, g, ema_decay, discriminator=d), metrics


class BalanceGuard:
    """Tells when the discriminator wins: the generator then learns next to nothing from it."""

    PATIENCE = 10  # logged updates on end

    def __init__(self, accuracy: float):
        self._accuracy, self._count = accuracy, 0

    def line(self, metrics: Mapping[str, float]) -> str | None:
        """What to say after a logged update; None most of the time.

        Args:
          metrics: of `gan_step`; those of other steps are ignored.
        """
        real, fake = (metrics.get(f"d_accuracy_{kind}", 0.0) for kind in ("real", "fake"))
        won, self._count = self._count, self._count + 1 if min(real, fake) > self._accuracy else 0
        if self._count == self.PATIENCE:
            return (
                f"the discriminator wins: it judged {real:.0%} of real and {fake:.0%} of generated pictures "
                f"rightly, more than {self._accuracy:.0%} at each of the last {self.PATIENCE} logged updates; try "
                "label_smoothing=0.1, a lower discriminator_learning_rate, or discriminator_every=2"
            )
        return "the discriminator no longer wins" if won >= self.PATIENCE and not self._count else None
