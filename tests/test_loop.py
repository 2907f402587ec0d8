"""Tests of the training loop: checkpoints before errors, writers, metrics, options that change when a run resumes."""

import json
import re
import sys

import helpers
import jax.numpy as jnp
import numpy as np
import pytest

from srgan_jax import defaults
from srgan_jax.evaluation import metrics
from srgan_jax.runtime.errors import UserError
from srgan_jax.training import logs, writers


@pytest.fixture
def config(tiny, dataset, validation_folder):
    config = tiny(defaults.get_config())
    config.data.dataset, config.stage_names = dataset, ("pretrain",)
    config.sample_pictures, config.save_every_steps, config.validate_every_steps = 0, 2, 2
    config.stages.pretrain.total_steps = 4
    config.validation.folder = validation_folder
    return config


def test_the_checkpoint_is_saved_before_a_validation_that_fails(config, tmp_path, monkeypatch):
    calls = []

    def fails(sr, hr, *, border=0, channel="y", size=None):
        if any("val_psnr_y" in row for row in helpers.read_metrics(tmp_path)):  # after the validation of update 1
            calls.append(1)
            raise RuntimeError("no score")
        return 0.0

    monkeypatch.setitem(metrics.METRICS, "failing", metrics.Metric(fails))
    config.validation.metrics = ("psnr_y", "failing")
    with pytest.raises(RuntimeError, match="no score"):
        helpers.train(config, tmp_path)
    assert calls and (tmp_path / "checkpoints" / "pretrain" / "2" / "manifest.sha256").exists()
    config.validation.metrics = ("psnr_y",)
    helpers.train(config, tmp_path)
    assert [row["step"] for row in helpers.read_metrics(tmp_path) if "loss" in row] == [1, 2, 3, 4]


@pytest.mark.slow
@pytest.mark.parametrize(("clip_norm", "weight_decay"), [(0.1, 0.0), (0.0, 0.1), (0.1, 0.1)])
def test_clipping_and_weight_decay_can_be_switched_on_when_a_run_resumes(config, tmp_path, clip_norm, weight_decay):
    """A remedy for a run that diverged. Update 3 is computed by hand from its gradient.

    Without momentum (b1 = 0) Adam's first moment is the gradient after clipping.
    """
    stage = config.stages.pretrain
    config.validation.folder, config.save_every_steps, stage.total_steps = "", 1, 2
    stage.b1, stage.b2, stage.learning_rate = 0.0, 0.5, 1e-3
    helpers.train(config, tmp_path)
    stage.total_steps, stage.clip_norm, stage.weight_decay = 3, clip_norm, weight_decay
    helpers.train(config, tmp_path)
    assert [row["step"] for row in helpers.read_metrics(tmp_path)] == [1, 2, 3]

    before, after = (helpers.read_checkpoint(tmp_path / "checkpoints" / "pretrain" / step) for step in ("2", "3"))
    grads = {key: value for key, value in after.items() if "['mu']" in key}
    norm = np.sqrt(sum(np.square(grad).sum(dtype=np.float64) for grad in grads.values()))
    assert norm == pytest.approx(clip_norm, rel=1e-5) if clip_norm else norm > 0.5
    for key, grad in grads.items():
        name = key.replace("['opt_state'][0]['mu']", "['params']")
        decay = weight_decay if name.endswith("['kernel']") else 0.0
        second = after[key.replace("['mu']", "['nu']")] / (1.0 - 0.5**3)
        expected = before[name] - 1e-3 * (grad / (np.sqrt(second) + 1e-8) + decay * before[name])
        np.testing.assert_allclose(after[name], expected, rtol=0, atol=1e-6, err_msg=name)


def test_progress_without_a_terminal_is_reported_in_lines(tmp_path, capsys, monkeypatch):
    """On a terminal there is a bar instead."""
    for report_seconds in (0.0, 60.0):
        log = logs.StageLog(tmp_path, "gan", 4, 10, 8, writers=(), report_seconds=report_seconds)
        log.advance()
        log.write(5, {"loss": 0.5, "other": 1.0}, shown=("loss",))
        log.write(5, {"val_psnr_y": 30.0})
        log.close()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and re.fullmatch(r"gan: update 5 of 10: \S+ images/s, loss 0\.5", lines[0])
    monkeypatch.setattr("sys.stderr", helpers.Terminal())
    log = logs.StageLog(tmp_path, "gan", 4, 10, 8, writers=(), report_seconds=0.0)
    log.write(5, {"loss": 0.5, "other": 1.0}, shown=("loss",))
    log.advance()
    log.close()
    drawn = sys.stderr.getvalue()
    assert "5/10 " in drawn and "loss=0.5]" in drawn and "update 5 of 10" not in drawn


class _RecordingWriter:
    """A writer that records its calls in a file."""

    def __init__(self, workdir, stage, step):
        self._file = workdir / f"{stage}.lines"
        self._write({"opened": step})

    def _write(self, row):
        with open(self._file, "a") as file:
            file.write(json.dumps(row) + "\n")

    def write(self, step, values):
        self._write({"step": step, **values})

    def image(self, step, image):
        self._write({"image": list(image.shape), "step": step})

    def close(self):
        self._write({"closed": True})


def test_metrics_go_to_the_writers_of_the_config(config, tmp_path, monkeypatch):
    monkeypatch.setitem(writers.WRITERS, "lines", _RecordingWriter)
    config.loggers, config.sample_pictures, config.log_grad_share = ("lines",), 1, True
    config.stages.pretrain.total_steps = 2
    helpers.train(config, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "pretrain.lines").read_text().splitlines()]
    assert rows[0] == {"opened": 0} and rows[-1] == {"closed": True}
    assert [row["step"] for row in rows if "loss" in row] == [1, 2]
    assert any("val_psnr_y" in row for row in rows) and any("image" in row for row in rows)
    assert not (tmp_path / "tensorboard").exists()
    assert all(row["grad_share/pixel"] == pytest.approx(1.0) for row in rows if "loss" in row)  # the only term
    config.loggers = ("line",)
    with pytest.raises(UserError, match="'line'; valid: lines, tensorboard, wandb"):
        helpers.train(config, tmp_path / "other")


def test_metrics_that_lack_required_arguments_are_refused(config, tmp_path, monkeypatch):
    monkeypatch.setitem(metrics.METRICS, "plain", lambda sr, hr: jnp.abs(sr - hr).mean())
    config.validation.metrics = ("psnr_y", "plain")
    with pytest.raises(UserError, match="metric 'plain' takes no border and no channel and no size"):
        helpers.train(config, tmp_path)


def test_scores_of_a_user_defined_metric_are_logged(config, tmp_path, monkeypatch):
    """A plain function can be an entry of the table."""

    def brightness(sr, hr, *, border=0, channel="y", size=None):
        return np.asarray(sr)[: size[0], : size[1]].mean()

    monkeypatch.setitem(metrics.METRICS, "brightness", brightness)
    config.validation.metrics, config.stages.pretrain.total_steps = ("psnr_y", "brightness"), 2
    helpers.train(config, tmp_path)
    assert 0.2 < helpers.read_metrics(tmp_path)[-1]["val_brightness"] < 0.8
