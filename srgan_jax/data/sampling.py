"""Which picture, which crop, which flip: pure functions of (seed, step, index of the sample in the global batch).

So every sample is the same whatever the number of devices and processes, and after every resume. Runs on the device,
inside the jitted update, or on the host for pictures that don't live on the device.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from srgan_jax import color
from srgan_jax.degradations import filters
from srgan_jax.runtime.random_keys import (
    PURPOSE_CROP,
    PURPOSE_DEGRADATION,
    PURPOSE_FLIP,
    PURPOSE_RESCALE,
    keys_for,
)

SHUFFLE_ROUNDS = 24


def _mix(x: jax.Array) -> jax.Array:
    """MurmurHash3's 32-bit finaliser."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x85EBCA6B)
    x = (x ^ (x >> 13)) * jnp.uint32(0xC2B2AE35)
    return x ^ (x >> 16)


def shuffled(index: jax.Array, size: int, seed: jax.Array) -> jax.Array:
    """Where `index` stands in a random order of `size` things: a permutation evaluated one element at a time.

    The swap-or-not shuffle (Hoang, Morris & Rogaway 2012): no table, no sort.

    Args:
      index: any shape, integers below `size`.
      size: how many.
      seed: uint32 scalar, or of the shape of `index`; another seed is another order.

    Returns:
      int32 of the shape of `index`; distinct indices give distinct results.
    """
    index, size = index.astype(jnp.uint32), jnp.uint32(size)
    for round_ in range(SHUFFLE_ROUNDS):
        round_seed = _mix(seed + jnp.uint32(round_ * 0x9E3779B9 & 0xFFFFFFFF))
        partner = (_mix(round_seed ^ jnp.uint32(0x5BD1E995)) % size + size - index) % size
        coin = _mix(jnp.maximum(index, partner) ^ round_seed) & 1
        index = jnp.where(coin == 1, partner, index)
    return index.astype(jnp.int32)


def salted(seed: jax.Array, salt: jax.Array) -> jax.Array:
    """The key data of another order of samples for each salt; salt 0 is `seed` itself."""
    return seed ^ _mix(jnp.asarray(salt).astype(jnp.uint32))


def sample_keys(seed: jax.Array, step: jax.Array, indices: jax.Array) -> jax.Array:
    """One key for each sample: `fold_in(fold_in(seed, step), index)`.

    Args:
      seed: key data, uint32.
      step: of the update.
      indices: `[B]` positions in the global batch.

    Returns:
      `[B]` PRNG keys.
    """
    step_key = jax.random.fold_in(jax.random.wrap_key_data(seed), step)
    return jax.vmap(lambda index: jax.random.fold_in(step_key, index))(indices)


def choose_pictures(seed: jax.Array, step: jax.Array, indices: jax.Array, batch_size: int, pictures: int) -> jax.Array:
    """The picture of each sample: a new random order of all pictures in each epoch, so a batch has distinct ones.

    Returns:
      `[B]` int32 below `pictures`.
    """
    number = step.astype(jnp.uint32) * jnp.uint32(batch_size) + indices.astype(jnp.uint32)
    epoch = number // jnp.uint32(pictures)
    return shuffled(number % jnp.uint32(pictures), pictures, _mix(epoch ^ _mix(seed.astype(jnp.uint32)[-1] + 1)))


def choose_corners(keys: jax.Array, sizes: jax.Array, crop_px: int) -> jax.Array:
    """The top left corner of each sample's crop, uniform over its picture.

    Args:
      keys: `[B]`.
      sizes: `[B, 2]` height and width of the pictures, each at least `crop_px`.
      crop_px: side of the crop.

    Returns:
      `[B, 2]` int32.
    """
    choices = sizes - crop_px + 1
    uniform = jax.vmap(lambda key: jax.random.uniform(key, (2,)))(keys_for(keys, PURPOSE_CROP))
    return jnp.minimum((uniform * choices.astype(jnp.float32)).astype(jnp.int32), choices - 1)


