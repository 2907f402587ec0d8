"""Tests that options which save memory change no results: microbatches, rematerialisation, donated buffers."""

import functools
import json

import helpers
import jax
import numpy as np
import pytest
from game_helpers import PIXEL, make_game

from srgan_jax import defaults, models
from srgan_jax.config.resolve import resolve
from srgan_jax.ops import color, resize
from srgan_jax.runtime import devices
from srgan_jax.runtime.errors import UserError
from srgan_jax.training import checkpoints, gan_variants, players, setup
from srgan_jax.training import game as game_
from srgan_jax.training.gan_step import gan_step
from srgan_jax.training.mapping import MAPPINGS, map_update
from srgan_jax.training.pretrain_step import pretrain_step
from srgan_jax.training.stage import init_state

CROP = 32
SLOW = pytest.mark.slow


@pytest.fixture(scope="module")
def batch(photo):
    hr = np.stack([color.from_integers(photo[y : y + CROP, 2 * y : 2 * y + CROP]) for y in range(40, 200, 20)])
    return jax.device_get({"hr": hr, "lr": resize.downscale(hr, 4)})


def _features(image):
    """Returns edges in place of VGG19's features."""
    return {"relu1_1": image[:, 1:] - image[:, :-1], "relu1_2": image[:, :, 1:] - image[:, :, :-1]}


def _updated(batch, mapping, count, stage, fields=None, *, step=None, adversarial="bce", remat=False, **options):
    """Returns the states before and after an update with SGD of rate 1, which differ by the gradient, and metrics."""
    runtime = {"axis_name": MAPPINGS[mapping]}
    described = helpers.small_fields(fields or {"name": "srresnet", "norm": "none"}, blocks=1, width=8)
    generator = models.build(models.GENERATORS, described, remat=remat, **runtime)
    losses = PIXEL | {"perceptual": ("perceptual", 0.5, {"taps": ("relu1_1", "relu1_2")})}
    discriminator, step = None, step or {"gan": gan_step, "pretrain": pretrain_step}[stage]
    if stage == "gan":
        described = {"name": "srgan", "width": 4, "dense": 8, "crop_px": CROP, "norm": described["norm"]}
        discriminator = models.build(models.DISCRIMINATORS, described, **runtime)
        losses |= {"adversarial": (adversarial, 0.5)}
    mesh = devices.make_mesh(jax.devices()[:count])
    options |= {"losses": losses, "features": _features, "g_rate": 1.0, "d_rate": 1.0}
    game = make_game(generator, discriminator, remat=remat, **options, **runtime)
    local = make_game(generator.clone(axis_name=None), discriminator and discriminator.clone(axis_name=None), **options)
    state = init_state(local, CROP, generator.scale)
    update = map_update(lambda s, _, b: step(s, [b], game), mesh, mapping)
    before = jax.device_get(state)
    sharded = devices.shard(batch, mesh, mapping)
    after, metrics = jax.device_get(jax.block_until_ready(update(devices.replicate(state, mesh), None, sharded)))
    return before, after, {name: float(value) for name, value in metrics.items()}


def _assert_same_update(ours, theirs, error=1e-5):
    (before, found, metrics), (_, expected, expected_metrics) = ours, theirs
    for network in ("generator", "discriminator")[: 1 + (before.discriminator is not None)]:
        old, a, b = (getattr(state, network) for state in (before, found, expected))
        gradients = [jax.tree.map(lambda x, y: y - x, old.params, new.params) for new in (a, b)]
        flat = [np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(tree)]) for tree in gradients]
        assert np.linalg.norm(flat[0] - flat[1]) < error * np.linalg.norm(flat[1]) != 0, network
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), a.batch_stats, b.batch_stats)
    assert metrics == pytest.approx(expected_metrics, rel=1e-4)


@pytest.fixture(scope="module")
def whole_batch(batch):
    return functools.cache(functools.partial(_updated, batch, "jit", 1))


