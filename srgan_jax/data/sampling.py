"""Random choice of images, crops and keys: pure functions of (seed, step, index of the sample in the global batch).

Samples therefore don't depend on the number of devices and processes, and are the same after a resume. The functions
run on the device, inside the jitted update, or on the host for the source `stream`.
"""

import jax
import jax.numpy as jnp
import numpy as np

from srgan_jax.runtime.random_keys import PURPOSE_CROP, PURPOSE_CROP_CANDIDATES, keys_for

SHUFFLE_ROUNDS = 24
CANDIDATES = 6  # crops per sample from which one with contrast is chosen


def _mix(x: jax.Array) -> jax.Array:
    """Returns MurmurHash3's 32-bit finaliser of `x`."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def shuffled(index: jax.Array, size: int, seed: jax.Array) -> jax.Array:
    """Returns the image of `index` under a random permutation of `size` elements.

    This is the swap-or-not shuffle (Hoang, Morris & Rogaway 2012), which needs no table and no sorting.

    Args:
      index: integers below `size`, of any shape.
      size: number of elements.
      seed: uint32, a scalar or of the shape of `index`; determines the permutation.

    Returns:
      int32 of the shape of `index`; distinct indices give distinct results.
    """
    index, count = index.astype(jnp.uint32), jnp.uint32(size)
    for round_ in range(SHUFFLE_ROUNDS):
        round_seed = _mix(seed + jnp.uint32(round_ * 0x9E3779B9 & 0xFFFFFFFF))
        partner = (_mix(round_seed ^ jnp.uint32(0x5BD1E995)) % count + count - index) % count
        coin = _mix(jnp.maximum(index, partner) ^ round_seed) & 1
        index = jnp.where(coin == 1, partner, index)
    return index.astype(jnp.int32)


def rollback_seed(seed: jax.Array, rollbacks: jax.Array) -> jax.Array:
    """Returns the key data of a new sample order after each rollback; `seed` itself for 0 rollbacks."""
    return seed ^ _mix(jnp.asarray(rollbacks).astype(jnp.uint32))


def sample_keys(seed: jax.Array, step: jax.Array, indices: jax.Array) -> jax.Array:
    """Returns a key for each sample: `fold_in(fold_in(seed, step), index)`.

    Args:
      seed: key data, uint32.
      step: number of the batch.
      indices: `[B]` positions in the global batch.

    Returns:
      `[B]` PRNG keys.
    """
    step_key = jax.random.fold_in(jax.random.wrap_key_data(seed), step)
    return jax.vmap(lambda index: jax.random.fold_in(step_key, index))(indices)


def choose_images(seed: jax.Array, step: jax.Array, indices: jax.Array, batch_size: int, image_count: int) -> jax.Array:
    """Returns the index of the image of each sample.

    Each epoch visits all images once, in a new random order, so that images repeat in a batch only where it spans two
    epochs.

    Args:
      seed: key data, uint32.
      step: number of the batch.
      indices: `[B]` positions in the global batch.
      batch_size: samples in the global batch.
      image_count: number of images.

    Returns:
      `[B]` int32 below `image_count`.
    """
    number = step.astype(jnp.uint32) * jnp.uint32(batch_size) + indices.astype(jnp.uint32)
    epoch = number // jnp.uint32(image_count)
    return shuffled(number % jnp.uint32(image_count), image_count, _mix(epoch ^ _mix(seed.astype(jnp.uint32)[-1] + 1)))


def choose_corners(keys: jax.Array, sizes: jax.Array, crop_px: int) -> jax.Array:
    """Returns the top left corner of each sample's crop, uniform over its image.

    Args:
      keys: `[B]` keys of the samples.
      sizes: `[B, 2]` heights and widths of the images, each at least `crop_px`.
      crop_px: side of the crop.

    Returns:
      `[B, 2]` int32, row and column.
    """
    choices = sizes - crop_px + 1
    uniform = jax.vmap(lambda key: jax.random.uniform(key, (2,)))(keys_for(keys, PURPOSE_CROP))
    return jnp.minimum((uniform * choices.astype(jnp.float32)).astype(jnp.int32), choices - 1)


def candidate_corners(keys: jax.Array, sizes: jax.Array, crop_px: int) -> jax.Array:
    """Returns several corners for each sample, the first of which is that of `choose_corners`.

    Arguments are those of `choose_corners`.

    Returns:
      `[B, CANDIDATES, 2]` int32.
    """
    others = keys_for(keys, PURPOSE_CROP_CANDIDATES)
    candidates = [keys, *(keys_for(others, number) for number in range(1, CANDIDATES))]
    return jnp.stack([choose_corners(own, sizes, crop_px) for own in candidates], axis=1)


def choose_candidate(windows: jax.Array | np.ndarray, min_contrast: float) -> jax.Array:
    """Returns the index of the first window with contrast, or of the one with the most.

    The contrast is the mean absolute deviation of one channel from its mean, over every fourth pixel. It is computed in
    integers, so that the host and every device choose the same window.

    Args:
      windows: `[B, K, W, W, C]` uint8 or uint16.
      min_contrast: in levels of 255.

    Returns:
      `[B]` int32.
    """
    values = jnp.asarray(windows)[..., ::4, ::4, min(1, windows.shape[-1] - 1)].astype(jnp.int32)
    values = values >> 8 if windows.dtype == np.uint16 else values
    count = values.shape[-1] * values.shape[-2]
    means = values.sum(axis=(-2, -1), keepdims=True) // count
    totals = jnp.abs(values - means).sum(axis=(-2, -1))
    enough = totals >= int(min_contrast * count)
    return jnp.where(enough.any(axis=1), enough.argmax(axis=1), totals.argmax(axis=1)).astype(jnp.int32)