def _turn(key: jax.Array, image: jax.Array) -> jax.Array:
    """One of the eight flips and rotations of a square image."""
    up_down, left_right, diagonal = jax.random.bernoulli(jax.random.fold_in(key, PURPOSE_FLIP), 0.5, (3,))
    image = jnp.where(up_down, image[::-1], image)
    image = jnp.where(left_right, image[:, ::-1], image)
    return jnp.where(diagonal, image.swapaxes(0, 1), image)


def rescaled_window(crop_px: int, margin_px: int, rescale: float) -> tuple[int, int]:
    """The crop and margin to cut so that, shrunk by a factor of `rescale` to 1, they still hold those asked for."""
    return crop_px + 2 * math.ceil(crop_px * (1 / rescale - 1) / 2), math.ceil(margin_px / rescale)


def _shrink(key: jax.Array, image: jax.Array, side: int, rescale: float) -> jax.Array:
    """The middle of a picture at a random smaller size, `[side, side, 3]`, rounded to 8 bits."""
    factor = filters.uniform(key, (rescale, 1.0))
    matrix = filters.resize_matrix("bicubic", image.shape[0], side, factor)
    return color.quantize(filters.apply_matrices(matrix, matrix, image))


def make_batch(
    windows: jax.Array,
    keys: jax.Array,
    *,
    degrade: Callable,
    scale: int,
    margin_px: int,
    augment: bool = True,
    rescale: float = 1.0,
    crop_px: int = 0,
) -> dict[str, jax.Array]:
    """HR crops and their LR images, from windows that are `margin_px` larger on each side.

    The margin lets the LR image be made without an artificial border, and is trimmed from both.

    Args:
      windows: `[B, W, W, 3]` uint8, W = crop + 2 * margin_px; or of `rescaled_window`.
      keys: `[B]`.
      degrade: `(key, hr [W, W, 3] in [0, 1], scale=) -> lr`, from `degradations.DEGRADATIONS`.
      scale: HR pixels per LR pixel.
      margin_px: a multiple of `scale`.
      augment: flip and rotate at random.
      rescale: smallest factor by which the windows are shrunk at random first; 1 leaves them as they are.
      crop_px: of the result, needed where they are shrunk.

    Returns:
      "hr" `[B, crop, crop, 3]` and "lr" `[B, crop / scale, crop / scale, 3]`, float32 in [0, 1].
    """
    side = windows.shape[1] if rescale == 1.0 else crop_px + 2 * margin_px
    margin_lr = margin_px // scale
    trim, trim_lr = slice(margin_px, side - margin_px), slice(margin_lr, side // scale - margin_lr)

    def make_sample(window, key):
        hr = color.from_uint8(_turn(key, window) if augment else window)
        hr = hr if rescale == 1.0 else _shrink(jax.random.fold_in(key, PURPOSE_RESCALE), hr, side, rescale)
        lr = degrade(jax.random.fold_in(key, PURPOSE_DEGRADATION), hr, scale=scale)
        return {"hr": hr[trim, trim], "lr": lr[trim_lr, trim_lr]}

    return jax.vmap(make_sample)(windows, keys)


def make_paired_batch(windows: jax.Array, keys: jax.Array, *, scale: int, augment: bool = True) -> dict[str, jax.Array]:
    """HR crops with the LR images that belong to them, from windows as `pairs.pack` makes them.

    Args:
      windows: `[B, w, w, 3 * scale**2 + 3]` uint8.
      keys: `[B]`.
      scale: HR pixels per LR pixel.
      augment: flip and rotate at random.

    Returns:
      As `make_batch`: "hr" `[B, w * scale, w * scale, 3]` and "lr" `[B, w, w, 3]`.
    """

    def make_sample(window, key):
        height, width, _ = window.shape
        blocks = window[..., :-3].reshape(height, width, scale, scale, 3)
        hr = blocks.transpose(0, 2, 1, 3, 4).reshape(height * scale, width * scale, 3)
        hr, lr = (color.from_uint8(_turn(key, image) if augment else image) for image in (hr, window[..., -3:]))
        return {"hr": hr, "lr": lr}

    return jax.vmap(make_sample)(windows, keys)
