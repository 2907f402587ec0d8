"""`Game`: the static inputs of an update.

These are the two players (generator and discriminator), their optimisers, and how gradients are averaged.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import flax.linen as nn
import jax
import optax

from srgan_jax.losses.terms import WeightedTerm

# "lr" and "hr" in [0, 1]; "keys", the random keys of the samples; with a halo also "input", an LR larger than "lr"
Batch = Mapping[str, jax.Array]
Features = Callable[[jax.Array], Mapping[str, jax.Array]]  # images in [0, 1] -> {tap: scaled feature map}


class Optimizer(NamedTuple):
    """The optimiser of a network.

    Attributes:
      transformation: transformation of optax, with the learning rate.
      clip_norm: gradients are scaled down to this global norm; 0 means no clipping.
      historical_averaging: weight of the squared distance to the mean of all past parameters (Salimans et al., arXiv
        1606.03498, section 3.3). `NetworkState.history` holds that mean.
      every: the parameters change at every `every`-th update only.
    """

    transformation: optax.GradientTransformation
    clip_norm: float = 0.0
    historical_averaging: float = 0.0
    every: int = 1


class Player(NamedTuple):
    """A network with its optimiser and its loss.

    Attributes:
      module: Flax module.
      optimizer: optimiser of this network.
      losses: the terms of its loss.
      takes: for a discriminator, the names of its inputs: "image", "features", "lr".
      remat: recompute the activations of the forward pass for the gradient instead of storing them.
    """

    module: nn.Module
    optimizer: Optimizer
    losses: tuple[WeightedTerm, ...]
    takes: tuple[str, ...] = ("image",)
    remat: bool = False


class Averaging(NamedTuple):
    """What gradients are averaged over: sequential microbatches, and the devices along an axis of pmap.

    With `scan`, the microbatches are a loop in the compiled program, see `mapping.repeat_update`.
    """

    microbatches: int = 1
    axis_name: str | None = None
    scan: bool = False


NO_AVERAGING = Averaging()


@dataclasses.dataclass(frozen=True)
class Game:
    """The static inputs of an update: everything besides state and batches.

    Attributes:
      generator: the generator with its optimiser and loss.
      discriminator: the discriminator with its optimiser and loss; None for pretraining.
      features: the extractor; None where no term and no discriminator reads features.
      averaging: how gradients, batch statistics and metrics are averaged.
      ema_decay: decay of the exponential moving average of the generator.
      grad_share: log the norm of each term's gradient with respect to SR, as a fraction of their sum.
      discriminator_updates: discriminator updates in one step, for steps with several.
    """

    generator: Player
    discriminator: Player | None = None
    features: Features | None = None
    averaging: Averaging = NO_AVERAGING
    ema_decay: float = 0.999
    grad_share: bool = False
    discriminator_updates: int = 1

    @property
    def opponent(self) -> Player:
        """The discriminator. Raises ValueError in a stage without one."""
        if self.discriminator is None:
            raise ValueError("this step needs a stage with a discriminator")
        return self.discriminator
