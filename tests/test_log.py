"""Tests of what a run logs: means, norms, learning rates, and the writers of metrics."""

import itertools
import json
import os
import signal
import struct
import types

import helpers
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from srgan_jax import defaults, models
from srgan_jax.config.schema import StageConfig
from srgan_jax.runtime.errors import UserError
from srgan_jax.training.balance import BalanceMonitor
from srgan_jax.training.interval import IntervalMeans
from srgan_jax.training.logs import StageLog
from srgan_jax.training.mapping import repeat_update
from srgan_jax.training.observed import mean_logits
from srgan_jax.training.optimizers import create_schedule
from srgan_jax.training.start import initial_variables


@pytest.fixture
def config(tiny, dataset):
    config = tiny(defaults.get_config())
    config.data.dataset, config.stage_names, config.sample_pictures = dataset, ("pretrain",), 0
    config.stages.gan.losses.pixel.weight, config.stages.gan.losses.perceptual.weight = 1.0, 0.0
    return config


def _metrics(**values):
    return {name: jnp.asarray(value) for name, value in values.items()} | {"skipped": jnp.int32(0), "alarm": False}


def test_means_leave_out_what_is_not_finite_and_survive_a_checkpoint():
    means = IntervalMeans()
    for value in (1.0, np.nan, 4.0):
        means.add(_metrics(loss=value, other=np.inf))
    assert means.sums() == {"loss": (5.0, 2.0), "other": (0.0, 0.0)}
    resumed = IntervalMeans(json.loads(json.dumps(means.sums())))
    resumed.add(_metrics(loss=7.0, other=3.0) | {"skipped": jnp.int32(2)})
    assert resumed.take() == {"loss": 4.0, "other": 3.0, "skipped": 2.0, "alarm": 0.0}  # (1 + 4 + 7) / 3
    resumed.add(_metrics(loss=7.0, other=np.nan))
    taken = resumed.take()
    assert taken["loss"] == 7.0 and np.isnan(taken["other"])


@pytest.mark.parametrize("scan", [False, True])
def test_several_updates_per_call_return_the_means_of_their_metrics(scan):
    def update(state, frozen, sharded):
        return state + 1, {"loss": 10.0 * state, "skipped": state}

    state, found = repeat_update(update, 3, latest=("skipped",), scan=scan)(jnp.float32(1.0), None, None)
    assert (state, found["loss"], found["skipped"]) == (4.0, 20.0, 3.0)  # (10 + 20 + 30) / 3


def test_logits_are_averaged_over_images_and_heads():
    heads = [(jnp.asarray([1.0, 3.0]), jnp.asarray([-1.0, -2.0])), (jnp.full((2, 2), 4.0), jnp.full((2, 2), 0.5))]
    assert mean_logits(heads) == {"d_logit_real": 3.0, "d_logit_fake": -0.5}  # (2 + 4) / 2, (-1.5 + 0.5) / 2


@pytest.mark.slow
def test_logged_numbers_are_means_over_the_interval(config, tmp_path):
    config.stages.pretrain.total_steps = 5
    helpers.train(config, tmp_path / "each")
    config.log_every_steps = 2
    helpers.train(config, tmp_path / "mean")
    each, mean = (helpers.read_metrics(tmp_path / name) for name in ("each", "mean"))
    intervals = {1: [1], 2: [2], 4: [3, 4], 5: [5]}
    assert [row["step"] for row in mean] == list(intervals)
    for row in mean:
        for key in ("loss", "pixel", "grad_norm/generator"):
            expected = np.mean([each[step - 1][key] for step in intervals[row["step"]]])
            assert row[key] == pytest.approx(expected, rel=1e-6), (row["step"], key)


