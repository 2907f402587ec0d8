"""Purposes of a sample's random key. Each purpose has a number, so that no two purposes use the same random bits."""

import jax

PURPOSE_CROP = 0
PURPOSE_FLIP = 1
PURPOSE_DEGRADATION = 2
PURPOSE_GRADIENT_PENALTY = 3
PURPOSE_RESCALE = 4
PURPOSE_DROPOUT_REAL = 5
PURPOSE_DROPOUT_FAKE = 6
PURPOSE_CROP_CANDIDATES = 7


def keys_for(keys: jax.Array, purpose: int) -> jax.Array:
    """Returns `[B]` keys of one purpose, from the `[B]` keys of the samples."""
    return jax.vmap(lambda key: jax.random.fold_in(key, purpose))(keys)
