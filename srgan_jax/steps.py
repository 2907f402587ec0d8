"""The state of training and one update on the content loss: pure functions, un-jitted, no device named.

`train.py` jits them over devices. Randomness is addressed by (seed, step, sample), so nothing here consumes a key.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from srgan_jax import color, devices
from srgan_jax.errors import lookup
from srgan_jax.guard import Health, fresh_health
from srgan_jax.losses import PIXEL, total_variation

Metrics = dict[str, jax.Array]
Features = Callable[[jax.Array], Mapping[str, jax.Array]]  # images in [0, 1] -> feature maps, scaled for the loss


@flax.struct.dataclass
class NetworkState:
    """A network in training."""

    params: Any
    batch_stats: Any  # {} without normalisation
    opt_state: optax.OptState
    history: Any = None  # the mean of all its past parameters, for historical averaging


@flax.struct.dataclass
class TrainState:
    """Everything an update reads and writes: one pytree, one checkpoint.

    Attributes:
      step: updates done in this stage, int32.
      seed: PRNG key data, uint32; every random choice is folded in from it and never written back.
      generator: the generator in training.
      ema: `{"params", "batch_stats"}` of the generator, averaged; what validation, export and the next stage use.
      discriminator: None in the pretraining stage.
      health: what `guard.guarded` counts.
    """

    step: jax.Array
    seed: jax.Array
    generator: NetworkState
    ema: Mapping[str, Any]
    discriminator: NetworkState | None = None
    health: Health = flax.struct.field(default_factory=fresh_health)


# ---------------------------------------------------------------------------------------------- states


def create_network_state(
    module: nn.Module,
    optimizer: optax.GradientTransformation,
    key: jax.Array,
    image: jax.Array,
    variables: Mapping[str, Any] | None = None,
    *,
    with_history: bool = False,
) -> NetworkState:
    """A network with fresh Adam moments; `variables` instead of a fresh initialisation where given."""
    variables = module.init(key, image) if variables is None else variables
    params = variables["params"]
    history = jax.tree.map(jnp.copy, params) if with_history else None  # a copy: both are donated
    return NetworkState(params, variables.get("batch_stats", {}), optimizer.init(params), history)


def create_train_state(
    seed: int,
    generator: nn.Module,
    optimizer: optax.GradientTransformation,
    *,
    crop_px: int,
    discriminator: nn.Module | None = None,
    discriminator_optimizer: optax.GradientTransformation | None = None,
    variables: Mapping[str, Any] | None = None,
    with_history: bool = False,
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
      with_history: keep the mean of past parameters, for `historical_averaging`.
    """
    key = jax.random.key(seed)
    lr = jnp.zeros((1, crop_px // generator.scale, crop_px // generator.scale, 3))
    hr = jnp.zeros((1, crop_px, crop_px, 3))
    g = create_network_state(generator, optimizer, jax.random.fold_in(key, 0), lr, variables, with_history=with_history)
    d = None
    if discriminator is not None:
        key_d = jax.random.fold_in(key, 1)
        d = create_network_state(discriminator, discriminator_optimizer, key_d, hr, with_history=with_history)
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
    perceptual_tap_weights: Sequence[float] = (),
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
      perceptual_tap_weights: of each feature map besides, in the order of `features`; 1 by default.
      tv_weight: of the total variation of `sr` on [-1, 1].
    """
    sr_signed, hr_signed = color.to_signed(sr), color.to_signed(hr)
    terms = {}
    if pixel_weight:
        terms["pixel"] = pixel_weight * lookup(PIXEL, pixel, "pixel loss")(sr_signed, hr_signed).mean()
    if perceptual_weight:
        distance = lookup(PIXEL, perceptual, "perceptual loss")
        ours, theirs = features(sr), features(hr)
        tap_weights = tuple(perceptual_tap_weights) or (1.0,) * len(ours)
        distances = [w * distance(ours[tap], theirs[tap]).mean() for tap, w in zip(ours, tap_weights, strict=True)]
        terms["perceptual"] = perceptual_weight * sum(distances)
    if tv_weight:
        terms["total_variation"] = tv_weight * total_variation(sr_signed).mean()
    return terms


# ---------------------------------------------------------------------------------------------- updates


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
    micro_batches: int = 1,
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
      micro_batches: parts of the batch that pass one after the other, each with its own batch statistics, of which the
        mean is kept; without batch normalisation the update is that of the whole batch.

    Returns:
      The next state, and scalars: "loss" and each weighted term.
    """

    def gradient(part):
        def loss_fn(params):
            sr, batch_stats = forward(generator, params, state.generator.batch_stats, part["lr"])
            terms = content_terms(sr, part["hr"], features, **losses)
            return sum(terms.values()), (terms, batch_stats)

        return jax.grad(loss_fn, has_aux=True)(state.generator.params)

    grads, (terms, batch_stats) = mean_over(devices.mean_of_parts(gradient, batch, micro_batches), axis_name)
    g = updated(state.generator, grads, batch_stats, optimizer)
    return advance(state, g, ema_decay), {"loss": sum(terms.values()), **terms}