@pytest.mark.slow
def test_norms_and_learning_rates_are_those_of_the_optimiser(config, tmp_path):
    """After one update, Adam's mean of gradients is (1 - b1) times the gradient."""
    config.stage_names, config.save_every_steps, config.keep_checkpoints = ("gan",), 1, 4
    stage = config.stages.gan
    stage.total_steps, stage.drops, stage.learning_rate, stage.discriminator_learning_rate = 4, (0.5,), 1e-3, 2e-3
    helpers.train(config, tmp_path)
    rows = helpers.read_metrics(tmp_path)
    # At half of 4 updates the rates drop to a tenth: the counter of optax is 2 at the third update.
    assert [row["learning_rate"] for row in rows] == pytest.approx([1e-3, 1e-3, 1e-4, 1e-4])
    assert [row["d_learning_rate"] for row in rows] == pytest.approx([2e-3, 2e-3, 2e-4, 2e-4])
    saved = helpers.read_checkpoint(tmp_path / "checkpoints" / "gan" / "1")
    for player in ("generator", "discriminator"):
        moments = [v for key, v in saved.items() if f"['{player}']" in key and "['mu']" in key]
        norm = np.sqrt(sum(np.square(mu / 0.1).sum(dtype=np.float64) for mu in moments))
        assert rows[0][f"grad_norm/{player}"] == pytest.approx(norm, rel=1e-4)
    assert {"d_logit_real", "d_logit_fake"} <= rows[0].keys()
    raw = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert all(row["host_memory_gb"] > 0.05 for row in raw) and raw[-1]["images_per_second"] > 0


@pytest.mark.slow
def test_a_run_stopped_within_an_interval_logs_the_same_lines(config, tmp_path, monkeypatch):
    config.stages.pretrain.total_steps, config.log_every_steps, config.validate_every_steps = 6, 4, 2
    config.sample_pictures = 1
    helpers.train(config, tmp_path / "whole")
    calls = itertools.count(1)

    def term(*_, **__):
        if next(calls) == 2:  # previews are drawn after updates 1 and 2
            os.kill(os.getpid(), signal.SIGTERM)

    writer = types.SimpleNamespace(add_scalar=lambda *_: None, add_image=term, close=lambda: None)
    with monkeypatch.context() as patch:
        patch.setattr("tensorboardX.SummaryWriter", lambda *_, **__: writer)
        with pytest.raises(SystemExit):
            helpers.train(config, tmp_path / "stopped")
    assert (tmp_path / "stopped" / "checkpoints" / "pretrain" / "2").is_dir()  # between 1 and 4, the logged updates
    helpers.train(config, tmp_path / "stopped")
    assert helpers.read_metrics(tmp_path / "stopped") == helpers.read_metrics(tmp_path / "whole")


@pytest.mark.parametrize("schedule", ["constant", "piecewise", "cosine"])
def test_every_schedule_has_a_warmup(schedule):
    stage = StageConfig(schedule=schedule, warmup_steps=4, total_steps=20, drops=(0.5,))
    rates = [float(create_schedule(stage, 1e-3)(count)) for count in (0, 1, 2, 4, 12)]
    assert rates[:4] == pytest.approx([0.0, 0.25e-3, 0.5e-3, 1e-3])
    # After 12 of 20 updates: no change; a tenth after 10; half a cosine from 4 to 20, cos(pi / 2) = 0.
    assert rates[4] == pytest.approx({"constant": 1e-3, "piecewise": 1e-4, "cosine": 0.5e-3}[schedule])


def test_weights_of_another_scale_give_what_fits(capsys):
    before = helpers.random_weights(name="srresnet", blocks=1, width=4, scale=2)
    generator = models.build(models.GENERATORS, {"name": "srresnet", "blocks": 1, "width": 4, "scale": 4})
    found = flatten_dict(dict(initial_variables(before, generator)), sep="/")
    given = flatten_dict(dict(before.variables), sep="/")
    assert {name for name in found if name not in given} == {
        "params/conv_up_1/kernel", "params/conv_up_1/bias", "params/act_up_1/slope"
    }  # fmt: skip
    for name in given:
        np.testing.assert_array_equal(found[name], given[name])
    assert "of scale 2: " in (told := capsys.readouterr().err) and "new are: params/act_up_1/slope, " in told
    generator.apply(unflatten_dict(found, sep="/"), np.zeros((1, 8, 8, 3), np.float32))
    after = helpers.random_weights(name="srresnet", blocks=1, width=4, scale=4)
    initial_variables(after, models.build(models.GENERATORS, {"name": "srresnet", "blocks": 1, "width": 4, "scale": 2}))
    assert capsys.readouterr().err.endswith("of scale 4: 24 of 24 tensors are taken\n")


