"""Tests without POSIX and array_record, as on Windows: images are upscaled and scored, training reports the reason."""

import re
import subprocess
import sys

import helpers
import pytest

import srgan_jax

AS_ON_WINDOWS = """
import os, platform, runpy, sys, warnings
import jax, psutil, skimage
warnings.simplefilter("ignore")  # filelock's: without fcntl it has only soft locks
for name in ("fcntl", "array_record", "resource", "pwd", "grp", "termios", "uvloop"):
    sys.modules[name] = None
del os.sysconf
platform.system = lambda: "Windows"
sys.argv = sys.argv[1:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""


def _run(*arguments):
    command = [sys.executable, "-c", AS_ON_WINDOWS, *map(str, arguments)]
    options = {"cwd": helpers.ROOT, "env": helpers.environment(), "timeout": 300}
    return subprocess.run(command, capture_output=True, text=True, **options)


@pytest.fixture(scope="module")
def small(tmp_path_factory, photo):
    folder = tmp_path_factory.mktemp("small")
    srgan_jax.write_image(folder / "a.png", photo[:32, :40])
    return folder


@pytest.mark.slow
def test_images_are_upscaled_and_scored_without_posix(small, tmp_path):
    result = _run("srgan_jax.cli", "upscale", small / "a.png", "-o", tmp_path)
    assert result.returncode == 0, result.stderr
    assert srgan_jax.read_image(tmp_path / "a.png").frames[0].shape == (128, 160, 3)
    scored = _run("srgan_jax.cli", "evaluate", "--data", tmp_path, "--out", tmp_path / "scores")
    assert scored.returncode == 0 and " bicubic " in scored.stdout, scored.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", ["prepare", "train"])
def test_training_names_the_platforms_that_it_runs_on(command, small, tmp_path):
    arguments = {
        "prepare": ("srgan_jax.cli", "prepare", small, "--out", tmp_path / "data"),
        "train": ("srgan_jax.main", "--config", "configs/finetune.py", "--workdir", tmp_path / "run",
                  f"--config.data.folder={small}"),
    }  # fmt: skip
    result = _run(*arguments[command])
    assert result.returncode == 2, result.stderr
    assert re.search(
        r"^error: data sets need the package array_record, .* on Windows: .* in WSL2\)$", result.stderr, re.M
    )
    assert "Traceback" not in result.stderr
