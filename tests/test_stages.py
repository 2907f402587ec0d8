"""What a stage makes of its config: windows, batches, draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from srgan_jax import defaults
from srgan_jax.data import batches, datasets, memory
from srgan_jax.ops import color
from srgan_jax.runtime.errors import UserError
from srgan_jax.training import batch_plan, gan_step, nonfinite, setup


@pytest.fixture
def config(tiny):
    return tiny(defaults.get_config())


def _store(config, dataset):
    cut = batch_plan.geometry(config)
    pictures = datasets.open_pictures(dataset, scale=4)
    pictures, sizes, _ = datasets.without_small(pictures, cut["crop_px"])
    return memory.build_store(pictures, sizes, tile_px=200, **cut)


@pytest.mark.parametrize(
    ("updates", "fresh", "draws", "seen"),
    [(1, False, 1, [0]), (1, True, 2, [0]), (3, False, 3, [0, 1, 2]), (2, True, 3, [0, 1])],
)
def test_batches_of_an_update(config, dataset, monkeypatch, updates, fresh, draws, seen):
    """The generator gets the last; which the discriminator sees is in `seen`."""
    config.stages.gan.discriminator_updates, config.stages.gan.fresh_batch = updates, fresh
    got = {}

    def record(state, batch, features, *, discriminator_batches, **options):
        got["g"], got["d"] = batch, discriminator_batches
        return state, {}

    monkeypatch.setattr(gan_step, "gan_step", record)
    stage = setup.make_stage(config, "gan")
    assert stage.draws == draws
    update = setup.make_update(config, stage, None)
    state = jax.eval_shape(stage.init, None)
    state = state.replace(
        step=jnp.int32(5), seed=jax.random.key_data(jax.random.key(3)), health=nonfinite.fresh_health()
    )
    store, indices = _store(config, dataset), np.arange(4, dtype=np.int32)
    update(state, {"store": store}, {"indices": indices})
    expected = [
        batch_plan.make_batch(config, state.seed, np.int32(5 * draws + n), indices, store) for n in range(draws)
    ]
    np.testing.assert_array_equal(got["g"]["hr"], expected[-1]["hr"])
    assert len(got["d"]) == len(seen)
    for batch, number in zip(got["d"], seen, strict=True):
        np.testing.assert_array_equal(batch["lr"], expected[number]["lr"])
    assert draws == 1 or (expected[0]["hr"] != expected[1]["hr"]).any()
    assert (got["g"] is got["d"][-1]) != fresh  # one forward pass serves both


@pytest.mark.parametrize(
    ("name", "margin"), [("bicubic", 8), ("gaussian_blur", 4), ("photo", 80), ("second_order", 124)]
)
def test_windows_have_the_margin_of_their_degradation(config, name, margin):
    # 2 * 4; 2 + 1, up to a multiple of 4; 6 + 18 * 4 = 78, up; 10 + 28 * 4 = 122, up
    config.degradation = ConfigDict({"name": name})
    assert batch_plan.geometry(config) == {"crop_px": 32, "margin_px": margin, "channels": 3}


def test_windows_of_pairs_are_lr_sized(config):
    config.data.lr_feature = "lr"
    assert batch_plan.geometry(config) == {"crop_px": 8, "margin_px": 0, "channels": 3 * 16 + 3}


def test_rescaling_shrinks_the_hr_crops(config, dataset, photo):
    config.data.rescale, config.data.augment = 0.5, False
    assert batch_plan.geometry(config) == {"crop_px": 64, "margin_px": 16, "channels": 3}
    store, seed = _store(config, dataset), jax.random.key_data(jax.random.key(0))
    batch = batch_plan.make_batch(config, seed, np.int32(0), np.arange(4, dtype=np.int32), store)
    assert batch["hr"].shape == (4, 32, 32, 3) and batch["lr"].shape == (4, 8, 8, 3)
    # A ramp of slope 1/255 a pixel shows the factor: its slope becomes 1 over it.
    ramp = np.tile(np.arange(96, dtype=np.uint8)[:, None, None], (1, 96, 3))
    keys = jax.random.split(jax.random.key(1), 64)
    options = {"degrade": lambda key, hr, scale: hr[::4, ::4], "scale": 4, "margin_px": 8, "augment": False}
    made = batches.make_batch(jnp.tile(ramp, (64, 1, 1, 1)), keys, rescale=0.5, crop_px=32, **options)
    slopes = (made["hr"][:, -1, 0, 0] - made["hr"][:, 0, 0, 0]) * 255 / 31
    assert 1.0 <= slopes.min() < 1.1 and 1.9 < slopes.max() <= 2.04
    plain = batches.make_batch(ramp[None, 24:-24, 24:-24], keys[:1], **options)
    np.testing.assert_allclose(plain["hr"][0], color.from_uint8(ramp[32:-32, 32:-32]))
    config.data.rescale = 0.0
    with pytest.raises(UserError, match=r"config.data.rescale=0.0: expected more than 0"):
        setup.check_names(config)
