"""What a loss term may look at."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax


class Views(NamedTuple):
    """What an update knows; a term reads the fields that its entry names, and only those are computed.

    Attributes:
      sr: generated images `[N, H, W, 3]` in [0, 1].
      hr: the originals, the same shape.
      lr: what SR was made from, `[N, h, w, 3]`.
      features: for each tap of the extractor its features of SR and of HR, scaled as its weights' convention asks.
      logits: for each head of the discriminator its logits on real and on generated images, of any shape.
      critic: images `[N, H, W, 3]` to logits, one array a head: the discriminator in its own update.
      keys: `[N]` random keys of the samples, for the gradient penalty.
    """

    sr: jax.Array
    hr: jax.Array
    lr: jax.Array | None = None
    features: Mapping[str, tuple[jax.Array, jax.Array]] = {}
    logits: tuple[tuple[jax.Array, jax.Array], ...] = ()
    critic: Callable[[jax.Array], tuple[jax.Array, ...]] | None = None
    keys: jax.Array | None = None
