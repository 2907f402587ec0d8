"""Tests that four virtual devices make the same update as one, in both mappings."""

import functools
import re

import jax
import jax.experimental.multihost_utils
import jax.numpy as jnp
import numpy as np
import pytest
from game_helpers import PIXEL, make_game

from srgan_jax import models
from srgan_jax.ops import color, resize
from srgan_jax.runtime import devices, processes
from srgan_jax.runtime.errors import UserError
from srgan_jax.training import nonfinite
from srgan_jax.training.gan_step import gan_step
from srgan_jax.training.mapping import MAPPINGS, map_update
from srgan_jax.training.pretrain_step import pretrain_step
from srgan_jax.training.stage import init_state
from srgan_jax.training.state import count_parameters

CROP = 32


@pytest.fixture(scope="module")
def batch(photo):
    hr = jnp.stack([color.from_integers(photo[y : y + CROP, 2 * y : 2 * y + CROP]) for y in range(40, 200, 20)])
    return jax.device_get({"hr": hr, "lr": resize.downscale(hr, 4)})


def _update(mesh, mapping, sync_bn=True, stage="gan", learning_rate=1.0, width=8, by_norms=False):
    """Returns a state and a mapped update with plain SGD, of rate 1 so that a parameter's change is its gradient."""
    axis = MAPPINGS[mapping]
    runtime = {"axis_name": axis if sync_bn else None}
    generator = models.build(models.GENERATORS, {"name": "srresnet", "blocks": 1, "width": width}, **runtime)
    discriminator, losses, step = None, PIXEL, pretrain_step
    if stage == "gan":
        described = {"name": "srgan", "width": 4, "dense": 8, "crop_px": CROP}
        discriminator = models.build(models.DISCRIMINATORS, described, **runtime)
        losses, step = PIXEL | {"adversarial": ("bce", 0.5)}, gan_step
    rates = {"g_rate": learning_rate, "d_rate": learning_rate}
    game = make_game(generator, discriminator, losses=losses, axis_name=axis, **rates)
    local = make_game(generator.clone(axis_name=None), discriminator and discriminator.clone(axis_name=None), **rates)
    state = init_state(local, CROP, 4)
    check = {"max_skips": 3, "by_norms": by_norms}
    update = nonfinite.skip_nonfinite(lambda state, batch: step(state, [batch], game), **check)
    mapped = map_update(lambda state, _, batch: update(state, batch), mesh, mapping)
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


@pytest.mark.parametrize("mapping", MAPPINGS)
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


@pytest.fixture(scope="module")
def ten_updates(batch):
    """States before and after ten updates of plain SGD: Adam would hide wrong gradients."""

    @functools.cache
    def run(count, mapping, stage):
        mesh = devices.make_mesh(jax.devices()[:count])
        # At 0.01 rounding decides on which side of its activation's kink a unit of this small D lies, and the two runs
        # differ by 7e-4. (On one device, a change of 1e-7 in the initial parameters may have the same effect.)
        state, update = _update(mesh, mapping, stage=stage, learning_rate=0.001 if stage == "gan" else 0.01)
        sharded, begun = devices.shard(batch, mesh, mapping), jax.device_get(state)
        for _ in range(10):
            state, _ = jax.block_until_ready(update(state, None, sharded))
        return begun, jax.device_get(state)

    return run


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["pretrain", "gan"])
@pytest.mark.parametrize("mapping", MAPPINGS)
def test_ten_sgd_updates_equal_one_device(ten_updates, mapping, stage):
    (_, ours), (begun, theirs) = ten_updates(4, mapping, stage), ten_updates(1, "jit", stage)
    for network in ("generator", "discriminator")[: 1 + (stage == "gan")]:
        states = [getattr(state, network).params for state in (ours, theirs, begun)]
        flat = [np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(params)]) for params in states]
        assert _relative_l2(*flat[:2]) < 1e-5
        assert _relative_l2(*flat[1:]) > 1e-4  # they have changed: gradients of twice the size would fail
    assert ours.step == 10 and ours.health.skipped == 0


BYTES = {"f32": 4, "bf16": 2, "pred": 1, "s32": 4, "u32": 4, "s8": 1}


