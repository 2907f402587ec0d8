"""The two players of a training step: their gradients, and a step of their optimisers."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from srgan_jax.losses import ADVERSARIAL
from srgan_jax.losses.content import Features, Metrics, content_terms
from srgan_jax.losses.penalties import gradient_penalty
from srgan_jax.runtime.errors import lookup
from srgan_jax.runtime.random_keys import PURPOSE_DROPOUT_FAKE, PURPOSE_DROPOUT_REAL, PURPOSE_GRADIENT_PENALTY, keys_for
from srgan_jax.training import mapping
from srgan_jax.training.state import NetworkState, TrainState

Batch = Mapping[str, jax.Array]


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
      **averaging: of `players.updated`.
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
    grads, (terms, accuracies, batch_stats) = mapping.mean_of_parts(gradient, batch, micro_batches)
    grads, batch_stats = mean_over((grads, batch_stats), axis_name)
    return updated(d, grads, batch_stats, optimizer, **averaging), terms | accuracies


def _accuracies(losses: Mapping[str, Any], real: jax.Array, fake: jax.Array) -> Metrics:
    real, fake = ADVERSARIAL[losses["adversarial"]].verdict(real, fake)
    return {"d_accuracy_real": (real > 0).mean(), "d_accuracy_fake": (fake < 0).mean()}


def generated(generator: nn.Module, g: NetworkState, batch: Batch) -> tuple[jax.Array, Callable, Any]:
    """The generator's pictures, the way back from them to its parameters, and its changed batch statistics."""
    return jax.vjp(lambda params: forward(generator, params, g.batch_stats, batch["lr"]), g.params, has_aux=True)


def generator_gradient(
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


def forward(
    module: nn.Module, params: Any, batch_stats: Any, image: jax.Array, *, remat: bool = False, **kwargs: Any
) -> tuple[jax.Array, Any]:
    """A network's output in training, and its changed batch statistics.

    With `remat` nothing inside the network is kept for its gradient, which computes it a second time.
    """

    def run(params, image):
        variables = {"params": params, "batch_stats": batch_stats}
        output, changed = module.apply(variables, image, train=True, mutable=["batch_stats"], **kwargs)
        return output, changed.get("batch_stats", {})

    return (jax.checkpoint(run) if remat else run)(params, image)


def mean_over(tree: Any, axis_name: str | None) -> Any:
    """The mean over the devices of a pmap; `tree` itself where `axis_name` is None."""
    return tree if axis_name is None else jax.lax.pmean(tree, axis_name)


def updated(
    network: NetworkState,
    grads: Any,
    batch_stats: Any,
    optimizer: optax.GradientTransformation,
    *,
    historical_averaging: float = 0.0,
    count: jax.Array | int = 0,
) -> NetworkState:
    """The network after a step of its optimiser.

    Args:
      network: before.
      grads: of its loss.
      batch_stats: the new ones.
      optimizer: its.
      historical_averaging: weight of the squared distance to the mean of all past parameters (Salimans et al., arXiv
        1606.03498, section 3.3), where `network.history` holds that mean.
      count: updates so far.
    """
    history = network.history
    if history is not None:
        pull = 2.0 * historical_averaging
        grads = jax.tree.map(lambda grad, p, mean: grad + pull * (p - mean), grads, network.params, history)
    updates, opt_state = optimizer.update(grads, network.opt_state, network.params)
    params = optax.apply_updates(network.params, updates)
    if history is not None:  # the first parameters count as one
        history = jax.tree.map(lambda mean, p: mean + (p - mean) / (count + 2.0), history, params)
    return NetworkState(params, batch_stats, opt_state, history)


def advance(state: TrainState, generator: NetworkState, ema_decay: float, **changes: Any) -> TrainState:
    """The next state, with the average moved towards the new generator; its decay warms up from 0.1."""
    count = state.step.astype(jnp.float32)
    decay = jnp.minimum(ema_decay, (1.0 + count) / (10.0 + count))
    current = {"params": generator.params, "batch_stats": generator.batch_stats}
    ema = jax.tree.map(lambda old, new: decay * old + (1.0 - decay) * new, dict(state.ema), current)
    return state.replace(step=state.step + 1, generator=generator, ema=ema, **changes)