@pytest.mark.parametrize("stage", ["pretrain", "gan"])
@pytest.mark.parametrize(
    ("mapping", "count", "microbatches"),
    [("jit", 1, 4), pytest.param("jit", 4, 2, marks=SLOW), pytest.param("pmap", 4, 2, marks=SLOW)],
)
def test_microbatches_give_the_update_of_the_whole_batch(batch, whole_batch, stage, mapping, count, microbatches):
    _assert_same_update(_updated(batch, mapping, count, stage, microbatches=microbatches), whole_batch(stage))


@pytest.mark.slow
@pytest.mark.parametrize(("mapping", "count"), [("jit", 1), ("pmap", 4)])
def test_microbatches_in_a_scan_give_the_same_update(batch, whole_batch, mapping, count):
    """Accelerators use a scan; CPUs don't."""
    _assert_same_update(_updated(batch, mapping, count, "gan", microbatches=2, scan=True), whole_batch("gan"))


@pytest.mark.slow
def test_microbatches_work_with_other_gan_options(batch, whole_batch):
    d_losses = {"d_loss": ("lsgan", 1.0), "gradient_penalty": ("gradient_penalty", 1.0)}
    options = {"every": 2, "step": gan_variants.generator_first, "adversarial": "lsgan", "d_losses": d_losses}
    keys = jax.random.split(jax.random.key(0), 8)
    runs = [
        _updated(batch | {"keys": keys}, "jit", 1, "gan", microbatches=microbatches, **options)
        for microbatches in (1, 4)
    ]
    _assert_same_update(*runs)
    assert runs[0][2]["gradient_penalty"] > 0


def test_normalisation_uses_the_statistics_of_each_microbatch(batch):
    """The mean over microbatches is kept: for their means it is the whole batch's, for their variances it is less."""
    found, expected = (
        _updated(batch, "jit", 1, "pretrain", {"name": "srresnet"}, microbatches=microbatches)[1].generator.batch_stats
        for microbatches in (4, 1)
    )
    ours, theirs = found["block_00_norm_1"], expected["block_00_norm_1"]
    np.testing.assert_allclose(ours["mean"], theirs["mean"], rtol=1e-3, atol=1e-5)
    assert (ours["var"] < theirs["var"]).all() and (ours["var"] > 0.9).all()  # of the initial 1 the momentum keeps 0.9


VARIATIONS = {
    "srresnet": {"norm": "batch"},
    "msrresnet": {},
    "compact": {},
    "srvggnet_compact": {},
    "rrdb": {"growth": 4},
    "restoration": {"scale": 1, "upsampling_width": 8},
    "span": {},
    "realplksr": {},
    "edsr": {},
    "dat": {"depths": (2,), "heads": (2,), "width": 16, "split": (2, 4)},
    "swinir": {"depths": (2,), "heads": (2,), "window": 4},
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=SLOW if n != "compact" else []) for n in models.GENERATORS])
def test_rematerialisation_gives_the_same_update(batch, name):
    fields = helpers.small_fields({"name": name} | VARIATIONS[name], blocks=2)
    stage = "gan" if name == "srresnet" else "pretrain"
    if name == "restoration":
        batch = batch | {"lr": batch["hr"]}
    _assert_same_update(*(_updated(batch, "jit", 1, stage, fields, remat=remat) for remat in (True, False)))


@pytest.fixture
def config(tiny, dataset):
    config = tiny(defaults.get_config())
    config.data.dataset, config.data.batch_size = dataset, 8
    config.generator.norm = config.discriminator.norm = "none"
    config.stages.gan.losses.pixel.weight, config.stages.gan.losses.perceptual.weight = 1.0, 0.0
    return config


