"""`Views`: the inputs of a loss term."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax


class Views(NamedTuple):
    """The inputs of a loss term. A term reads the fields that its table entry names; only those are computed.

    Attributes:
      sr: generated images `[N, H, W, 3]` in [0, 1].
      hr: original images, the same shape and range.
      lr: input images of the generator, `[N, h, w, 3]` in [0, 1].
      features: for each tap of the extractor (a compared feature layer), the features of SR and of HR, multiplied by
        the scale that the convention of the weights defines.
      logits: for each head of the discriminator, the logits on real and on generated images, of any shape.
      critic: maps images `[N, H, W, 3]` to logits, one array for each head; set in the discriminator's update.
      keys: `[N]` random keys of the samples, for the gradient penalty.
    """

    sr: jax.Array
    hr: jax.Array
    lr: jax.Array | None = None
    features: Mapping[str, tuple[jax.Array, jax.Array]] = {}
    logits: tuple[tuple[jax.Array, jax.Array], ...] = ()
    critic: Callable[[jax.Array], tuple[jax.Array, ...]] | None = None
    keys: jax.Array | None = None
