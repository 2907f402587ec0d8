"""The state of training: one pytree, one checkpoint."""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from srgan_jax.training.nonfinite import Health, fresh_health


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
      health: what `nonfinite.guarded` counts.
    """

    step: jax.Array
    seed: jax.Array
    generator: NetworkState
    ema: Mapping[str, Any]
    discriminator: NetworkState | None = None
    health: Health = flax.struct.field(default_factory=fresh_health)


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
