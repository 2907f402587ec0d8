"""Forward passes, gradients and optimiser steps of the two players, generator and discriminator.

A step (`pretrain_step`, `gan_step`, `gan_variants`) calls these functions. They are independent of devices.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax

from srgan_jax.losses.terms import Metrics, WeightedTerm, accuracies, views_of, weighted_sum
from srgan_jax.losses.views import Views
from srgan_jax.ops.resize import centre_crop
from srgan_jax.runtime.random_keys import PURPOSE_DROPOUT_FAKE, PURPOSE_DROPOUT_REAL, PURPOSE_GRADIENT_PENALTY, keys_for
from srgan_jax.runtime.types import PyTree
from srgan_jax.training import together
from srgan_jax.training.game import Averaging, Batch, Game, Optimizer, Player
from srgan_jax.training.grad_balance import balanced_gradient, gradient_fractions
from srgan_jax.training.mapping import mean_over_microbatches
from srgan_jax.training.observed import mean_logits
from srgan_jax.training.state import NetworkState

T = TypeVar("T")


# ---------------------------------------------------------------------------------------------- forward passes


def forward(
    player: Player, params: PyTree, batch_stats: PyTree, *args: jax.Array, train: bool = True, **inputs: PyTree
) -> tuple[PyTree, PyTree]:
    """Returns the output of a network, by default in training mode, and its updated batch statistics."""

    def run(params, args, inputs):
        variables = {"params": params, "batch_stats": batch_stats}
        output, changed = player.module.apply(variables, *args, train=train, mutable=["batch_stats"], **inputs)
        return output, changed.get("batch_stats", {})

    return (jax.checkpoint(run) if player.remat else run)(params, args, inputs)


class Generated(NamedTuple):
    """The result of one forward pass of the generator, which both players use.

    Attributes:
      sr: generated images `[N, H, W, 3]`.
      vjp: maps the gradient with respect to SR to that with respect to the parameters.
      batch_stats: updated batch statistics.
    """

    sr: jax.Array
    vjp: Callable[[jax.Array], tuple[PyTree]]
    batch_stats: PyTree


def generate(game: Game, g: NetworkState, batch: Batch, *, train: bool = True) -> Generated:
    """Returns the generator's forward pass over a batch; without `train`, with the running statistics of BN."""

    def run(params):
        sr, batch_stats = forward(game.generator, params, g.batch_stats, batch.get("input", batch["lr"]), train=train)
        return centre_crop(sr, batch["hr"].shape), batch_stats

    return Generated(*jax.vjp(run, g.params, has_aux=True))


def compute_once(function: Callable[[Batch], T], batch: Batch, averaging: Averaging) -> Callable[[Batch], T]:
    """Returns a function with the values of `function`, so that both players can use one result.

    With a single microbatch, `function` is evaluated only once; with several, each call evaluates it.
    """
    if averaging.microbatches > 1:
        return function
    result = function(batch)
    return lambda _: result


def average_over_batch(function: Callable[[Batch], T], batch: Batch, averaging: Averaging) -> T:
    """Returns the mean of `function` over the microbatches of a batch, and over devices under pmap.

    Steps average over the batch by this function only.
    """
    # optax.microbatching splits a batch into consecutive parts; under jit a device would hold only some of them.
    mean = mean_over_microbatches(function, batch, averaging.microbatches, scan=averaging.scan)
    mean = mean if averaging.axis_name is None else jax.lax.pmean(mean, averaging.axis_name)
    return together.pack(mean)


def discriminate(
    player: Player, params: PyTree, batch_stats: PyTree, inputs: Mapping[str, PyTree], keys: jax.Array | None
) -> tuple[tuple[jax.Array, ...], PyTree]:
    """Returns the logits of each head of the discriminator, and its updated batch statistics."""
    arguments = {name: inputs[name] for name in player.takes}
    logits, batch_stats = forward(player, params, batch_stats, keys=keys, **arguments)
    return (logits if isinstance(logits, tuple) else (logits,)), batch_stats


def _sample_keys(batch: Batch, purpose: int) -> jax.Array | None:
    """Returns a random key for each sample and purpose, such as dropout; None if the batch has no keys."""
    keys = batch.get("keys")
    return None if keys is None else keys_for(keys, purpose)


