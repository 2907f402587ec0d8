"""Tests of what a stage derives from its config: windows, batches, draws."""

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from srgan_jax import defaults
from srgan_jax.config.resolve import resolve
from srgan_jax.data import batches, datasets, memory
from srgan_jax.data.batch_plan import draw_batch
from srgan_jax.ops import color
from srgan_jax.runtime.errors import UserError
from srgan_jax.training import nonfinite
from srgan_jax.training.steps import STEPS


@pytest.fixture
def config(tiny):
    return tiny(defaults.get_config())


def _store(plan, dataset):
    images = datasets.open_images(dataset, scale=4)
    images, sizes, _ = datasets.without_small(images, plan.window["crop_px"])
    return memory.build_store(images, sizes, tile_px=200, channels=plan.channels, **plan.window)


@pytest.mark.parametrize(("updates", "fresh", "draws"), [(1, False, 1), (1, True, 2), (3, False, 3), (2, True, 3)])
def test_batches_of_an_update(config, dataset, monkeypatch, updates, fresh, draws):
    """A step gets as many batches as its entry requires; their numbers follow those of earlier updates."""
    got = []

    def record(state, batches, game):
        got.append(batches)
        return state, {}

    monkeypatch.setitem(STEPS, "gan_several_updates", STEPS["gan_several_updates"]._replace(function=record))
    config.stages.gan.step = "gan_several_updates"
    config.stages.gan.discriminator_updates, config.stages.gan.fresh_batch = updates, fresh
    config.stages.gan.losses.perceptual.weight = 0.0
    stage = helpers.build_stage(config, "gan")
    assert stage.draws == draws
    state = jax.eval_shape(stage.init, None)
    state = state.replace(
        step=jnp.int32(5), seed=jax.random.key_data(jax.random.key(3)), health=nonfinite.initial_health()
    )
    store, indices = _store(stage.plan, dataset), np.arange(4, dtype=np.int32)
    stage.update(state, {"store": store, "extractor": None}, {"indices": indices})
    expected = [draw_batch(stage.plan, state.seed, np.int32(5 * draws + n), indices, store) for n in range(draws)]
    assert len(got[-1]) == draws
    for batch, other in zip(got[-1], expected, strict=True):
        np.testing.assert_array_equal(batch["hr"], other["hr"])
        np.testing.assert_array_equal(batch["lr"], other["lr"])
    assert draws == 1 or (expected[0]["hr"] != expected[1]["hr"]).any()


@pytest.mark.parametrize(
    ("name", "margin"), [("bicubic", 8), ("gaussian_blur", 4), ("photo", 80), ("second_order", 124)]
)
def test_windows_have_the_margin_of_their_degradation(config, name, margin):
    # 2 * 4; 2 + 1; 6 + 18 * 4 = 78; 10 + 28 * 4 = 122; each rounded up to a multiple of 4
    config.degradation = ConfigDict({"name": name})
    assert (
        helpers.build_plan(config).window == {"crop_px": 32, "margin_px": margin}
        and helpers.build_plan(config).channels == 3
    )


def test_windows_of_pairs_are_lr_sized(config):
    config.data.lr_feature = "lr"
    assert (
        helpers.build_plan(config).window == {"crop_px": 8, "margin_px": 0}
        and helpers.build_plan(config).channels == 3 * 16 + 3
    )


def test_rescaling_shrinks_the_hr_crops(config, dataset, photo):
    config.data.rescale, config.data.augment = 0.5, "none"
    plan = helpers.build_plan(config)
    assert plan.window == {"crop_px": 64, "margin_px": 16}
    store, seed = _store(plan, dataset), jax.random.key_data(jax.random.key(0))
    batch = draw_batch(plan, seed, np.int32(0), np.arange(4, dtype=np.int32), store)
    assert batch["hr"].shape == (4, 32, 32, 3) and batch["lr"].shape == (4, 8, 8, 3)
    # A ramp of slope 1/255 a pixel shows the factor: its slope becomes 1 over it.
    ramp = np.tile(np.arange(96, dtype=np.uint8)[:, None, None], (1, 96, 3))
    keys = jax.random.split(jax.random.key(1), 64)
    options = {"degrade": lambda key, hr, scale: hr[::4, ::4], "scale": 4, "margin_px": 8, "augment": "none"}
    made = batches.make_batch(jnp.tile(ramp, (64, 1, 1, 1)), keys, rescale=0.5, crop_px=32, **options)
    slopes = (made["hr"][:, -1, 0, 0] - made["hr"][:, 0, 0, 0]) * 255 / 31
    assert 0.9999 <= slopes.min() < 1.1 and 1.9 < slopes.max() <= 2.04
    plain = batches.make_batch(ramp[None, 24:-24, 24:-24], keys[:1], **options)
    np.testing.assert_allclose(plain["hr"][0], color.from_integers(ramp[32:-32, 32:-32]))
    config.data.rescale = 0.0
    with pytest.raises(UserError, match=r"config.data.rescale=0.0: expected more than 0"):
        resolve(config)
