"""The batch of an update as its config describes it."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax

from srgan_jax.data import batches, memory, sampling
from srgan_jax.degradations import DEGRADATIONS
from srgan_jax.runtime.errors import lookup


def degradation_of(config: Any) -> tuple[Callable, dict[str, Any], int]:
    """The function, its keyword arguments, and its margin: a multiple of the scale."""
    options = dict(config.degradation)
    name, scale = options.pop("name"), config.generator.scale
    degrade, reach_px = lookup(DEGRADATIONS, name, "degradation")
    valid = dict.fromkeys(inspect.getfullargspec(degrade).kwonlyargs)
    valid.pop("scale")
    for option in options:
        lookup(valid, option, f"option of {name}")
    return degrade, options, -(-reach_px(scale=scale, **options) // scale) * scale


def degradation(config: Any) -> Callable:
    """`(key, hr) -> lr` as the config has it."""
    degrade, options, _ = degradation_of(config)
    return functools.partial(degrade, scale=config.generator.scale, **options)


def margin_px(config: Any) -> int:
    """HR pixels around a crop that its LR image depends on; 0 where the LR picture is given."""
    return 0 if config.data.lr_feature else degradation_of(config)[2]


def geometry(config: Any) -> dict[str, int]:
    """`crop_px`, `margin_px` and `channels` of the windows that the data sources cut; of pairs, in LR pixels."""
    data, scale = config.data, config.generator.scale
    if data.lr_feature:
        return {"crop_px": data.crop_px // scale, "margin_px": 0, "channels": 3 * scale**2 + 3}
    crop, margin = batches.rescaled_window(data.crop_px, margin_px(config), data.rescale)
    return {"crop_px": crop, "margin_px": margin, "channels": 3}


def make_batch(
    config: Any, seed: jax.Array, step: jax.Array, indices: jax.Array, store: Any, windows: jax.Array | None = None
) -> dict[str, jax.Array]:
    """ "hr", "lr" and "keys" of the samples at `indices` of the global batch number `step`.

    Their crops are gathered from the tiles in `store`, or are given as `windows`.
    """
    data, scale = config.data, config.generator.scale
    keys = sampling.sample_keys(seed, step, indices)
    cut = geometry(config)
    if windows is None:
        chosen = sampling.choose_pictures(seed, step, indices, data.batch_size, store["sizes"].shape[0])
        cut = {"crop_px": cut["crop_px"], "margin_px": cut["margin_px"]}
        windows = memory.gather_windows(store, chosen, keys, **cut)
    if data.lr_feature:
        batch = batches.make_paired_batch(windows, keys, scale=scale, augment=data.augment)
    else:
        degrade, options, margin = degradation_of(config)
        degrade = functools.partial(degrade, **options)
        options = {"augment": data.augment, "rescale": data.rescale, "crop_px": data.crop_px}
        batch = batches.make_batch(windows, keys, degrade=degrade, scale=scale, margin_px=margin, **options)
    return batch | {"keys": keys}
