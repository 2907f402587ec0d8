"""Tests of what stops a run from outside, or makes a preparation fail: one line each."""

import os
import signal
import subprocess
import sys
import time

import helpers
import numpy as np
import pytest

from srgan_jax import cli, defaults, images
from srgan_jax.config.resolve import resolve
from srgan_jax.data import builder
from srgan_jax.runtime.errors import UserError
from srgan_jax.training import setup, stop
from srgan_jax.training.image_folder import prepare_folder


@pytest.fixture
def config(tiny, dataset):
    config = tiny(defaults.get_config())
    config.data.dataset, config.stage_names, config.sample_pictures = dataset, ("pretrain",), 0
    return config


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_while_images_are_prepared_stops_at_once(config, tmp_path, monkeypatch, photo_folder, number, status):
    def prepare(*_, **__):
        os.kill(os.getpid(), number)
        for _ in range(200):  # another thread may receive the signal; Python then handles it here a little later
            time.sleep(0.05)
        raise AssertionError("preparation continued")

    monkeypatch.setattr(builder, "prepare", prepare)
    config.data.folder = str(photo_folder)
    with pytest.raises(SystemExit) as stopped:
        helpers.train(config, tmp_path / "run")
    assert stopped.value.code == status and not (tmp_path / "run" / "config.json").exists()


@pytest.mark.slow
def test_sighup_saves_as_sigterm_does(config, tmp_path, monkeypatch, capsys):
    config.stages.pretrain.total_steps = 6
    hang_up = lambda: os.kill(os.getpid(), signal.SIGHUP)  # noqa: E731
    helpers.call_when_logged(monkeypatch, {("pretrain", 3): hang_up})
    with pytest.raises(SystemExit, match="129"):
        helpers.train(config, tmp_path)
    assert (tmp_path / "checkpoints" / "pretrain" / "3").is_dir()
    assert "SIGHUP: saving after the update in progress" in capsys.readouterr().err


def test_a_signal_that_is_ignored_stays_ignored():
    """As `nohup` arranges for SIGHUP."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop.StopRequest() as request:
            os.kill(os.getpid(), signal.SIGHUP)
            assert request.agreed() == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_images_added_after_the_preparation_are_told(tmp_path, photo, capsys):
    folder, run = tmp_path / "photos", tmp_path / "run"
    for index in range(3):
        images.write_image(folder / f"{index}.png", photo[:64, index : 64 + index])
    prepare_folder(str(folder), run, 32)
    prepare_folder(str(folder), run, 32)
    assert "WARNING" not in capsys.readouterr().err
    images.write_image(folder / "new.png", photo[:64, :64])
    images.write_image(folder / "1.png", np.zeros((64, 64, 3), np.uint8))
    (folder / "2.png").unlink()
    prepare_folder(str(folder), run, 48)
    warned = capsys.readouterr().err
    for part in ("1 added (new.png)", "1 removed (2.png)", "1 changed (1.png)", "crop_px=32, not 48"):
        assert part in warned, warned


def test_names_that_are_not_utf8_and_broken_links(tmp_path, photo, capsys):
    source = tmp_path / "photos"
    images.write_image(source / "a.png", photo[:100, :100])
    try:
        os.rename(source / "a.png", os.fsencode(source) + b"/caf\xe9.png")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    (source / "gone.jpg").symlink_to("nowhere.jpg")
    assert cli.main(["prepare", str(source), "-o", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert "skipped gone.jpg: broken link" in printed and "1 images prepared, 1 skipped" in printed
    assert builder.open_source(str(tmp_path / "out")).name(0) == r"caf\xe9.png (number 0)"


def _one_line(command, environment):
    result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=helpers.ROOT)
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert result.returncode == 2 and len(lines) == 1 and "Traceback" not in result.stderr, result.stderr
    return lines[0]


@pytest.mark.slow
def test_a_full_disk_and_a_missing_platform_are_reported_in_one_line(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    images.write_image(tmp_path / "photos" / "a.png", noise)
    prepare = [sys.executable, "-m", "srgan_jax.cli", "prepare", str(tmp_path / "photos"), "-o", str(tmp_path / "out")]
    limited = ["bash", "-c", 'ulimit -f 200; exec "$@"', "bash", *prepare]  # as on a full disk: files of 200 kB at most
    assert "can't be written (File too large); make space" in _one_line(limited, helpers.environment())
    absent = helpers.environment() | {"JAX_PLATFORMS": "cuda"}
    upscale = [sys.executable, "-m", "srgan_jax.cli", "upscale", str(tmp_path / "photos" / "a.png")]
    train = [*helpers.command(tmp_path / "run")]
    for command in (upscale, train):
        assert "JAX can't start with JAX_PLATFORMS=cuda" in _one_line(command, absent)


def test_fields_of_another_network_are_all_named(config):
    config.generator.name = "compact"
    config.generator.norm_upsampling, config.generator.shared_blocks = True, True
    with pytest.raises(UserError) as raised:
        setup.build(resolve(config))
    message = str(raised.value)
    assert "compact has no 'norm_upsampling': True, 'shared_blocks': True, which belong to another network" in message
    assert "its fields: " in message and "blocks" in message