def _temporary_bytes(config, name, batch):
    """Returns the memory that the compiled update of a stage takes besides its arguments and results."""
    mesh = devices.make_mesh(jax.devices()[:1])
    stage = next(stage for stage in setup.build(resolve(config)) if stage.name == name)
    windows = np.pad(color.to_uint8(batch["hr"]), ((0, 0), (8, 8), (8, 8), (0, 0)))[:, None]
    sharded = devices.shard({"indices": np.arange(8, dtype=np.int32), "windows": windows}, mesh, "jit")
    update = map_update(stage.update, mesh, "jit")
    state = jax.eval_shape(stage.init, None)
    return (
        update.lower(state, {"store": None, "extractor": None}, sharded).compile().memory_analysis().temp_size_in_bytes
    )


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["pretrain", "gan"])
def test_microbatches_and_rematerialisation_reduce_temporary_memory(config, batch, stage):
    config.generator.blocks = 6
    needed = {}
    for microbatches, remat in ((1, False), (4, False), (1, True)):
        config.micro_batches, config.remat = microbatches, remat
        needed[microbatches, remat] = _temporary_bytes(config, stage, batch)
    assert needed[4, False] < 0.6 * needed[1, False] and needed[1, True] < 0.8 * needed[1, False], needed


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_the_old_state_is_donated(batch, mapping):
    mesh = devices.make_mesh()
    state = devices.replicate({"x": np.arange(8.0, dtype=np.float32)}, mesh)
    mean = lambda x: players.average_over_batch(lambda x: x.mean(), x, game_.Averaging(1, MAPPINGS[mapping]))  # noqa: E731
    update = map_update(lambda state, _, b: ({"x": state["x"] + mean(b)}, {}), mesh, mapping)
    sharded = devices.shard(np.arange(4.0, dtype=np.float32), mesh, mapping)
    after, _ = jax.block_until_ready(update(state, None, sharded))
    assert state["x"].is_deleted()
    np.testing.assert_array_equal(after["x"], np.arange(8) + 1.5)


@pytest.mark.parametrize("mapping", MAPPINGS)
def test_a_checkpoint_is_unchanged_when_its_buffers_are_reused(tmp_path, mapping):
    mesh = devices.make_mesh()
    state = devices.replicate({"x": np.zeros((1 << 20), np.float32)}, mesh)
    mean = lambda x: players.average_over_batch(lambda x: x.mean(), x, game_.Averaging(1, MAPPINGS[mapping]))  # noqa: E731
    update = map_update(lambda state, _, b: ({"x": state["x"] + mean(b)}, {}), mesh, mapping)
    sharded = devices.shard(np.ones(4, np.float32), mesh, mapping)
    saver = checkpoints.Checkpoints(tmp_path / "saved")
    for step in (1, 2, 3, 4):
        state, _ = jax.block_until_ready(update(state, None, sharded))
        if step in (1, 3):
            saver.save(step, devices.as_global(state, mesh))
    saver.close()
    np.testing.assert_array_equal(checkpoints.Checkpoints(tmp_path / "saved").restore(state)["x"], 3.0)


def _losses(workdir):
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [row["loss"] for row in rows if "loss" in row]


@pytest.mark.slow
def test_a_run_resumes_with_microbatches(config, tmp_path):
    """A run of whole batches resumes with microbatches, and makes the same updates with the same samples."""
    config.stage_names, config.sample_pictures, config.stages.gan.schedule = ("gan",), 0, "constant"
    config.stages.gan.total_steps = 4
    helpers.train(config, tmp_path / "whole")
    config.stages.gan.total_steps = 2
    helpers.train(config, tmp_path / "microbatches")
    config.micro_batches, config.stages.gan.total_steps = 2, 4
    helpers.train(config, tmp_path / "microbatches")
    found = _losses(tmp_path / "microbatches")
    assert len(found) == 4 and found == pytest.approx(_losses(tmp_path / "whole"), rel=1e-4)


def test_batches_that_do_not_divide_into_microbatches_are_refused(config, tmp_path):
    config.micro_batches = 3
    with pytest.raises(UserError, match="batch_size=8: .* multiple of 12 .4 devices x 3 .*, for instance 12$"):
        helpers.train(config, tmp_path)
    config.micro_batches = 0
    with pytest.raises(UserError, match="config.micro_batches=0: expected 1 or more"):
        helpers.train(config, tmp_path)