class _Images(NamedTuple):
    """Real or generated images, and their features by tap ({} if nothing reads them), for loss terms and D."""

    image: jax.Array
    features: Mapping[str, jax.Array]


def _with_features(game: Game, image: jax.Array, terms: Sequence[WeightedTerm]) -> _Images:
    """Returns images with the features that the terms or the discriminator read.

    They are computed in one call, so that all terms need one backward pass through the extractor. XLA merges equal
    forward passes of the two players.
    """
    read = "features" in views_of(terms) or (game.discriminator and "features" in game.discriminator.takes)
    return _Images(image, game.features(image) if read and game.features else {})


def _discriminator_logits(
    game: Game, params: PyTree, batch_stats: PyTree, images: _Images, batch: Batch, purpose: int
) -> tuple[tuple[jax.Array, ...], PyTree]:
    """Returns the logits of each head on real or generated images of a batch, and the updated batch statistics."""
    inputs = {"image": images.image, "lr": batch["lr"], "features": images.features}
    return discriminate(game.opponent, params, batch_stats, inputs, _sample_keys(batch, purpose))


# ---------------------------------------------------------------------------------------------- gradients


def discriminator_loss(
    params: PyTree, game: Game, d: NetworkState, batch: Batch, sr: jax.Array, step: jax.Array, through: str = "both"
) -> tuple[jax.Array, tuple[Metrics, PyTree]]:
    """Returns the discriminator's loss, and as auxiliary output its metrics and updated batch statistics.

    Args:
      params: parameters of the discriminator.
      game: the players.
      d: state of the discriminator; its batch statistics are used.
      batch: "hr", "lr" and "keys".
      sr: generated images.
      step: updates so far.
      through: "real", "fake" or "both": the images from which gradients and batch statistics come.
    """
    player = game.opponent
    # Real and generated images pass separately, so that their batch statistics are not mixed.
    originals, generated = (_with_features(game, image, player.losses) for image in (batch["hr"], sr))
    real, real_stats = _discriminator_logits(game, params, d.batch_stats, originals, batch, PURPOSE_DROPOUT_REAL)
    before = d.batch_stats if through == "fake" else real_stats
    fake, fake_stats = _discriminator_logits(game, params, before, generated, batch, PURPOSE_DROPOUT_FAKE)
    batch_stats = real_stats if through == "real" else fake_stats
    real = jax.lax.stop_gradient(real) if through == "fake" else real
    fake = jax.lax.stop_gradient(fake) if through == "real" else fake

    def critic(image):
        keys = _sample_keys(batch, PURPOSE_DROPOUT_REAL)
        return discriminate(player, params, d.batch_stats, {"image": image}, keys)[0]

    logits = tuple(zip(real, fake, strict=True))
    features = _pairs_by_tap(generated, originals)
    critic_of_images = critic if player.takes == ("image",) else None
    keys = _sample_keys(batch, PURPOSE_GRADIENT_PENALTY)
    views = Views(sr, batch["hr"], batch["lr"], features, logits, critic_of_images, keys)
    total, metrics = weighted_sum(player.losses, views, step)
    return total, (metrics | accuracies(player.losses, logits) | mean_logits(logits), batch_stats)


def discriminator_gradient(
    game: Game, d: NetworkState, batch: Batch, generated: Generated, step: jax.Array, through: str = "both"
) -> tuple[PyTree, PyTree, Metrics]:
    """Returns the gradient of `discriminator_loss`, the updated batch statistics, and the metrics."""
    gradient = jax.grad(discriminator_loss, has_aux=True)
    grads, (metrics, batch_stats) = gradient(d.params, game, d, batch, generated.sr, step, through)
    return grads, batch_stats, metrics


def generator_loss(
    sr: jax.Array, game: Game, d: NetworkState | None, batch: Batch, step: jax.Array
) -> tuple[jax.Array, Metrics]:
    """Returns the generator's loss as a function of SR, and its metrics.

    Args:
      sr: generated images.
      game: the players.
      d: state of the discriminator; None for pretraining.
      batch: "hr", "lr" and "keys".
      step: updates so far.
    """
    terms = game.generator.losses
    total, metrics = weighted_sum(terms, _views_of_generator(game, d, batch, sr), step)
    return total, {"loss": total, **metrics}


