"""What an update needs besides state and batches: the two players and how their gradients are averaged."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import flax.linen as nn
import jax
import optax

from srgan_jax.losses.terms import WeightedTerm

Batch = Mapping[str, jax.Array]  # "lr", "hr" in [0, 1], and "keys" of the samples
Features = Callable[[jax.Array], Mapping[str, jax.Array]]  # images in [0, 1] -> feature maps, scaled for the loss


class Optimizer(NamedTuple):
    """How a network moves.

    Attributes:
      transformation: of optax.
      clip_norm: gradients are scaled down to this global norm; 0 leaves them as they are.
      historical_averaging: weight of the squared distance to the mean of all past parameters (Salimans et al., arXiv
        1606.03498, section 3.3), where `NetworkState.history` holds that mean.
      every: the network moves at every so many updates only.
    """

    transformation: optax.GradientTransformation
    clip_norm: float = 0.0
    historical_averaging: float = 0.0
    every: int = 1


class Player(NamedTuple):
    """A network, how it moves, and what it minimises.

    Attributes:
      module: of Flax.
      optimizer: its own.
      losses: the terms of its loss.
      takes: of a discriminator, its inputs: "image", "features", "lr".
      remat: keep nothing of its passes for their gradients, which compute it a second time.
    """

    module: nn.Module
    optimizer: Optimizer
    losses: tuple[WeightedTerm, ...]
    takes: tuple[str, ...] = ("image",)
    remat: bool = False


class Averaging(NamedTuple):
    """What a gradient is averaged over: microbatches, one after the other, and the devices of an axis of pmap."""

    microbatches: int = 1
    axis_name: str | None = None


NO_AVERAGING = Averaging()


@dataclasses.dataclass(frozen=True)
class Game:
    """All that an update needs besides state and batches.

    Attributes:
      generator: player.
      discriminator: player; None for pretraining.
      features: the extractor; None where no term and no discriminator reads features.
      averaging: of gradients, statistics and metrics.
      ema_decay: of the averaged generator.
      grad_share: log the norm of each term's gradient on SR.
      discriminator_updates: of one update, for steps that make several.
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
        """The discriminator; ValueError in a stage without one."""
        if self.discriminator is None:
            raise ValueError("this step needs a stage with a discriminator")
        return self.discriminator
