"""Tests that a run resumes from its folder alone, and that the folder records what was run."""

import json
import subprocess

import helpers
import pytest

from srgan_jax import defaults, main
from srgan_jax.config import command_line
from srgan_jax.config.keys import as_dict
from srgan_jax.config.recorded import load_recorded
from srgan_jax.config.resolve import resolve
from srgan_jax.runtime.errors import UserError
from srgan_jax.training import provenance

MINE = """
import flax.linen as nn
from srgan_jax import defaults, models
from srgan_jax.models.generators.compact import CompactResNet

class Mine(CompactResNet):
    pass

models.GENERATORS["mine_of_test"] = Mine

def get_config(text="1"):
    config = defaults.get_config()
    config.stage_names = ("pretrain",)
    config.generator = {"name": "mine_of_test", "blocks": int(text), "width": 4, "scale": 4}
    config.data.batch_size, config.data.crop_px, config.sample_pictures = 4, 32, 0
    config.log_every_steps = config.save_every_steps = config.validate_every_steps = 1
    return config
"""


@pytest.fixture
def config(tiny, dataset):
    config = tiny(defaults.get_config())
    config.data.dataset, config.stage_names = dataset, ("pretrain",)
    config.sample_pictures = 0
    return config


def test_the_recorded_config_is_the_config_of_the_run(config, tmp_path):
    config.stages.gan.drops = (0.25, 0.5)
    run = resolve(config)
    provenance.describe_run(tmp_path, run).write()
    recorded = load_recorded(tmp_path)
    assert as_dict(resolve(recorded)) == as_dict(run)
    command_line.apply_overrides(recorded, ["--config.stages.gan.losses.adversarial.term=hinge"])
    assert recorded.stages.gan.discriminator_losses.d_loss.term == "hinge"  # still one loss for both players


def test_the_folder_alone_resumes_a_run_of_a_config_file(dataset, tmp_path, monkeypatch, capsys):
    """With the overrides of the first command, and with the generator that the config file adds."""
    from srgan_jax import models

    monkeypatch.setitem(models.GENERATORS, "mine_of_test", None)  # so that it is deleted after the test
    file, run = tmp_path / "mine.py", tmp_path / "run"
    file.write_text(MINE)
    steps = "--config.stages.pretrain.total_steps"
    monkeypatch.chdir(tmp_path)
    main.main(["--config", "mine.py:2", "--workdir", str(run), f"--config.data.dataset={dataset}", f"{steps}=2"])
    assert json.loads((run / "versions.json").read_text())["config_file"] == f"{file}:2"
    del models.GENERATORS["mine_of_test"]  # as in a new process
    monkeypatch.chdir("/")
    capsys.readouterr()
    main.main(["--workdir", str(run), f"{steps}=3"])
    reported = capsys.readouterr().err
    assert "pretrain: resumed after update 2" in reported
    assert reported.count("changed since this run began") == 1
    assert "config.stages.pretrain.total_steps: 2 before, 3 now" in reported
    assert [row["step"] for row in helpers.read_metrics(run) if "loss" in row] == [1, 2, 3]
    assert json.loads((run / "versions.json").read_text())["config_file"] == f"{file}:2"


def test_a_folder_without_a_run_needs_a_config(tmp_path, capsys):
    with pytest.raises(SystemExit, match="^2$"):
        main.main(["--workdir", str(tmp_path)])
    assert "holds no run: expected config.json in it; a new run needs --config" in capsys.readouterr().err


def test_a_refused_attempt_changes_no_record(config, tmp_path):
    """The discriminator of a checkpoint doesn't fit, which shows only when the checkpoint is read."""
    helpers.train(config, tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in ("config.json", "versions.json")}
    config.stages.pretrain.total_steps, config.steps_per_call = 3, 1
    config.stages.pretrain.optimizer = "muon"
    with pytest.raises(UserError, match="doesn't fit this config"):
        helpers.train(config, tmp_path)
    assert before == {name: (tmp_path / name).read_bytes() for name in before}


def test_the_recorded_revision_is_that_of_the_package(config, tmp_path, monkeypatch):
    """An installed package lies in another project's repository, which ignores its virtual environment."""
    installed = tmp_path / ".venv" / "srgan_jax"
    installed.mkdir(parents=True)
    (installed / "provenance.py").touch()
    (tmp_path / ".gitignore").write_text(".venv\n")
    for command in (["init", "-q"], ["add", ".gitignore"], ["commit", "-q", "-m", "theirs"]):
        identity = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
        subprocess.run(["git", "-C", str(tmp_path), *identity, *command], check=True)
    run = resolve(config)
    monkeypatch.setattr(provenance, "__file__", str(installed / "provenance.py"))
    provenance.describe_run(tmp_path / "run", run).write()
    assert json.loads((tmp_path / "run" / "versions.json").read_text())["git"] == "none"
