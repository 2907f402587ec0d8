"""One update of SRResNet and of SRGAN: pure functions of a state and a batch, un-jitted, no device named.

`train.py` jits them over devices. Randomness is addressed by (seed, step, sample), so nothing here consumes a key.
"""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from srgan_jax import color
from srgan_jax.errors import lookup
from srgan_jax.losses import ADVERSARIAL, PIXEL, total_variation

Metrics = dict[str, jax.Array]
Features = Callable[[jax.Array], Mapping[str, jax.Array]]  # images in [0, 1] -> feature maps, scaled for the loss


@flax.struct.dataclass
class NetworkState:
    """A network in training."""

    params: Any
    batch_stats: Any  # {} without normalisation
    opt_state: optax.OptState


@flax.struct.dataclass
class TrainState:
    """Everything an update reads and writes: one pytree, one checkpoint.

    Attributes:
      step: updates done in this stage, int32.
      seed: PRNG key data, uint32; every random choice is folded in from it and never written back.
      generator: the generator in training.
      ema: `{"params", "batch_stats"}` of the generator, averaged; what validation, export and the next stage use.
      discriminator: None in the pretraining stage.
    """

    step: jax.Array
    seed: jax.Array
    generator: NetworkState
    ema: Mapping[str, Any]
    discriminator: NetworkState | None = None


# ---------------------------------------------------------------------------------------------- states


def create_network_state(
    module: nn.Module,
    optimizer: optax.GradientTransformation,
    key: jax.Array,
    image: jax.Array,
    variables: Mapping[str, Any] | None = None,
) -> NetworkState:
    """A network with fresh Adam moments; `variables` instead of a fresh initialisation where given."""
    variables = module.init(key, image) if variables is None else variables
    params = variables["params"]
    return NetworkState(params, variables.get("batch_stats", {}), optimizer.init(params))


