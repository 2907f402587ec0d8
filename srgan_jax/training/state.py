"""`TrainState`: everything that a checkpoint holds, as one pytree."""

from collections.abc import Mapping

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax

from srgan_jax.runtime.types import PyTree
from srgan_jax.training.nonfinite import Health, initial_health


class NetworkState(flax.struct.PyTreeNode):
    """The training state of one network.

    Attributes:
      params: parameters.
      batch_stats: running statistics of batch normalisation; {} without it.
      opt_state: state of the optimiser.
      history: mean of all past parameters, for historical averaging; else None.
    """

    params: PyTree
    batch_stats: PyTree
    opt_state: optax.OptState
    history: PyTree = None


class TrainState(flax.struct.PyTreeNode):
    """Everything that an update reads and writes. A checkpoint holds one `TrainState`.

    Attributes:
      step: updates so far in this stage, int32.
      seed: random key data, uint32. Updates derive all random keys from it and never change it.
      generator: the generator in training.
      ema: `{"params", "batch_stats"}`: moving average of the generator, which validation, export and the next stage
        use.
      discriminator: the discriminator in training; None in the pretraining stage.
      grad_scale: smoothed factor of the loss term with an adaptive weight, see `grad_balance`; else None.
      health: counters of `nonfinite.skip_nonfinite`.
    """

    step: jax.Array
    seed: jax.Array
    generator: NetworkState
    ema: Mapping[str, PyTree]
    discriminator: NetworkState | None = None
    grad_scale: jax.Array | None = None
    health: Health = flax.struct.field(default_factory=initial_health)

    @property
    def opponent(self) -> NetworkState:
        """The discriminator. Raises ValueError in a stage without one."""
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
    """Returns the state of a network before training, with `variables` if given, else initialised from `key`."""
    variables = module.init(key, **inputs) if variables is None else variables
    params = variables["params"]
    history = jax.tree.map(jnp.copy, params) if with_history else None  # a copy, because both are donated
    return NetworkState(params, variables.get("batch_stats", {}), transformation.init(params), history)


def create_train_state(
    seed: int, generator: NetworkState, discriminator: NetworkState | None = None, *, adaptive: bool = False
) -> TrainState:
    """Returns the state before the first update of a stage; `adaptive` if a loss term has an adaptive weight."""
    averaged = {"params": generator.params, "batch_stats": generator.batch_stats}
    ema = jax.tree.map(jnp.copy, averaged)  # a copy, because both are donated
    key = jax.random.key_data(jax.random.key(seed))
    grad_scale = jnp.ones(()) if adaptive else None
    return TrainState(jnp.zeros((), jnp.int32), key, generator, ema, discriminator, grad_scale)


def advance(
    state: TrainState,
    generator: NetworkState,
    ema_decay: float,
    metrics: Mapping[str, jax.Array],
    discriminator: NetworkState | None = None,
) -> TrainState:
    """Returns the next state, with the moving average of the generator updated.

    The decay of the average rises from 0.1 at the first update to `ema_decay`. "grad_scale" among the metrics of the
    generator's update is kept for the next one.
    """
    # Not optax.incremental_update, which takes 1 - decay as its step size and so rounds the decay.
    count = state.step.astype(jnp.float32)
    decay = jnp.minimum(ema_decay, (1.0 + count) / (10.0 + count))
    average = lambda old, new: decay * old + (1.0 - decay) * new  # noqa: E731
    ema = {
        "params": jax.tree.map(average, state.ema["params"], generator.params),
        "batch_stats": jax.tree.map(average, state.ema["batch_stats"], generator.batch_stats),
    }
    return state.replace(
        step=state.step + 1, generator=generator, discriminator=discriminator, ema=ema,
        grad_scale=metrics.get("grad_scale"),
    )  # fmt: skip


def count_parameters(params: PyTree) -> int:
    """Returns the number of trainable parameters."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
