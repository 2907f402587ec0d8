"""Pure functions that make HR crops and their LR images from windows, on the device."""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from srgan_jax.degradations import filters
from srgan_jax.ops import color
from srgan_jax.runtime.random_keys import PURPOSE_DEGRADATION, PURPOSE_FLIP, PURPOSE_RESCALE

AUGMENTATIONS = {  # name: whether an image is flipped up-down, left-right, and along its diagonal, each at random
    "none": (False, False, False),
    "horizontal": (False, True, False),
    "flips": (True, True, False),
    "flips_rotations": (True, True, True),  # all eight orientations of a square
}


def _augment(key: jax.Array, image: jax.Array, kind: str) -> jax.Array:
    """Returns a square image in a random one of the orientations that `kind` names; each is as likely."""
    chosen = jax.random.bernoulli(jax.random.fold_in(key, PURPOSE_FLIP), 0.5, (3,))
    flipped = (lambda x: x[::-1], lambda x: x[:, ::-1], lambda x: x.swapaxes(0, 1))
    for allowed, flip, coin in zip(AUGMENTATIONS[kind], flipped, chosen, strict=True):
        image = jnp.where(coin, flip(image), image) if allowed else image
    return image


def rescaled_window(crop_px: int, margin_px: int, rescale: float) -> tuple[int, int]:
    """Returns a crop and margin large enough for `crop_px` and `margin_px` after shrinking by up to `rescale`."""
    return crop_px + 2 * math.ceil(crop_px * (1 / rescale - 1) / 2), math.ceil(margin_px / rescale)


def _shrink(key: jax.Array, image: jax.Array, side: int, rescale: float, levels: float) -> jax.Array:
    """Shrinks an image by a random factor; returns its centre `[side, side, C]`, rounded to multiples of 1/levels."""
    factor = filters.uniform(key, (rescale, 1.0))
    matrix = filters.resize_matrix("bicubic", image.shape[0], side, factor)
    return color.quantize(filters.apply_matrices(matrix, matrix, image), levels)


def make_batch(
    windows: jax.Array,
    keys: jax.Array,
    *,
    degrade: Callable,
    scale: int,
    margin_px: int,
    augment: str = "flips_rotations",
    rescale: float = 1.0,
    crop_px: int = 0,
) -> dict[str, jax.Array]:
    """Returns HR crops and their LR images, from windows that are `margin_px` larger on each side.

    The margin avoids border effects in the LR image; it is trimmed from both.

    Args:
      windows: `[B, W, W, C]` uint8 or uint16, W = crop + 2 * margin_px; if `rescale` < 1, the size that
        `rescaled_window` gives.
      keys: `[B]` keys of the samples.
      degrade: `(key, hr [W, W, 3] in [0, 1], scale=) -> lr`, from `degradations.DEGRADATIONS`.
      scale: HR pixels per LR pixel.
      margin_px: a multiple of `scale`.
      augment: a name in `AUGMENTATIONS`.
      rescale: windows are first shrunk by a random factor between this and 1; 1 keeps their size.
      crop_px: side of the resulting crops; needed if `rescale` < 1.

    Returns:
      "hr" `[B, crop, crop, 3]` and "lr" `[B, crop / scale, crop / scale, 3]`, float32 in [0, 1].
    """
    side = windows.shape[1] if rescale == 1.0 else crop_px + 2 * margin_px
    margin_lr = margin_px // scale
    trim, trim_lr = slice(margin_px, side - margin_px), slice(margin_lr, side // scale - margin_lr)

    def make_sample(window, key):
        hr = color.from_integers(_augment(key, window, augment))
        if rescale != 1.0:
            levels = color.levels_of(window.dtype)
            hr = _shrink(jax.random.fold_in(key, PURPOSE_RESCALE), hr, side, rescale, levels)
        lr = degrade(jax.random.fold_in(key, PURPOSE_DEGRADATION), hr, scale=scale)
        return {"hr": hr[trim, trim], "lr": lr[trim_lr, trim_lr]}

    return jax.vmap(make_sample)(windows, keys)


def make_paired_batch(
    windows: jax.Array, keys: jax.Array, *, scale: int, augment: str = "flips_rotations"
) -> dict[str, jax.Array]:
    """Returns HR crops and their LR images from windows of packed pairs (`datasets.pack`).

    Args:
      windows: `[B, w, w, C * scale**2 + C]` uint8 or uint16.
      keys: `[B]` keys of the samples.
      scale: HR pixels per LR pixel.
      augment: a name in `AUGMENTATIONS`.

    Returns:
      As `make_batch`: "hr" `[B, w * scale, w * scale, 3]` and "lr" `[B, w, w, 3]`.
    """

    def make_sample(window, key):
        height, width, _ = window.shape
        bands = window.shape[-1] // (scale**2 + 1)
        blocks = window[..., :-bands].reshape(height, width, scale, scale, bands)
        hr = blocks.transpose(0, 2, 1, 3, 4).reshape(height * scale, width * scale, bands)
        hr, lr = (color.from_integers(_augment(key, image, augment)) for image in (hr, window[..., -bands:]))
        return {"hr": hr, "lr": lr}

    return jax.vmap(make_sample)(windows, keys)
