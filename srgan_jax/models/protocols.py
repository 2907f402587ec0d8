"""What an entry of `GENERATORS`, `DISCRIMINATORS` and `EXTRACTORS` must offer, and the checks of it."""

from collections.abc import Mapping
from typing import ClassVar, Protocol

import flax.linen as nn
import jax

from srgan_jax.runtime.interfaces import check_attributes, check_parameters


class Generator(Protocol):
    """A Flax module that enlarges; its dataclass fields are its architecture, which the weights file holds.

    Besides them it may have `dtype` (of the computation), `axis_name` (of pmap, for batch statistics) and `remat`.

    Attributes:
      scale: SR pixels per LR pixel, along each axis.
    """

    scale: int

    def __call__(self, lr: jax.Array, *, train: bool = False, mask: jax.Array | None = None) -> jax.Array:
        """Returns SR `[N, h * scale, w * scale, 3]` of `lr [N, h, w, 3]`, both in [0, 1], float32.

        Args:
          lr: images.
          train: update batch statistics.
          mask: `[N, h, w, 1]`, 1 where the image is; what lies outside has to be zeroed before every convolution.
        """
        ...


class Discriminator(Protocol):
    """A Flax module that tells real from generated images.

    Attributes:
      TAKES: its inputs, arguments of the call: "image", "features" (by tap, of the extractor), "lr".
    """

    TAKES: ClassVar[tuple[str, ...]]

    def __call__(
        self, *, train: bool = False, keys: jax.Array | None = None, **inputs: jax.Array
    ) -> jax.Array | tuple[jax.Array, ...]:
        """Returns logits of any shape, or a tuple of them, one for each head."""
        ...


class Extractor(Protocol):
    """A Flax module whose feature maps are compared.

    Attributes:
      TAPS: the names of its feature maps.
      taps: those that a call returns.
      convention: what its weights expect as input.
    """

    TAPS: ClassVar[tuple[str, ...]]
    taps: tuple[str, ...]
    convention: str

    def __call__(self, image: jax.Array) -> Mapping[str, jax.Array]:
        """Returns the feature maps of `image [N, H, W, 3]` in [0, 1], by tap."""
        ...


def check_generator(name: str, kind: type[nn.Module]) -> None:
    """Raises UserError where a generator lacks what `Generator` says."""
    check_attributes(kind, ("scale",), f"generator {name!r}")
    check_parameters(kind.__call__, ("train", "mask"), f"generator {name!r}", "(lr, *, train, mask)")


def check_discriminator(name: str, kind: type[nn.Module]) -> None:
    """Raises UserError where a discriminator lacks what `Discriminator` says."""
    takes = takes_of(kind)
    call = f"({', '.join(takes)}, *, train, keys)"
    check_parameters(kind.__call__, (*takes, "train", "keys"), f"discriminator {name!r}", call)


def check_extractor(name: str, kind: type[nn.Module]) -> None:
    """Raises UserError where an extractor lacks what `Extractor` says."""
    check_attributes(kind, ("TAPS", "taps", "convention"), f"extractor {name!r}")


def takes_of(kind: type[nn.Module]) -> tuple[str, ...]:
    """Returns the inputs of a discriminator; images alone where it doesn't say."""
    return tuple(getattr(kind, "TAKES", ("image",)))
