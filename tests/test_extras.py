"""Tests of optional dependencies: the errors where they are missing, and their lists in `pyproject.toml`."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from srgan_jax import cli, main
from srgan_jax.runtime import extras

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DISTRIBUTIONS = {
    "absl": "absl-py",
    "h5py": "h5py",
    "pillow_heif": "pillow-heif",
    "pillow_jxl": "pillow-jxl-plugin",
    "skimage": "scikit-image",
}
DISTRIBUTIONS |= {"libtpu": "jax", "jax_plugins.xla_cuda13": "jax"}  # by an extra of jax


def _names(requirements):
    return {re.split(r"[<>=\[;!]", line)[0].lower().replace("_", "-") for line in requirements}


@pytest.mark.parametrize("extra", extras.MODULES)
def test_extras_install_the_modules_that_are_checked(extra):
    listed = _names(PROJECT["optional-dependencies"][extra])
    for module in extras.MODULES[extra]:
        assert DISTRIBUTIONS.get(module, module).lower().replace("_", "-") in listed


def test_the_library_does_not_require_the_packages_for_training():
    assert not _names(PROJECT["dependencies"]) & _names(PROJECT["optional-dependencies"]["train"])


@pytest.mark.parametrize("module", extras.MODULES["train"])
def test_training_without_its_packages_is_refused_with_the_install_command(module, monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, module, None)  # as if it weren't installed
    with pytest.raises(SystemExit, match="^2$"):
        main.main(["--config", "srgan"])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: training needs ") and line.endswith(f'({module}): pip install "srgan-jax[train]"')
    assert cli.main(["prepare", str(tmp_path), "-o", str(tmp_path / "out")]) == 2
    assert f'({module}): pip install "srgan-jax[train]"' in capsys.readouterr().err


@pytest.mark.slow
def test_upscaling_and_scoring_work_without_the_packages_for_training(tmp_path, photo):
    from srgan_jax import images

    (tmp_path / "set").mkdir()
    images.write_image(tmp_path / "set" / "a.png", photo[:48, :64])
    absent = sorted({name for extra in extras.MODULES for name in extras.MODULES[extra]} - {"absl"})  # optax has absl
    script = (
        f"import sys; sys.modules |= dict.fromkeys({absent!r}); from srgan_jax import cli; "
        "sys.exit(cli.main(['upscale', 'set/a.png', '-o', 'b.png']) or cli.main(['evaluate', '--weights', "
        "'compact_x4', '--data', 'set', '-o', 'scores']) or cli.main(['info']) or cli.main(['info', 'photo_x4']))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert images.read_image(tmp_path / "b.png").frames[0].shape == (192, 256, 3)
    assert "tensorboardX: " in done.stdout and "compact_x4" in (tmp_path / "scores" / "scores.md").read_text()


def test_info_without_a_file_prints_what_a_bug_report_needs(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("SRGAN_JAX_WEIGHTS", str(tmp_path))
    (tmp_path / "niqe.safetensors").touch()
    assert cli.main(["info"]) == 0
    lines = capsys.readouterr().out.splitlines()
    fields = dict(line.split(": ", 1) for line in lines)
    import jax

    assert fields["jax"] == jax.__version__ and fields["python"] == sys.version.split()[0]
    assert fields["devices"] == f"{len(jax.devices())} x cpu (cpu)"
    assert fields["shipped weights"].startswith("compact_x4, photo_x4")
    assert fields["SRGAN_JAX_WEIGHTS"] == str(tmp_path)
    assert fields["weights of niqe"] == str(tmp_path / "niqe.safetensors")
    assert fields["weights of vgg19"] == f"{tmp_path / 'vgg19.safetensors'} (no such file)"


def test_version(capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["--version"])
    assert ended.value.code == 0 and capsys.readouterr().out == f"srgan-jax {PROJECT['version']}\n"


@pytest.mark.slow
def test_a_closed_pipe_ends_the_command_without_an_error_message():
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "srgan_jax.cli", "info"], stdout=writer, stderr=subprocess.PIPE, cwd=ROOT
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")  # 128 + SIGPIPE, as of any Unix command


@pytest.mark.parametrize("command", ["upscale", "evaluate", "prepare", "import", "export", "port niqe"])
def test_the_output_option_is_the_same_in_every_command(command, capsys):
    with pytest.raises(SystemExit):
        cli.main([*command.split(), "--help"])
    assert re.search(r"-o \w+, --out \w+|-o, --out \w+", capsys.readouterr().out)