def _all_reduced_bytes(program):
    """Returns the bytes of the results of all all-reduces in a compiled program."""
    total = 0
    for line in program.splitlines():
        shapes = re.match(r".*? = (.*?) all-reduce(?:-start)?\(", line)
        for kind, sides in re.findall(r"([a-z]+\d*)\[([\d,]*)\]", shapes.group(1) if shapes else ""):
            total += BYTES[kind] * int(np.prod([int(side) for side in sides.split(",") if side]))
    return total


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["pretrain", "gan"])
@pytest.mark.parametrize("mapping", MAPPINGS)
def test_computation_is_divided_among_devices(batch, mapping, stage):
    """Each device has a quarter of the operations; gradients and statistics are exchanged once each.

    A forward pass exchanges mean and mean square of each normalisation; the rest is exchanged in its backward pass.
    """
    flops = {}
    for count in (1, 4):
        mesh = devices.make_mesh(jax.devices()[:count])
        state, update = _update(mesh, mapping, stage=stage, width=32)
        compiled = update.lower(state, None, devices.shard(batch, mesh, mapping)).compile()
        flops[count] = compiled.cost_analysis()["flops"]
    assert 0.24 < flops[4] / flops[1] < 0.28
    size = lambda tree: 4 * count_parameters(tree)  # noqa: E731
    networks = [state.generator, *([state.discriminator] if stage == "gan" else [])]
    gradients = sum(size(network.params) for network in networks)
    passes = {"pretrain": [1], "gan": [1, 3]}[stage]  # D gets the real and the fake batch, and the fake one for G
    statistics = sum(count * size(network.batch_stats) for network, count in zip(networks, passes, strict=True))
    exchanged = _all_reduced_bytes(compiled.as_text())
    assert 1.0 <= exchanged / (gradients + statistics) < 1.2, (exchanged, gradients, statistics)


def _with_nan(batch, sample):
    hr = np.array(batch["hr"])
    hr[sample, 3, 3] = np.nan  # one pixel of one sample: on one device only
    return batch | {"hr": hr}


@pytest.mark.parametrize(
    ("stage", "mapping", "by_norms"),
    [("pretrain", "jit", False), ("gan", "jit", True), pytest.param("gan", "pmap", False, marks=pytest.mark.slow)],
)
def test_a_batch_with_nan_changes_only_counters(batch, stage, mapping, by_norms):
    mesh = devices.make_mesh(jax.devices()[:4])
    state, update = _update(mesh, mapping, stage=stage, learning_rate=0.01, by_norms=by_norms)
    good, bad = (devices.shard(b, mesh, mapping) for b in (batch, _with_nan(batch, 5)))
    before = jax.device_get(state)
    health = []
    for sharded in (bad, bad, good, bad, bad, bad):
        state, metrics = jax.block_until_ready(update(state, None, sharded))
        health.append((int(state.health.skipped), int(state.health.in_a_row), bool(metrics["alarm"])))
        if len(health) == 2:
            after = jax.device_get(state)
            for part in ("generator", "discriminator", "ema", "seed"):
                jax.tree.map(np.testing.assert_array_equal, getattr(after, part), getattr(before, part))
            assert after.step == 2
    assert health == [(1, 1, False), (2, 2, False), (2, 0, False), (3, 1, False), (4, 2, False), (5, 3, True)]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.device_get(state)))
    changed = [(a != b).any() for a, b in zip(*(jax.tree.leaves(s.generator.params) for s in (before, state)),
                                              strict=True)]  # fmt: skip
    assert all(changed)  # by the good batch


def test_batches_that_do_not_divide_among_devices_are_refused():
    assert devices.local_slice(8) == slice(0, 8)
    with pytest.raises(UserError, match="batch_size=13: .* multiple of 4 .4 devices., for instance 12$"):
        devices.local_slice(13)


def test_items_are_divided_among_processes(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    divided = []
    for index in range(3):
        monkeypatch.setattr(jax, "process_index", lambda index=index: index)
        divided.append(processes.process_slice(range(8)))
    assert divided == [[0, 3, 6], [1, 4, 7], [2, 5]]
    monkeypatch.setattr(processes, "gather", lambda mine: divided)
    assert processes.merge_slices(divided[0]) == list(range(8))


def test_deterministic_flag(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_other=1")
    devices.make_deterministic()
    devices.make_deterministic()
    assert devices.os.environ["XLA_FLAGS"] == "--xla_other=1 --xla_gpu_deterministic_ops=true"
    devices.check_deterministic()
    monkeypatch.setenv("XLA_FLAGS", "")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    with pytest.raises(UserError, match="XLA_FLAGS=--xla_gpu_deterministic_ops=true"):
        devices.check_deterministic()


class _Result:
    """A leaf that records when it is waited for."""

    def __init__(self, name, waited):
        self.name, self.waited = name, waited

    def block_until_ready(self):
        self.waited.append(self.name)


@pytest.mark.parametrize(("must_block", "expected"), [(False, [0, 1]), (True, [0, 1, 2, 3])])
def test_at_most_two_updates_wait_for_the_device(monkeypatch, must_block, expected):
    monkeypatch.setattr(devices, "must_block", lambda: must_block)
    queue, waited = devices.UpdateQueue(), []
    for number in range(4):
        queue.add({"loss": _Result(number, waited)})
    assert waited == expected