@pytest.mark.parametrize(
    ("real", "fake", "warning"),
    [(1.0, 0.99, "the discriminator wins"), (1.0, 0.0, "the discriminator is at chance"), (0.5, 0.53, "is at chance")],
)
def test_a_discriminator_out_of_balance_is_told_once_and_its_end_too(real, fake, warning):
    monitor = BalanceMonitor(0.98)
    rows = [{"d_accuracy_real": real, "d_accuracy_fake": fake}] * 15
    lines = [monitor.line(row) for row in rows]
    assert [bool(line) for line in lines] == [False] * 9 + [True] + [False] * 5
    assert warning in lines[9] and f"{real:.0%} of real and {fake:.0%} of generated" in lines[9]
    assert "no longer" in (monitor.line({"d_accuracy_real": 0.8, "d_accuracy_fake": 0.7}) or "")
    assert monitor.line({"loss": 1.0}) is None  # a step without accuracies


@pytest.mark.slow
def test_weights_and_biases_gets_all_numbers(config, tmp_path, monkeypatch):
    """Through a module with W&B's interface, which isn't installed here."""
    calls = []

    class Run:
        def define_metric(self, name, step_metric=None):
            calls.append(("define", name, step_metric))

        def log(self, values):
            calls.append(("log", values))

        def finish(self):
            calls.append(("finish",))

    def init(**options):
        calls.append(("init", options))
        return Run()

    config.loggers = ("wandb",)
    monkeypatch.setattr("srgan_jax.runtime.extras.missing", lambda extra: [extra])
    with pytest.raises(UserError, match=r"config.loggers=wandb needs .*\(wandb\): pip install"):
        helpers.train(config, tmp_path / "without")
    module = types.SimpleNamespace(init=init, Image=lambda image: ("image", image.shape))
    monkeypatch.setattr("srgan_jax.runtime.extras.missing", lambda extra: [])
    monkeypatch.setitem(__import__("sys").modules, "wandb", module)
    config.stages.pretrain.total_steps, config.sample_pictures = 2, 1
    helpers.train(config, tmp_path / "run")
    (options,) = [call[1] for call in calls if call[0] == "init"]
    assert options["name"] == "run pretrain" and options["dir"] == str(tmp_path / "run")
    assert ("define", "*", "update") in calls and calls[-1] == ("finish",)
    logged = [call[1] for call in calls if call[0] == "log"]
    assert [row["update"] for row in logged if "loss" in row] == [1, 2]
    assert any("LR | SR | HR" in row for row in logged)
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_the_old_name_of_loggers_is_refused_with_the_new_one(config):
    from srgan_jax.config import command_line, renamed

    with pytest.raises(UserError, match="config.writers was renamed; write config.loggers"):
        command_line.apply_overrides(config, ["--config.writers=tensorboard"])
    assert renamed.translate_keys({"writers": []}) == {"loggers": []}


def _leveldb_records(data):
    """Yields the records of a LevelDB log: chunks with CRC, length and type, in blocks of 32 KiB; W&B's header is 7."""
    position, record = 7, b""
    while position < len(data):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        record += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # the whole record, or its last chunk
            yield record
            record = b""


@pytest.mark.slow
def test_the_real_package_writes_a_run_offline(config, tmp_path, monkeypatch):
    """Reads the values back from the file that W&B uploads later."""
    pytest.importorskip("wandb", reason="the extra wandb is not installed")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    config.loggers, config.stages.pretrain.total_steps, config.sample_pictures = ("wandb",), 3, 1
    helpers.train(config, tmp_path / "run")
    (file,) = (tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb")
    records = map(wandb_internal_pb2.Record.FromString, _leveldb_records(file.read_bytes()))
    rows = [{item.key or item.nested_key[0]: item.value_json for item in record.history.item} for record in records]
    found = {row["update"]: json.loads(row["loss"]) for row in rows if "loss" in row}
    expected = {str(row["step"]): row["loss"] for row in helpers.read_metrics(tmp_path / "run") if "loss" in row}
    assert found == pytest.approx(expected) and list(found) == ["1", "2", "3"]
    assert any("LR | SR | HR" in row for row in rows)


def test_the_remaining_time_leaves_out_compilation_and_the_first_validation(tmp_path, monkeypatch):
    """By a clock on which the first update takes 150 s and the others 1 s each."""
    now, terminal = [0.0], helpers.Terminal()
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    monkeypatch.setattr("sys.stderr", terminal)
    log = StageLog(tmp_path, "pretrain", 0, 102, 16, writers=())
    for seconds in (100, 50, 1, 1):
        now[0] += seconds
        log.advance()
    shown = terminal.getvalue().split("\r")[-1]
    log.close()
    assert "4/102" in shown and "[00:02<01:38,  1.00 updates/s" in shown, shown
