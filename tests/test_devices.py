"""Four virtual devices against one: the same update, in both mappings."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from srgan_jax import adversarial, color, devices, models, resize, steps
from srgan_jax.errors import UserError

CROP = 32


@pytest.fixture(scope="module")
def batch(photo):
    hr = jnp.stack([color.from_uint8(photo[y : y + CROP, 2 * y : 2 * y + CROP]) for y in range(40, 200, 20)])
    return jax.device_get({"hr": hr, "lr": resize.downscale(hr, 4)})


def _update(mesh, mapping, sync_bn=True, stage="gan"):
    """A state and a mapped update with plain SGD of rate 1, so that a changed parameter shows its gradient."""
    axis = devices.MAPPINGS[mapping]
    runtime = {"axis_name": axis if sync_bn else None}
    generator = models.build(models.GENERATORS, {"name": "srresnet", "blocks": 1, "width": 8}, **runtime)
    optimizer = optax.sgd(1.0)
    options = {"generator": generator, "optimizer": optimizer, "losses": {"pixel_weight": 1.0}, "axis_name": axis}
    networks = {}
    step = steps.pretrain_step
    if stage == "gan":
        described = {"name": "srgan", "width": 4, "dense": 8, "crop_px": CROP}
        discriminator = models.build(models.DISCRIMINATORS, described, **runtime)
        networks = {"discriminator": discriminator, "discriminator_optimizer": optimizer}
        step = functools.partial(adversarial.gan_step, adversarial_weight=0.5)
    state = steps.create_train_state(0, generator, optimizer, crop_px=CROP, **networks)
    update = functools.partial(step, **options, **networks)
    mapped = devices.map_update(lambda state, _, batch: update(state, batch), mesh, mapping)
    return devices.replicate(state, mesh), mapped


def _run(count, mapping, batch, **kwargs):
    mesh = devices.make_mesh(jax.devices()[:count])
    state, update = _update(mesh, mapping, **kwargs)
    sharded = devices.shard(batch, mesh, mapping)
    before = jax.device_get(state)
    after, metrics = jax.block_until_ready(update(state, None, sharded))
    return before, *jax.device_get((after, metrics))


def _relative_l2(ours, theirs):
    return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)


@pytest.fixture(scope="module", params=["pretrain", "gan"])
def one_device(request, batch):
    return request.param, _run(1, "jit", batch, stage=request.param)


@pytest.mark.parametrize("mapping", devices.MAPPINGS)
def test_four_devices_equal_one(one_device, batch, mapping):
    stage, (before, expected, expected_metrics) = one_device
    _, found, metrics = _run(4, mapping, batch, stage=stage)
    for network in ("generator", "discriminator")[: 1 + (stage == "gan")]:
        old, ours, theirs = (getattr(state, network) for state in (before, found, expected))
        gradients = [jax.tree.map(lambda a, b: a - b, old.params, new.params) for new in (ours, theirs)]
        errors = jax.tree.map(_relative_l2, *gradients)
        assert max(jax.tree.leaves(errors)) < 1e-4, errors
        errors = jax.tree.map(_relative_l2, ours.batch_stats, theirs.batch_stats)
        assert max(jax.tree.leaves(errors)) < 1e-5, errors
    for name, value in expected_metrics.items():
        assert metrics[name] == pytest.approx(value, rel=1e-4), name


def test_batch_statistics_of_each_replica(batch):
    synchronised, apart = (_run(4, "pmap", batch, sync_bn=sync, stage="pretrain")[1] for sync in (True, False))
    # The mean of four means is the mean; the mean of four variances lacks the spread between the replicas.
    statistics = [state.generator.batch_stats["block_00_norm_1"] for state in (synchronised, apart)]
    np.testing.assert_allclose(statistics[0]["mean"], statistics[1]["mean"], rtol=1e-3, atol=1e-5)
    assert (statistics[1]["var"] < statistics[0]["var"]).all()


@pytest.mark.parametrize("mapping", devices.MAPPINGS)
def test_work_is_divided(batch, mapping):
    """Each device has a quarter of the operations, and what is exchanged is gradients and statistics."""
    flops = {}
    for count in (1, 4):
        mesh = devices.make_mesh(jax.devices()[:count])
        state, update = _update(mesh, mapping, stage="pretrain")
        compiled = update.lower(state, None, devices.shard(batch, mesh, mapping)).compile()
        flops[count] = compiled.cost_analysis()["flops"]
    assert 0.23 < flops[4] / flops[1] < 0.30
    assert "all-reduce" in compiled.as_text()


def test_batches_that_do_not_divide():
    assert devices.local_slice(8) == slice(0, 8)
    with pytest.raises(UserError, match="batch_size=13 can't be divided by 4 devices; 12 can"):
        devices.local_slice(13)
