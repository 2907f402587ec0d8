"""Tests that no two purposes of a sample's random key use the same random bits."""

import jax
import jax.numpy as jnp
import numpy as np

from srgan_jax.data import batches, sampling
from srgan_jax.models import discriminator_layers
from srgan_jax.runtime import random_keys

PURPOSES = {name: value for name, value in vars(random_keys).items() if name.startswith("PURPOSE_")}
COUNT = 4096


def _sample_keys():
    return sampling.sample_keys(np.array([0, 7], np.uint32), jnp.int32(3), jnp.arange(COUNT))


def _flipped(keys):
    """Returns for each sample whether it isn't transposed and whether it is flipped: windows have a white top row."""
    windows = jnp.zeros((COUNT, 2, 2, 3), jnp.uint8).at[:, 0].set(255)
    keep = lambda key, hr, scale: hr  # noqa: E731
    hr = batches.make_batch(windows, keys, degrade=keep, scale=1, margin_px=0)["hr"]
    is_row = np.asarray(hr[:, 0, 0, 0] == hr[:, 0, 1, 0])  # else it was transposed
    return is_row, np.asarray(hr[:, 0, 0, 0] == 0)


def test_dropout_is_independent_of_flips():
    """With 4,096 samples the fraction of flips among dropped logits is .5 +- .03 (5 standard deviations at 10 %)."""
    keys = _sample_keys()
    is_row, flipped = _flipped(keys)
    for purpose in (random_keys.PURPOSE_DROPOUT_REAL, random_keys.PURPOSE_DROPOUT_FAKE):
        kept = discriminator_layers.dropout(jnp.ones((COUNT, 1)), 0.4, random_keys.keys_for(keys, purpose))
        dropped = np.asarray(kept[:, 0] == 0)
        assert abs(dropped.mean() - 0.4) < 0.05
        of_rows = flipped[is_row & dropped]
        assert abs(of_rows.mean() - 0.5) < 5 * 0.5 / np.sqrt(len(of_rows)), purpose


def test_purposes_differ_and_keep_their_numbers():
    """A changed number would change the samples of every run that resumes."""
    assert len(set(PURPOSES.values())) == len(PURPOSES) == 8
    assert [random_keys.PURPOSE_CROP, random_keys.PURPOSE_FLIP, random_keys.PURPOSE_DEGRADATION] == [0, 1, 2]
    assert [random_keys.PURPOSE_GRADIENT_PENALTY, random_keys.PURPOSE_RESCALE] == [3, 4]
    data = [jax.random.key_data(random_keys.keys_for(_sample_keys()[:8], value)) for value in PURPOSES.values()]
    assert len({np.asarray(rows).tobytes() for rows in data}) == len(PURPOSES)
