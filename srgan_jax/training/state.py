"""The state of training: one pytree, one checkpoint."""

from collections.abc import Mapping

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from srgan_jax.runtime.types import PyTree
from srgan_jax.training.nonfinite import Health, initial_health


class NetworkState(flax.struct.PyTreeNode):
    """A network in training.

    Attributes:
      params: its parameters.
      batch_stats: running statistics; {} without normalisation.
      opt_state: of its optimiser.
      history: the mean of all its past parameters, for historical averaging; else None.
    """

    params: PyTree
    batch_stats: PyTree
    opt_state: optax.OptState
    history: PyTree = None


class TrainState(flax.struct.PyTreeNode):
    """Everything an update reads and writes: one pytree, one checkpoint.

    Attributes:
      step: updates done in this stage, int32.
      seed: PRNG key data, uint32; every random choice is folded in from it and never written back.
      generator: the generator in training.
      ema: `{"params", "batch_stats"}` of the generator, averaged; what validation, export and the next stage use.
      discriminator: None in the pretraining stage.
      health: what `nonfinite.skip_nonfinite` counts.
    """

    step: jax.Array
    seed: jax.Array
    generator: NetworkState
    ema: Mapping[str, PyTree]
    discriminator: NetworkState | None = None
    health: Health = flax.struct.field(default_factory=initial_health)

    @property
    def opponent(self) -> NetworkState:
        """The discriminator; ValueError in a stage without one."""
        if self.discriminator is None:
            raise ValueError("the state has no discriminator")
        return self.discriminator


def create_network_state(
    module: nn.Module,
    transformation: optax.GradientTransformation,
    key: jax.Array,
    inputs: Mapping[str, PyTree],
    variables: Mapping[str, PyTree] | None = None,
    *,
    with_history: bool = False,
) -> NetworkState:
    """Returns a network with fresh moments; `variables` instead of a fresh initialisation where given."""
    variables = module.init(key, **inputs) if variables is None else variables
    params = variables["params"]
    history = jax.tree.map(jnp.copy, params) if with_history else None  # a copy: both are donated
    return NetworkState(params, variables.get("batch_stats", {}), transformation.init(params), history)


def create_train_state(seed: int, generator: NetworkState, discriminator: NetworkState | None = None) -> TrainState:
    """Returns the state before the first update of a stage."""
    averaged = {"params": generator.params, "batch_stats": generator.batch_stats}
    ema = jax.tree.map(jnp.copy, averaged)  # a copy: both are donated
    key = jax.random.key_data(jax.random.key(seed))
    return TrainState(jnp.zeros((), jnp.int32), key, generator, ema, discriminator)


def count_parameters(params: PyTree) -> int:
    """Returns how many numbers are learned."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