def _views_of_generator(game: Game, d: NetworkState | None, batch: Batch, sr: jax.Array) -> Views:
    terms = game.generator.losses
    originals, generated = (_with_features(game, image, terms) for image in (batch["hr"], sr))
    logits = _logits_for_generator(game, d, batch, originals, generated) if "logits" in views_of(terms) else ()
    return Views(sr, batch["hr"], batch["lr"], _pairs_by_tap(generated, originals), logits)


def generator_gradient(
    game: Game,
    d: NetworkState | None,
    batch: Batch,
    generated: Generated,
    step: jax.Array,
    grad_scale: jax.Array | None = None,
) -> tuple[PyTree, PyTree, Metrics]:
    """Returns the gradient of `generator_loss`, the updated batch statistics, and the metrics.

    `grad_scale` is that of the state: the factor of the term with an adaptive weight, see `grad_balance`, or None.
    """
    sr, terms = generated.sr, game.generator.losses
    views = functools.partial(_views_of_generator, game, d, batch)
    if grad_scale is None:
        cotangent, metrics = jax.grad(generator_loss, has_aux=True)(sr, game, d, batch, step)
    else:
        cotangent, metrics = balanced_gradient(terms, views, sr, step, grad_scale)
    if game.grad_share:
        metrics |= gradient_fractions(terms, views, sr, step)
    return generated.vjp(cotangent)[0], generated.batch_stats, metrics


def _logits_for_generator(
    game: Game, d: NetworkState | None, batch: Batch, originals: _Images, generated: _Images
) -> tuple[tuple[jax.Array, jax.Array], ...]:
    """Returns D's logits for the generator's loss. XLA removes the pass over real images if no term reads it."""
    if d is None:
        raise ValueError(
            "a term of the generator's loss needs a discriminator, but the stage has none; use it in a stage with one"
        )
    real, _ = _discriminator_logits(game, d.params, d.batch_stats, originals, batch, PURPOSE_DROPOUT_REAL)
    fake, _ = _discriminator_logits(game, d.params, d.batch_stats, generated, batch, PURPOSE_DROPOUT_FAKE)
    return tuple(zip(real, fake, strict=True))


def _pairs_by_tap(generated: _Images, originals: _Images) -> dict[str, tuple[jax.Array, jax.Array]]:
    """Returns the features of SR and HR by tap."""
    return {tap: (feature, originals.features[tap]) for tap, feature in generated.features.items()}


# ---------------------------------------------------------------------------------------------- optimisers


def apply_gradient(
    network: NetworkState,
    grads: PyTree,
    batch_stats: PyTree,
    optimizer: Optimizer,
    step: jax.Array,
    count: jax.Array | None = None,
) -> NetworkState:
    """Returns the state of a network after a step of its optimiser.

    Args:
      network: state before the step.
      grads: gradient of its loss.
      batch_stats: new batch statistics.
      optimizer: the network's optimiser.
      step: updates of the stage so far.
      count: optimiser steps of this network so far; None if it is the same as `step`.
    """
    history = network.history
    if history is not None:
        coefficient = 2.0 * optimizer.historical_averaging
        grads = jax.tree.map(lambda grad, p, mean: grad + coefficient * (p - mean), grads, network.params, history)
    if optimizer.clip_norm:  # clipping has no state, so it can be enabled when a run resumes
        grads, _ = optax.clip_by_global_norm(optimizer.clip_norm).update(grads, optax.EmptyState())
    updates, opt_state = optimizer.transformation.update(grads, network.opt_state, network.params)
    params = optax.apply_updates(network.params, updates)
    if history is not None:  # the mean includes the initial parameters
        steps = (step if count is None else count) + 2.0
        history = jax.tree.map(lambda mean, p: mean + (p - mean) / steps, history, params)
    updated = NetworkState(params, batch_stats, opt_state, history)
    if optimizer.every == 1:
        return updated
    return jax.tree.map(lambda new, old: jnp.where(step % optimizer.every == 0, new, old), updated, network)
