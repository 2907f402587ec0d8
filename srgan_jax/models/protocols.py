"""Interfaces of the entries of `GENERATORS`, `DISCRIMINATORS` and `EXTRACTORS`, and their checks."""

from collections.abc import Mapping
from typing import ClassVar, Protocol

import flax.linen as nn
import jax

from srgan_jax.runtime.interfaces import check_attributes, check_parameters


class Generator(Protocol):
    """A Flax module that upscales images; its dataclass fields are its architecture, stored in the weights file.

    It may also have the fields `dtype` (of the computation), `axis_name` (of pmap, for batch statistics) and `remat`
    (recompute activations for the gradient), which are not stored. A network with strides, pixel-unshuffle or attention
    windows has the property `period_px`: it divides the LR image into blocks of so many pixels, so that tiles start at
    multiples of it. Without the property it is 2. One whose receptive field is large can have the property
    `least_radius_px`, a lower bound of its radius in LR pixels: where that is more than the largest halo of a tile, the
    radius isn't measured.

    With the field `channels`, it can be trained on images of other bands than RGB; without it, on RGB only.

    Attributes:
      scale: SR pixels per LR pixel, along each axis.
    """

    scale: int

    def __call__(self, lr: jax.Array, *, train: bool = False, mask: jax.Array | None = None) -> jax.Array:
        """Returns SR `[N, h * scale, w * scale, 3]` of `lr [N, h, w, 3]`, both in [0, 1], float32.

        Args:
          lr: images.
          train: update batch statistics.
          mask: `[N, h, w, 1]`, 1 inside the image, 0 outside; the input of every convolution must be zeroed outside.
        """
        ...


class Discriminator(Protocol):
    """A Flax module that classifies images as real or generated.

    Attributes:
      TAKES: the arguments of the call: "image", "features" (of the extractor, by tap), "lr".
    """

    TAKES: ClassVar[tuple[str, ...]]

    def __call__(
        self, *, train: bool = False, keys: jax.Array | None = None, **inputs: jax.Array
    ) -> jax.Array | tuple[jax.Array, ...]:
        """Returns logits of any shape, or a tuple with those of each head."""
        ...


class Extractor(Protocol):
    """A fixed Flax module, the feature maps of which a loss or metric compares.

    Attributes:
      TAPS: the names of its feature maps.
      taps: those that a call returns, the compared feature layers.
      convention: the input that its weights expect.
    """

    TAPS: ClassVar[tuple[str, ...]]
    taps: tuple[str, ...]
    convention: str

    def __call__(self, image: jax.Array) -> Mapping[str, jax.Array]:
        """Returns the feature maps of `image [N, H, W, 3]` in [0, 1], by tap."""
        ...


def check_generator(name: str, kind: type[nn.Module]) -> None:
    """Raises UserError if a generator lacks an attribute or argument of `Generator`."""
    check_attributes(kind, ("scale",), f"generator {name!r}")
    check_parameters(kind.__call__, ("train", "mask"), f"generator {name!r}", "(lr, *, train, mask)")


def check_discriminator(name: str, kind: type[nn.Module]) -> None:
    """Raises UserError if a discriminator lacks an argument of `Discriminator`."""
    takes = takes_of(kind)
    call = f"({', '.join(takes)}, *, train, keys)"
    check_parameters(kind.__call__, (*takes, "train", "keys"), f"discriminator {name!r}", call)


def check_extractor(name: str, kind: type[nn.Module]) -> None:
    """Raises UserError if an extractor lacks an attribute of `Extractor`."""
    check_attributes(kind, ("TAPS", "taps", "convention"), f"extractor {name!r}")


def takes_of(kind: type[nn.Module]) -> tuple[str, ...]:
    """Returns the inputs of a discriminator, its `TAKES`; by default the image alone."""
    return tuple(getattr(kind, "TAKES", ("image",)))
