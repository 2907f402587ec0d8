"""Tests of the weights of any moment of a run, as the commands find them."""

import functools
import itertools
import os
import shutil
import signal

import helpers
import jax
import numpy as np
import pytest

import srgan_jax
from srgan_jax import cli, defaults, images
from srgan_jax.evaluation import metrics
from srgan_jax.training.run_weights import find_weights

SCORES = (20.0, 99.0, 30.0, 25.0, 24.0)  # of the four validations of the fixture, and after the first of bicubic


@pytest.fixture(scope="module")
def run(tiny, dataset, validation_folder, tmp_path_factory):
    """The folder of a run that was stopped after update 4 of 6, with a checkpoint and a validation at each update."""
    config, folder = tiny(defaults.get_config()), tmp_path_factory.mktemp("runs") / "mine"
    scores = itertools.chain.from_iterable([score] * 3 for score in SCORES)  # three images
    count = lambda: np.float32(next(scores))  # noqa: E731
    scripted = lambda *_, **__: jax.pure_callback(count, jax.ShapeDtypeStruct((), np.float32))  # noqa: E731
    config.data.dataset, config.stage_names, config.sample_pictures = dataset, ("pretrain",), 0
    config.stages.pretrain.total_steps, config.save_every_steps, config.validate_every_steps = 6, 1, 1
    config.keep_checkpoints = 4
    config.validation.folder = validation_folder
    config.validation.metrics, config.validation.best = ("scripted",), "scripted"
    stop = functools.partial(os.kill, os.getpid(), signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(metrics.METRICS, "scripted", scripted)
        helpers.call_when_logged(patch, {("pretrain", 4): stop})
        with pytest.raises(SystemExit, match="143"):
            helpers.train(config, folder)
    return folder


def _averaged(run, step):
    """Returns the averaged kernel of the first convolution in a checkpoint, as Orbax reads it."""
    tree = helpers.read_checkpoint(run / "checkpoints" / "pretrain" / str(step))
    return tree["['ema']['params']['conv_in']['kernel']"]


def _kernel(path):
    return srgan_jax.load(path, fold=False).variables["params"]["conv_in"]["kernel"]


def test_a_run_in_training_is_read_at_any_moment(run):
    header = srgan_jax.read_header(run / "generator.safetensors")
    assert (header["stage"], header["steps"], header["val_scripted"]) == ("pretrain", "4", "24.0000")
    assert find_weights(str(run)) == str(run)
    np.testing.assert_array_equal(_kernel(run), _averaged(run, 4))
    np.testing.assert_array_equal(_kernel(find_weights(str(run), step=3)), _averaged(run, 3))
    checkpoint = run / "checkpoints" / "pretrain" / "1"
    np.testing.assert_array_equal(_kernel(find_weights(str(checkpoint))), _averaged(run, 1))
    best = find_weights(str(run), best=True)
    assert srgan_jax.read_header(best)["steps"] == "2"  # SCORES
    np.testing.assert_array_equal(_kernel(best), _averaged(run, 2))
    assert not np.array_equal(_averaged(run, 2), _averaged(run, 3))


def test_all_commands_take_them(run, validation_folder, photo, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    images.write_image("lr.png", photo[:20, :24])
    assert cli.main(["info", str(run), "--step", "3"]) == 0
    assert "steps: 3" in capsys.readouterr().out
    assert cli.main(["upscale", "lr.png", "-o", "sr.png", "--weights", str(run), "--step", "1"]) == 0
    expected = srgan_jax.upscale(srgan_jax.load(find_weights(str(run), step=1)), photo[:20, :24])
    assert np.abs(images.read_rgb("sr.png").astype(int) - np.asarray(expected).astype(int)).max() <= 1
    checkpoint = str(run / "checkpoints" / "pretrain" / "2")
    assert cli.main(["upscale", "--weights", checkpoint, "lr.png", "--suffix", "_2", "-o", "out"]) == 0
    assert cli.main(["export", str(run), "--best", "--to", "stablehlo", "-o", "x.bin"]) == 0
    evaluate = ["evaluate", "--weights", str(run), "--step", "4", "--metrics", "psnr_y", "--data", validation_folder]
    assert cli.main(evaluate) == 0
    assert " mine_pretrain_4 " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["{run}", "--step", "9"], ("no checkpoint after update 9", "pretrain 4, pretrain 3, pretrain 2, pretrain 1")),
        (["photo_x4", "--best"], ("photo_x4", "the folder of a run")),
        (["{empty}"], ("no weights yet", "none yet")),
        (["{empty}", "--best"], ("no validation scores", "--step")),
        (["{unfinished}"], ("is still being written", "manifest.sha256 is missing")),
    ],
)
def test_moments_that_a_run_lacks_are_reported(run, arguments, parts, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "config.json").write_bytes((run / "config.json").read_bytes())
    unfinished = tmp_path / "run" / "checkpoints" / "pretrain" / "5"
    unfinished.mkdir(parents=True)
    (tmp_path / "run" / "config.json").write_bytes((run / "config.json").read_bytes())
    folders = {"run": run, "empty": tmp_path / "empty", "unfinished": unfinished}
    assert cli.main(["info", *(argument.format(**folders) for argument in arguments)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and all(part in error for part in parts), error


def test_a_run_without_a_validation_has_its_newest_checkpoint(run, tmp_path):
    copy = tmp_path / "copy"
    for source in [run / "config.json", *(run / "checkpoints").rglob("*")]:
        if source.is_file():
            target = copy / source.relative_to(run)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
    np.testing.assert_array_equal(_kernel(find_weights(str(copy))), _averaged(run, 4))


def test_the_best_checkpoint_of_an_earlier_version_is_found_by_its_logged_scores(run, tmp_path, capsys):
    """Such a run has no file of the best weights, but kept the best checkpoint; without that, the others are listed."""
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / "pretrain_best.safetensors").unlink()
    np.testing.assert_array_equal(_kernel(find_weights(str(copy), best=True)), _averaged(run, 2))  # SCORES
    shutil.rmtree(copy / "checkpoints")
    assert cli.main(["info", str(copy), "--best"]) == 2
    error = capsys.readouterr().err
    assert "by a version that kept no file of the best weights" in error and "none yet" in error
