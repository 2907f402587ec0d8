"""Surroundings that fail: full disks, closed streams, writers that can't write; no update is lost."""

import os
import subprocess
import sys

import helpers
import pytest

from srgan_jax import weights
from srgan_jax.training import logs, publishing, writers


def _publisher(folder):
    return publishing.Publisher(folder, "data", "psnr_y", {})


def test_a_full_disk_at_the_end_of_a_stage_is_waited_for(tmp_path, monkeypatch, capsys):
    made, save, attempts = helpers.random_weights(name="compact", blocks=1, width=4), weights.save, []

    def full_at_first(*args, **kwargs):
        attempts.append(args)
        if len(attempts) < 4:
            raise OSError(28, "No space left on device")
        save(*args, **kwargs)

    monkeypatch.setattr(weights, "save", full_at_first)
    monkeypatch.setattr(publishing, "RETRY_SECONDS", 0.01)
    _publisher(tmp_path).finished("gan", made, 200, {})
    assert weights.read_header(tmp_path / "gan.safetensors")["steps"] == "200" and len(attempts) == 4
    told = capsys.readouterr().err
    assert told.count("gan.safetensors can't be written (No space left on device); make space") == 1


def test_a_signal_ends_the_wait_for_space(tmp_path, monkeypatch):
    made = helpers.random_weights(name="compact", blocks=1, width=4)

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weights, "save", full)
    with pytest.raises(OSError, match="No space left"):
        _publisher(tmp_path).finished("gan", made, 200, {}, stopped=lambda: True)


class _Broken:
    """A writer that fails in one of its methods."""

    def __init__(self, method):
        self._method = method

    def _call(self, method):
        if method == self._method:
            raise OSError(28, "No space left on device")

    def write(self, step, values):
        self._call("write")

    def image(self, step, image):
        self._call("image")

    def close(self):
        self._call("close")


@pytest.mark.parametrize("method", ["open", "write", "image", "close"])
def test_a_writer_that_fails_is_reported_once_and_left_out(tmp_path, monkeypatch, capsys, method):
    def make(*_):
        if method == "open":
            raise PermissionError(13, "Permission denied")
        return _Broken(method)

    monkeypatch.setitem(writers.WRITERS, "tensorboard", make)
    log = logs.StageLog(tmp_path, "gan", 0, 10, 8)
    for step in (1, 2):
        log.write(step, {"loss": 1.0})
        log.image(step, None)
        log.rewind(step)
    log.close()
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2
    assert capsys.readouterr().err.count("WARNING: tensorboard can't write") == 1


def test_tensorboard_in_a_place_that_is_a_file(tmp_path, capsys):
    (tmp_path / "tensorboard").write_text("")
    log = logs.StageLog(tmp_path, "gan", 0, 10, 8)
    log.write(1, {"loss": 1.0})
    log.close()
    assert "WARNING: tensorboard can't write" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["[]", "3", "null", '{"stage": 1}', '{"stage": "gan", "step": "x"}', "\0", "[" * 9999])
def test_lines_of_metrics_that_are_none_are_left_out(tmp_path, text):
    good = '{"stage": "gan", "step": 1}\n'
    (tmp_path / "metrics.jsonl").write_text(good + text + "\n")
    assert logs.truncate_metrics(tmp_path / "metrics.jsonl", ("gan",), "gan", 5) == 1
    assert (tmp_path / "metrics.jsonl").read_text() == good


@pytest.mark.slow
@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", ">&- 2>&-", "<&- >&- 2>&-", "2> >(exec true)"])
def test_training_goes_on_without_standard_error(tmp_path, dataset, redirection):
    run = tmp_path / "run"
    more = {"data.dataset": dataset, "stage_names": "pretrain", "stages.pretrain.total_steps": 3, "data.batch_size": 4}
    line = ["bash", "-c", f'sleep 0.5; exec "$@" {redirection}', "bash", *helpers.command(run, **more)]
    done = subprocess.run(line, cwd=helpers.ROOT, env=helpers.environment(), timeout=300)
    assert done.returncode == 0 and len(helpers.read_metrics(run)) >= 3
    assert (run / "generator.safetensors").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("redirection", ["2>&-", "2>/dev/full", "<&- >&- 2>&-"])
def test_commands_work_without_standard_error(tmp_path, redirection):
    line = f'exec "$@" {redirection}'
    command = ["bash", "-c", line, "bash", sys.executable, "-m", "srgan_jax.cli"]
    for arguments, status in ((["info", "compact_x4"], 0), (["info", "nothing"], 2), (["nothing"], 2)):
        done = subprocess.run([*command, *arguments], cwd=tmp_path, env=os.environ | {"JAX_PLATFORMS": "cpu"})
        assert done.returncode == status, arguments