def create_train_state(
    seed: int,
    generator: nn.Module,
    optimizer: optax.GradientTransformation,
    *,
    crop_px: int,
    discriminator: nn.Module | None = None,
    discriminator_optimizer: optax.GradientTransformation | None = None,
    variables: Mapping[str, Any] | None = None,
) -> TrainState:
    """The state before the first update of a stage.

    Args:
      seed: of the initialisation, the order of the samples and their crops.
      generator: module.
      optimizer: the generator's.
      crop_px: side of the HR crops.
      discriminator: module; None for pretraining.
      discriminator_optimizer: its optimiser.
      variables: the generator's, from the stage before; None initialises afresh.
    """
    key = jax.random.key(seed)
    lr = jnp.zeros((1, crop_px // generator.scale, crop_px // generator.scale, 3))
    hr = jnp.zeros((1, crop_px, crop_px, 3))
    g = create_network_state(generator, optimizer, jax.random.fold_in(key, 0), lr, variables)
    d = None
    if discriminator is not None:
        d = create_network_state(discriminator, discriminator_optimizer, jax.random.fold_in(key, 1), hr)
    ema = jax.tree.map(jnp.copy, {"params": g.params, "batch_stats": g.batch_stats})  # a copy: both are donated
    return TrainState(jnp.zeros((), jnp.int32), jax.random.key_data(key), g, ema, d)


def count_parameters(params: Any) -> int:
    """The numbers that are learned."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


# ---------------------------------------------------------------------------------------------- losses


def content_terms(
    sr: jax.Array,
    hr: jax.Array,
    features: Features | None = None,
    *,
    pixel: str = "mse",
    pixel_weight: float = 1.0,
    perceptual: str = "mse",
    perceptual_weight: float = 0.0,
    tv_weight: float = 0.0,
) -> Metrics:
    """The weighted terms of the content loss; those of weight 0 are left out.

    The paper's equation 5 sums squared feature differences over the channels; here, as in most reproductions, every
    term is a mean over all its elements.

    Args:
      sr: `[N, H, W, 3]` in [0, 1].
      hr: the same shape.
      features: images in [0, 1] to named feature maps, already scaled as their weights' convention asks.
      pixel: a name in `losses.PIXEL`, computed on [-1, 1] as in the paper.
      pixel_weight: its weight.
      perceptual: a name in `losses.PIXEL`, computed on the feature maps.
      perceptual_weight: its weight.
      tv_weight: of the total variation of `sr` on [-1, 1].
    """
    sr_signed, hr_signed = color.to_signed(sr), color.to_signed(hr)
    terms = {}
    if pixel_weight:
        terms["pixel"] = pixel_weight * lookup(PIXEL, pixel, "pixel loss")(sr_signed, hr_signed).mean()
    if perceptual_weight:
        distance = lookup(PIXEL, perceptual, "perceptual loss")
        ours, theirs = features(sr), features(hr)
        terms["perceptual"] = perceptual_weight * sum(distance(ours[tap], theirs[tap]).mean() for tap in ours)
    if tv_weight:
        terms["total_variation"] = tv_weight * total_variation(sr_signed).mean()
    return terms


# ---------------------------------------------------------------------------------------------- updates


def _forward(module: nn.Module, params: Any, batch_stats: Any, image: jax.Array) -> tuple[jax.Array, Any]:
    output, changed = module.apply(
        {"params": params, "batch_stats": batch_stats}, image, train=True, mutable=["batch_stats"]
    )
    return output, changed.get("batch_stats", {})


def _mean_over(tree: Any, axis_name: str | None) -> Any:
    return tree if axis_name is None else jax.lax.pmean(tree, axis_name)


def _updated(
    network: NetworkState, grads: Any, batch_stats: Any, optimizer: optax.GradientTransformation
) -> NetworkState:
    updates, opt_state = optimizer.update(grads, network.opt_state, network.params)
    return NetworkState(optax.apply_updates(network.params, updates), batch_stats, opt_state)


def _advance(state: TrainState, generator: NetworkState, ema_decay: float, **changes: Any) -> TrainState:
    """The next state, with the average moved towards the new generator; its decay warms up from 0.1."""
    count = state.step.astype(jnp.float32)
    decay = jnp.minimum(ema_decay, (1.0 + count) / (10.0 + count))
    current = {"params": generator.params, "batch_stats": generator.batch_stats}
    ema = jax.tree.map(lambda old, new: decay * old + (1.0 - decay) * new, dict(state.ema), current)
    return state.replace(step=state.step + 1, generator=generator, ema=ema, **changes)


def pretrain_step(
    state: TrainState,
    batch: Mapping[str, jax.Array],
    features: Features | None = None,
    *,
    generator: nn.Module,
    optimizer: optax.GradientTransformation,
    losses: Mapping[str, Any],
    ema_decay: float = 0.999,
    axis_name: str | None = None,
) -> tuple[TrainState, Metrics]:
    """One update of the generator on the content loss alone.

    Args:
      state: from `create_train_state`.
      batch: "lr" `[N, h, w, 3]` and "hr" `[N, h * scale, w * scale, 3]` in [0, 1].
      features: see `content_terms`.
      generator: module.
      optimizer: its optimiser.
      losses: keyword arguments of `content_terms`.
      ema_decay: of the averaged generator.
      axis_name: under pmap, the axis to average over.

    Returns:
      The next state, and scalars: "loss" and each weighted term.
    """

    def loss_fn(params):
        sr, batch_stats = _forward(generator, params, state.generator.batch_stats, batch["lr"])
        terms = content_terms(sr, batch["hr"], features, **losses)
        return sum(terms.values()), (terms, batch_stats)

    grads, (terms, batch_stats) = jax.grad(loss_fn, has_aux=True)(state.generator.params)
    grads, terms, batch_stats = _mean_over((grads, terms, batch_stats), axis_name)
    updated = _updated(state.generator, grads, batch_stats, optimizer)
    return _advance(state, updated, ema_decay), {"loss": sum(terms.values()), **terms}


def _updated_discriminator(
    d: NetworkState,
    hr: jax.Array,
    sr: jax.Array,
    *,
    discriminator: nn.Module,
    optimizer: optax.GradientTransformation,
    loss: Callable[[jax.Array, jax.Array], jax.Array],
    axis_name: str | None,
) -> tuple[NetworkState, Metrics]:
    def loss_fn(params):
        real, batch_stats = _forward(discriminator, params, d.batch_stats, hr)
        fake, batch_stats = _forward(discriminator, params, batch_stats, sr)
        metrics = {"d_accuracy_real": (real > 0).mean(), "d_accuracy_fake": (fake < 0).mean()}
        value = loss(real, fake)
        return value, (metrics | {"d_loss": value}, batch_stats)

    grads, (metrics, batch_stats) = jax.grad(loss_fn, has_aux=True)(d.params)
    grads, batch_stats = _mean_over((grads, batch_stats), axis_name)
    return _updated(d, grads, batch_stats, optimizer), metrics


def gan_step(
    state: TrainState,
    batch: Mapping[str, jax.Array],
    features: Features | None = None,
    *,
    generator: nn.Module,
    discriminator: nn.Module,
    optimizer: optax.GradientTransformation,
    discriminator_optimizer: optax.GradientTransformation,
    losses: Mapping[str, Any],
    adversarial: str = "bce",
    adversarial_weight: float = 1e-3,
    ema_decay: float = 0.999,
    axis_name: str | None = None,
) -> tuple[TrainState, Metrics]:
    """One update of the discriminator, then one of the generator against the updated discriminator.

    One forward pass of the generator serves both. The discriminator sees the real and the generated batch apart, so
    that their batch statistics don't mix.

    Args:
      state: from `create_train_state`, with a discriminator.
      batch, features, generator, optimizer, losses, ema_decay, axis_name: as for `pretrain_step`.
      discriminator: module, image to logits.
      discriminator_optimizer: its optimiser.
      adversarial: a name in `losses.ADVERSARIAL`.
      adversarial_weight: the paper's 1e-3.

    Returns:
      The next state, and scalars: "loss" and each weighted term of the generator's, "d_loss", and the shares of real
      and generated pictures that the discriminator judges rightly, "d_accuracy_real" and "d_accuracy_fake".
    """
    loss_d, loss_g = lookup(ADVERSARIAL, adversarial, "adversarial loss")
    hr, d = batch["hr"], state.discriminator

    def generate(params):
        return _forward(generator, params, state.generator.batch_stats, batch["lr"])

    sr, pull_back, g_stats = jax.vjp(generate, state.generator.params, has_aux=True)

    d, d_metrics = _updated_discriminator(
        d, hr, sr, discriminator=discriminator, optimizer=discriminator_optimizer, loss=loss_d, axis_name=axis_name
    )

    def g_loss_fn(sr):
        real, _ = _forward(discriminator, d.params, d.batch_stats, hr)  # compiled away where the loss ignores it
        fake, _ = _forward(discriminator, d.params, d.batch_stats, sr)
        terms = content_terms(sr, hr, features, **losses)
        terms["adversarial"] = adversarial_weight * loss_g(real, fake)
        return sum(terms.values()), terms

    sr_grads, terms = jax.grad(g_loss_fn, has_aux=True)(sr)
    g_grads, g_stats = _mean_over((pull_back(sr_grads)[0], g_stats), axis_name)
    g = _updated(state.generator, g_grads, g_stats, optimizer)
    metrics = _mean_over({"loss": sum(terms.values()), **terms, **d_metrics}, axis_name)
    return _advance(state, g, ema_decay, discriminator=d), metrics
