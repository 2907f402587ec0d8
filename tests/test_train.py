"""Tests of training, through `train_and_evaluate` and through the command."""

import functools
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import helpers
import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image
from safetensors.numpy import save_file

import srgan_jax
from srgan_jax import cli, defaults, images, main, weights
from srgan_jax.data import builder
from srgan_jax.data.feed import Feed
from srgan_jax.evaluation import metrics
from srgan_jax.runtime.errors import UserError


def _small_config(tiny, dataset):
    """Returns the config of SRResNet and SRGAN with pixel loss, for a few updates on four virtual devices.

    Tests that don't change stages and totals use the compiled updates of earlier tests.
    """
    config = tiny(defaults.get_config())
    config.data.dataset = dataset
    config.stages.pretrain.total_steps = 4
    config.stages.gan.total_steps = 3
    config.stages.gan.losses.pixel.weight = 1.0
    config.stages.gan.losses.perceptual.weight = 0.0
    config.save_every_steps = 2
    config.validate_every_steps = 2
    return config


@pytest.fixture
def config(tiny, dataset):
    return _small_config(tiny, dataset)


@pytest.fixture(scope="module")
def trained(tiny, dataset, tmp_path_factory):
    """The folder of a finished run of that config; a test that changes the folder makes a copy."""
    workdir = tmp_path_factory.mktemp("trained")
    helpers.train(_small_config(tiny, dataset), workdir)
    return workdir


def _assert_same_weights(first: Path, second: Path):
    for name in ("pretrain.safetensors", "gan.safetensors", "generator.safetensors"):
        both = (srgan_jax.load(folder / name, fold=False) for folder in (first, second))
        jax.tree.map(np.testing.assert_array_equal, *both)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, dataset, validation_folder):
    """The folder and the standard error of an uninterrupted run of both stages in its own process."""
    workdir = tmp_path_factory.mktemp("finished")
    result = helpers.run(_command(workdir, dataset, validation_folder))
    assert result.returncode == 0, result.stderr
    return workdir, result.stderr


def _command(workdir, dataset, validation_folder, *more):
    values = {
        "data.dataset": dataset, "data.batch_size": 4, "validation.folder": validation_folder,
        "stages.pretrain.total_steps": 6, "stages.gan.total_steps": 60, "save_every_steps": 10,
        "validate_every_steps": 30,
    }  # fmt: skip
    return [*helpers.command(workdir, **values), *more]


@pytest.mark.slow
def test_command_runs_both_stages(finished):
    workdir, stderr = finished
    assert "updates/s" not in stderr  # no progress bar without a terminal
    for text in (
        "pretrain: loss at update 1: pixel",
        "gan: loss at update 1: pixel",
        "(100.0 %)",
        "adversarial",
        "finished",
    ):
        assert text in stderr
    rows = helpers.read_metrics(workdir)
    for stage, last in (("pretrain", 6), ("gan", 60)):
        training = [row for row in rows if row["stage"] == stage and "loss" in row]
        assert [row["step"] for row in training] == list(range(1, last + 1))
        assert all(np.isfinite(list(row.values())[2:]).all() for row in training)
        validation = [row for row in rows if row["stage"] == stage and "val_psnr_y" in row]
        assert [row["step"] for row in validation] == {"pretrain": [1, 6], "gan": [1, 30, 60]}[stage]
        assert 5 < validation[-1]["val_psnr_y"] < 50
    gan = next(row for row in rows if "d_loss" in row)
    assert {"adversarial", "d_accuracy_real", "d_accuracy_fake"} < set(gan)


@pytest.mark.slow
def test_run_folder_has_the_documented_files(finished):
    workdir, _ = finished
    params = srgan_jax.load(workdir)
    assert srgan_jax.upscale(params, np.zeros((8, 8, 3), np.uint8)).shape == (32, 32, 3)
    header = srgan_jax.read_header(workdir / "generator.safetensors")
    assert header["stage"] == "gan" and header["steps"] == "60" and float(header["val_psnr_y"]) > 5
    assert header["partner"] == "pretrain.safetensors" and "partner" not in srgan_jax.read_header(
        workdir / "pretrain.safetensors"
    )
    assert json.loads((workdir / "config.json").read_text())["data"]["batch_size"] == 4
    versions = json.loads((workdir / "versions.json").read_text())
    assert versions["jax"] == jax.__version__ and versions["git"] and "--config" in versions["command"]
    for sample in ("pretrain_0000001", "pretrain_0000006", "gan_0000030", "gan_0000060"):
        with Image.open(workdir / "samples" / f"{sample}.png") as sheet:
            # Three rows of LR (enlarged), SR and HR, 60 px each (61 cut to a multiple of 4), 4 px apart.
            assert sheet.size == (3 * 60 + 2 * 4, 3 * 60 + 2 * 4)
    assert list((workdir / "tensorboard" / "gan").glob("events.out.tfevents.*"))
    assert sorted(int(path.name) for path in (workdir / "checkpoints" / "gan").iterdir())[-3:] == [40, 50, 60]


@pytest.mark.slow
def test_averaged_generator_has_the_logged_score(finished, validation_folder):
    from srgan_jax.evaluation import scoring
    from srgan_jax.evaluation.pairs import read_pairs

    workdir, _ = finished
    params = srgan_jax.load(workdir)
    pairs = read_pairs(validation_folder, 4)
    results = [np.asarray(srgan_jax.upscale(params, pair.lr)) for pair in pairs]
    mean = scoring.mean(scoring.score(pairs, results))
    assert mean["psnr_y"] == pytest.approx(helpers.read_metrics(workdir)[-1]["val_psnr_y"], abs=1e-3)


@pytest.mark.slow
def test_running_again_changes_nothing(finished, dataset, validation_folder):
    workdir, _ = finished
    before = (workdir / "metrics.jsonl").read_text()
    result = helpers.run(_command(workdir, dataset, validation_folder))
    assert result.returncode == 0 and "pretrain: finished" in result.stderr and "gan: finished" in result.stderr
    assert (workdir / "metrics.jsonl").read_text() == before


@pytest.mark.slow
def test_stopped_runs_equal_uninterrupted_ones(finished, dataset, validation_folder, tmp_path):
    """Stopped by SIGTERM and by Ctrl-C in the second stage, each a few updates after it began or was resumed."""
    uninterrupted, _ = finished
    command, newest = _command(tmp_path, dataset, validation_folder), 0
    for how, status in ((signal.SIGTERM, 143), (signal.SIGINT, 130)):
        process = subprocess.Popen(
            command, cwd=helpers.ROOT, env=helpers.environment(), stderr=subprocess.PIPE, text=True
        )
        awaited = tmp_path / "checkpoints" / "gan" / str(newest // 10 * 10 + 10) / "manifest.sha256"
        while not awaited.exists():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.01)
        process.send_signal(how)
        _, reported = process.communicate(timeout=120)
        if process.returncode == 0:  # it ended before the signal
            pytest.fail("the run finished before it was stopped; make it longer")
        assert process.returncode == status, reported
        assert "Traceback" not in reported
        name = "SIGTERM" if how == signal.SIGTERM else "Ctrl-C"
        assert f"{name}: saving after the update in progress; a second one stops without saving" in reported
        newest = max(int(path.name) for path in (tmp_path / "checkpoints" / "gan").iterdir())
    result = helpers.run(command)
    assert result.returncode == 0, result.stderr
    assert f"gan: resumed after update {newest}" in result.stderr and "pretrain: finished" in result.stderr
    _assert_same_weights(tmp_path, uninterrupted)
    assert helpers.read_metrics(tmp_path) == helpers.read_metrics(uninterrupted)


@pytest.mark.slow
def test_sources_give_the_same_samples(config, trained, tmp_path):
    config.data.source = "stream"
    helpers.train(config, tmp_path / "stream")
    from_memory, streamed = (helpers.read_metrics(folder) for folder in (trained, tmp_path / "stream"))
    # The programs differ (tiles are cut in one of them), so XLA may round differently.
    for ours, theirs in zip(from_memory, streamed, strict=True):
        assert ours["stage"] == theirs["stage"] and ours.keys() == theirs.keys()
        assert [ours[key] for key in ours if key != "stage"] == pytest.approx(
            [theirs[key] for key in ours if key != "stage"], rel=1e-4
        )
    config.data.source, config.data.device_share = "memory", 0.0  # tiles don't fit: images stay on the host
    helpers.train(config, tmp_path / "host")
    assert helpers.read_metrics(tmp_path / "host") == streamed


@pytest.mark.slow
def test_a_slow_source_is_reported(config, tmp_path, capsys):
    """The images are large: decoding one takes longer than an update."""
    noise = np.random.default_rng(0).integers(0, 256, (1800, 1800, 3), np.uint8)
    for index in range(2):
        images.write_image(tmp_path / "large" / f"{index}.png", noise[index:])
    config.data.dataset = str(tmp_path / "prepared")
    assert builder.prepare(str(tmp_path / "large"), config.data.dataset, min_side_px=32) == {}
    config.stage_names, config.data.source, config.log_every_steps = ("pretrain",), "stream", 8
    config.data.threads = 1
    config.stages.pretrain.total_steps = 24
    helpers.train(config, tmp_path / "run")
    reported = capsys.readouterr().err
    assert reported.count("training waits for data") == 1 and "no longer" not in reported


def test_the_end_of_an_input_bound_phase_is_reported(monkeypatch):
    """The source is slow for 16 updates; as in the loop, every eighth is measured. The clock is the test's own."""
    seconds = 0.0

    def wait(duration):
        nonlocal seconds
        seconds += duration
        return np.zeros(1)

    monkeypatch.setattr("time.perf_counter", lambda: seconds)
    windows = itertools.chain((wait(0.05) for _ in range(16)), itertools.repeat(np.zeros(1)))
    feed, lines = Feed(windows, draws=1), []
    for _ in range(48):
        feed.take(None)
        wait(0.002)  # the update
        lines.append(feed.line())
    (slow, first), (fast, second) = ((n, line) for n, line in enumerate(lines, start=1) if line)
    assert (slow, fast) == (8, 24) and "training waits for data 96% of the time" in first and "no longer" in second


@pytest.mark.slow
def test_both_mappings_train(config, trained, tmp_path):
    assert config.devices.mapping == "jit"
    config.devices.mapping = "pmap"
    helpers.train(config, tmp_path)
    rows = [[row["loss"] for row in helpers.read_metrics(folder) if "loss" in row] for folder in (tmp_path, trained)]
    np.testing.assert_allclose(*rows, rtol=1e-3)


@pytest.mark.slow
def test_training_resumes_when_total_steps_is_raised(config, tmp_path):
    config.stage_names = ("pretrain",)
    helpers.train(config, tmp_path)
    config.stages.pretrain.total_steps = 6
    helpers.train(config, tmp_path)
    assert [row["step"] for row in helpers.read_metrics(tmp_path) if "loss" in row] == [1, 2, 3, 4, 5, 6]
    assert srgan_jax.read_header(tmp_path / "generator.safetensors")["steps"] == "6"


@pytest.mark.slow
def test_starting_from_weights(config, trained, tmp_path, capsys):
    config.stage_names = ("pretrain",)
    config.init_from = str(trained / "pretrain.safetensors")
    first = srgan_jax.load(config.init_from, fold=False)
    config.stages.pretrain.learning_rate = 0.0
    config.generator.blocks += 1
    second = helpers.train(config, tmp_path / "second")
    close = functools.partial(np.testing.assert_allclose, rtol=1e-6)  # an average of equal numbers, rounded
    begun = weights.deepen(first, config.generator.blocks)
    jax.tree.map(close, begun.variables["params"], second.variables["params"])
    config.init_from = str(tmp_path / "second")
    config.generator.blocks -= 1
    with pytest.raises(UserError, match="blocks 2 instead of 1$"):
        helpers.train(config, tmp_path / "third")
    config.init_from = str(trained / "pretrain.safetensors")
    config.generator.width = 4
    with pytest.raises(UserError, match="width 8 instead of 4$"):
        helpers.train(config, tmp_path / "third")
    config.generator = ConfigDict({"name": "compact", "blocks": 1, "width": 8, "scale": 4})
    with pytest.raises(UserError, match="name srresnet instead of compact$"):
        helpers.train(config, tmp_path / "third")
    config.generator_of_init_from, start = True, config.init_from
    config.init_from = ""
    with pytest.raises(UserError, match=r"--config\.init_from="):
        helpers.train(config, tmp_path / "third")
    config.init_from = start
    third = helpers.train(config, tmp_path / "third")
    assert third.architecture == first.architecture
    assert f"the generator is that of {start} (name srresnet, " in capsys.readouterr().err
    jax.tree.map(close, first.variables["params"], third.variables["params"])
    assert json.loads((tmp_path / "third" / "config.json").read_text())["generator"]["name"] == "srresnet"
    config.stages.pretrain.total_steps += 1
    helpers.train(config, tmp_path / "third")  # resumes as the same run
    assert helpers.read_metrics(tmp_path / "third")[-1]["step"] == config.stages.pretrain.total_steps


@pytest.mark.slow
def test_a_run_from_a_file_of_another_program_resumes_without_it(config, tmp_path):
    """With the same bits as the whole run; also where the path of the file is written in another way."""
    file = tmp_path / "theirs" / "compact.safetensors"
    file.parent.mkdir()
    save_file(helpers.compact_tensors(scale=4), file)
    config.init_from, config.generator_of_init_from = str(file), True
    for stage in (config.stages.pretrain, config.stages.gan):
        stage.schedule, stage.total_steps = "constant", 2
    config.stages.gan.total_steps = 4
    whole = helpers.train(config, tmp_path / "whole")
    assert whole.architecture["name"] == "srvggnet_compact"
    config.stages.gan.total_steps = 2
    helpers.train(config, tmp_path / "run")
    config.stages.gan.total_steps, config.init_from = 3, f"{tmp_path}/theirs/../theirs/compact.safetensors"
    helpers.train(config, tmp_path / "run")  # the file is there, under another spelling of its path
    file.unlink()
    config.stages.gan.total_steps, config.init_from = 4, str(file)
    resumed = helpers.train(config, tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, dict(resumed.variables), dict(whole.variables))
    config.init_from = str(tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="no weights at"):
        helpers.train(config, tmp_path / "run")
    save_file(helpers.compact_tensors(scale=4, seed=1), config.init_from)
    with pytest.raises(UserError, match="was trained with config.init_from="):
        helpers.train(config, tmp_path / "run")


@pytest.mark.slow
def test_another_run_in_a_used_folder_is_refused(config, trained, tmp_path):
    """Generator, stages and initial weights of a run can't change, finished or not; its files stay the same."""
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    kept = {name: (run / name).read_bytes() for name in ("generator.safetensors", "config.json")}
    generator = config.generator
    wider, other = generator.copy_and_resolve_references(), ConfigDict({"name": "compact", "blocks": 1, "width": 8})
    wider.width, other.scale = 16, 4
    for key, value, message in [
        ("generator", wider, r"generator.width=8 \(now 16\).* another --workdir"),
        ("generator", other, r"generator.name='srresnet' \(now 'compact'\)"),
        ("stage_names", ("pretrain",), r"stage_names=\['pretrain', 'gan'\] \(now \['pretrain'\]\)"),
        ("stage_names", ("gan",), r"stage_names=\['pretrain', 'gan'\] \(now \['gan'\]\)"),
        ("init_from", str(run), r"init_from='' \(now '.*run'\)"),
    ]:
        changed = config.copy_and_resolve_references()
        changed[key] = value
        with pytest.raises(UserError, match=message):
            helpers.train(changed, run)
    (run / "gan.safetensors").unlink()  # a stage with a checkpoint alone counts as trained, too
    config.stage_names = ("pretrain",)
    with pytest.raises(UserError, match=r"now \['pretrain'\]"):
        helpers.train(config, run)
    assert kept == {name: (run / name).read_bytes() for name in kept}


@pytest.mark.slow
def test_a_run_without_updates_may_change_its_architecture(config, tmp_path):
    stopped = config.copy_and_resolve_references()
    stopped.generator.width = 4
    (tmp_path / "config.json").write_text(stopped.to_json_best_effort())  # it stopped before the first update
    config.stage_names = ("pretrain",)
    helpers.train(config, tmp_path)
    config.stage_names = ("pretrain", "gan")  # one more stage
    assert dict(helpers.train(config, tmp_path).architecture)["width"] == 8


def test_a_vgg_loss_without_weights_stops_before_training(config, tmp_path):
    config.stages.gan.losses.perceptual.weight = 1.0
    config.extractor.weights = str(tmp_path / "vgg19.safetensors")
    with pytest.raises(UserError, match=r"srgan-jax port vgg19 vgg19_weights"):
        helpers.train(config, tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_names_that_depend_on_others_are_checked_too(config, tmp_path):
    config.stages.gan.losses.perceptual.weight = 1.0
    config.stages.gan.losses.perceptual.options.taps = ("relu5_5",)
    with pytest.raises(UserError, match="unknown .*'relu5_5'; valid: conv1_1"):
        helpers.train(config, tmp_path)
    config.stages.gan.losses.perceptual.weight = 0.0
    config.stages.gan.losses.adversarial.term = "hinge"
    config.stages.gan.discriminator_losses.d_loss.options.label_smoothing = 0.1
    with pytest.raises(UserError, match="no labels to smooth"):
        helpers.train(config, tmp_path)
    config.degradation = ConfigDict({"name": "gaussian_blur", "sigma": 2.0})
    with pytest.raises(UserError, match="unknown .*gaussian_blur 'sigma'; valid: antialias, levels, sigma_px"):
        helpers.train(config, tmp_path)


@pytest.mark.slow
def test_changed_config_keys_are_reported(config, tmp_path, capsys):
    config.stage_names = ("pretrain",)
    helpers.train(config, tmp_path)
    config.log_every_steps = 2
    helpers.train(config, tmp_path)
    assert "changed since this run began: config.log_every_steps: 1 before, 2 now" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("data.batch_size", 6, "batch_size=6: expected a multiple of 4 .4 devices., for instance (4|8)"),
        ("data.source", "disk", "unknown config.data.source 'disk'; valid: memory, stream"),
        ("degradation.name", "blurr", "unknown degradation 'blurr'; valid: bicubic"),
        ("stages.gan.discriminator_updates", 0, "discriminator_updates=0: expected 1 or more"),
        ("extractor.name", "vgg16", "unknown network 'vgg16'; valid: resnet152v2, vgg19"),
        ("stages.pretrain.losses.pixel.term", "l3", "unknown loss term 'l3'; valid: .*charbonnier, .*l1"),
        ("stages.gan.optimizer", "adamw", "unknown optimizer 'adamw'; valid: adam, muon"),
        ("stages.gan.losses.adversarial.term", "gan", "unknown loss term 'gan'; valid: bce"),
        (
            "stages.pretrain.schedule",
            "linear",
            "unknown learning rate schedule 'linear'; valid: constant, cosine, piece",
        ),
        ("devices.mapping", "xmap", "unknown config.devices.mapping 'xmap'; valid: jit, pmap"),
        ("compute_dtype", "float16", "unknown compute_dtype 'float16'; valid: auto, bfloat16, float32"),
        ("stage_names", ("pretrain", "gun"), "config.stage_names: no stage 'gun'; stages: gan, pretrain"),
        ("validation.folder", "no/such/folder", "no such folder: no/such/folder"),
        (
            "validation.metrics",
            ("psnr_y", "psnr_z"),
            "unknown metric 'psnr_z'; valid: flat, lpips_alex, lpips_vgg",
        ),
        ("data.dataset", "no_such_set", "no data set 'no_such_set'"),
        ("data.crop_px", 30, "crop_px=30: expected a multiple of the scale 4"),
        (
            "data.resize_px",
            16,
            "resize_px=16: expected a multiple of the scale 4, at least ",
        ),
        ("data.rescale", 0.0, "rescale=0.0: expected more than 0 and at most 1"),
        ("data.crop_px", 0, "crop_px=0: expected 1 or more"),
        ("validation.best", "ssim", "best='ssim' is not among config.validation.metrics: psnr_y, ssim_y, psnr_rgb"),
        ("stages.pretrain.losses.pixel.weight", 0.0, "every weight of config.stages.pretrain.losses is 0"),
        ("stage_names", (), "config.stage_names is empty; stages: gan, pretrain"),
        ("keep_checkpoints", 2, "keep_checkpoints=2: expected 3 or more"),
        ("steps_per_call", 0, "steps_per_call=0: expected 1 or more"),
        ("steps_per_call", 3, "log_every_steps=1: expected a multiple of config.steps_per_call=3, for instance 3"),
        ("save_every_steps", 0, "config.save_every_steps=0: expected 1 or more"),
        ("data.batch_size", 0, "config.data.batch_size=0: expected 1 or more"),
        ("data.batch_size", -1, "config.data.batch_size=-1: expected 1 or more"),
        ("data.tile_px", 0, "config.data.tile_px=0: expected 1 or more"),
        ("data.threads", -1, "config.data.threads=-1: expected 0 or more"),
        ("generator.scale", 0, "config.generator.scale=0: expected 1 or more"),
        ("generator.width", 0, "config.generator.width=0: expected 1 or more"),
        ("generator.blocks", -1, "config.generator.blocks=-1: expected 0 or more"),
        ("validation.hold_out", -1, "config.validation.hold_out=-1: expected 0 or more"),
        ("sample_pictures", -1, "config.sample_pictures=-1: expected 0 or more"),
        ("guard.max_skips", 0, "config.guard.max_skips=0: expected 1 or more"),
        ("stages.gan.warmup_steps", -1, "config.stages.gan.warmup_steps=-1: expected 0 or more"),
        ("data.dataset", "data/train", "--config.data.folder=YOUR_PHOTOS, or .* srgan-jax prepare YOUR_PHOTOS --out"),
    ],
)
def test_wrong_config_values_stop_before_training(config, tmp_path, key, value, message):
    config.unlock()
    config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError, match=message):
        helpers.train(config, tmp_path)
    assert not (tmp_path / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--config.stages.pretrain.total_step=5"], ("'total_step'", "'total_steps'?")),
        (["--config.stages.pretrain.total_steps=1e5"], ("total_steps=1e5", "whole number", "'1e5'")),
        (["--config.ema_decay=much"], ("ema_decay=much", "number", "'much'")),
        (["--config.remat=perhaps"], ("remat=perhaps", "True or False", "'perhaps'")),
        (["--config.stage.pretrain.total_steps=5"], ("'stage'", "'stages'?")),
        (["extra"], ("unexpected", "'extra'")),
        (["--nonsense"], ("nonsense",)),
    ],
)
def test_command_line_errors_are_reported_in_one_line(tmp_path, capsys, arguments, parts):
    command = helpers.command(tmp_path)[3:]  # without python -m srgan_jax.main
    _assert_one_line_error(capsys, [*command, *arguments], parts)
    assert not list(tmp_path.iterdir())


def _exit_status(*arguments):
    with pytest.raises(SystemExit) as stopped:
        main.main([str(argument) for argument in arguments])
    return stopped.value.code


def _assert_one_line_error(capsys, arguments, parts):
    assert _exit_status(*arguments) == 2
    line = capsys.readouterr().err.removesuffix("\n")
    assert line.startswith("error: ") and "\n" not in line
    assert all(part in line for part in parts), line


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([], ("--config srgan",)),
        (["--workdir", "w"], ("--config",)),
        (["--config", "srgna", "--workdir", "w"], ("'srgna'", "celeba_lsgan, compact, ")),
        (["--config", "scripts/results.py", "--workdir", "w"], ("scripts/results.py", "get_config")),
        (["--config", "configs/absent.py", "--workdir", "w"], ("configs/absent.py", "recipe")),
    ],
)
def test_a_missing_config_is_reported_in_one_line(arguments, parts, monkeypatch, capsys):
    monkeypatch.chdir(helpers.ROOT)
    _assert_one_line_error(capsys, arguments, parts)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("    config.seed = sead\n    return config", "NameError: name 'sead'"),
        ("    config.seed = 'one'\n    return config", "TypeError: "),
        ("    return 1 / 0", "ZeroDivisionError: "),
        ("    return config.stage", "stage"),
        ("    open('absent')\n    return config", "No such file or directory: 'absent'"),
    ],
)
def test_errors_in_a_config_file_name_the_line(tmp_path, capsys, body, message):
    file = tmp_path / "mine.py"
    file.write_text(
        f"from srgan_jax import defaults\n\ndef get_config():\n    config = defaults.get_config()\n{body}\n"
    )
    _assert_one_line_error(capsys, ["--config", str(file), "--workdir", str(tmp_path)], (f"{file}, line 5: ", message))


def test_training_and_the_other_commands_end_alike(tmp_path, capsys, monkeypatch):
    """Status 2 and one line for a usage error, whose control characters are escaped; also with stderr closed."""
    for arguments in (["--config", "srgna"], ["--config", "a\x1b[2J.py"], ["--config", "srgan", "--config.nothing=1"]):
        assert _exit_status(*arguments, "--workdir", tmp_path) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1 and "\x1b" not in error
    assert cli.main(["upscale", str(tmp_path / "a\x1b[2J.png"), "-o", "b.png"]) == 2
    assert r"\x1b[2J" in capsys.readouterr().err
    assert _exit_status("--config", "srgan", "--process_id", "one") == 2  # argparse's own

    def interrupt(*arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("srgan_jax.config.recorded.config_and_folder", interrupt)
        assert _exit_status("--config", "srgan") == 130
    with open(os.devnull) as unwritable:
        for stream in (None, unwritable):  # None: closed by the shell
            monkeypatch.setattr(sys, "stderr", stream)
            assert _exit_status("--config", "srgna", "--workdir", tmp_path) == 2


@pytest.mark.slow
def test_a_usage_error_ends_the_process_with_status_2(tmp_path):
    result = helpers.run([sys.executable, "-m", "srgan_jax.main", "--config", "srgna", "--workdir", str(tmp_path)])
    assert result.returncode == 2 and result.stderr.startswith("error: ") and len(result.stderr.splitlines()) == 1


def test_help_exits_with_status_0(capsys):
    with pytest.raises(SystemExit) as stopped:
        main.main(["--help"])
    printed = capsys.readouterr()
    assert stopped.value.code == 0 and "folder of the run" in printed.out and not printed.err


def _send_sigterm_at(monkeypatch, stage, step):
    """Sends SIGTERM to this process while the metrics of an update are written."""
    term = functools.partial(os.kill, os.getpid(), signal.SIGTERM)
    helpers.call_when_logged(monkeypatch, {(stage, step): term})


@pytest.mark.slow
def test_a_signal_while_metrics_are_written_saves_that_update(config, tmp_path, monkeypatch, capsys):
    config.sample_pictures = 0
    with monkeypatch.context() as patch:
        _send_sigterm_at(patch, "pretrain", 3)
        with pytest.raises(SystemExit, match="143"):
            helpers.train(config, tmp_path)
    assert "pretrain: saved after update 3" in capsys.readouterr().err
    assert (tmp_path / "checkpoints" / "pretrain" / "3").is_dir()
    helpers.train(config, tmp_path)
    assert "pretrain: resumed after update 3" in capsys.readouterr().err


@pytest.mark.slow
def test_a_signal_in_the_last_update_of_a_stage_stops_before_the_next(config, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        _send_sigterm_at(patch, "pretrain", 4)
        with pytest.raises(SystemExit, match="143"):
            helpers.train(config, tmp_path)
    assert (tmp_path / "pretrain.safetensors").exists() and not (tmp_path / "checkpoints" / "gan").exists()


@pytest.mark.slow
def test_weights_missing_after_a_kill_are_written_again(config, tmp_path):
    config.stage_names = ("pretrain",)
    first = helpers.train(config, tmp_path)
    (tmp_path / "pretrain.safetensors").unlink()
    (tmp_path / "generator.safetensors").unlink()
    second = helpers.train(config, tmp_path)
    jax.tree.map(np.testing.assert_array_equal, dict(first.variables), dict(second.variables))
    assert (tmp_path / "generator.safetensors").exists()


@pytest.mark.slow
def test_interrupted_runs_log_the_same_lines_as_uninterrupted_ones(config, tmp_path, monkeypatch):
    config.stage_names, config.log_every_steps = ("pretrain",), 2
    config.stages.pretrain.total_steps = 6
    helpers.train(config, tmp_path / "uninterrupted")
    with monkeypatch.context() as patch:
        _send_sigterm_at(patch, "pretrain", 2)
        with pytest.raises(SystemExit):
            helpers.train(config, tmp_path / "stopped")
    helpers.train(config, tmp_path / "stopped")
    assert helpers.read_metrics(tmp_path / "stopped") == helpers.read_metrics(tmp_path / "uninterrupted")


@pytest.mark.slow
def test_the_best_checkpoint_outlives_newer_ones_and_a_resume(config, validation_folder, tmp_path, monkeypatch):
    """Uses a metric that returns given scores, one image after the other."""
    bicubic = 1.0  # is scored after the first validation of each process
    scores = (30.0, bicubic, 20.0, 21.0, 22.0, bicubic, 23.0, 24.0, 25.0)
    scores = itertools.chain.from_iterable([score] * 3 for score in scores)
    count = lambda: np.float32(next(scores))  # noqa: E731
    scripted = lambda *_, **__: jax.pure_callback(count, jax.ShapeDtypeStruct((), np.float32))  # noqa: E731
    monkeypatch.setitem(metrics.METRICS, "scripted", scripted)
    config.stage_names = ("pretrain",)
    config.validation.folder, config.save_every_steps, config.validate_every_steps = validation_folder, 1, 1
    config.validation.metrics, config.validation.best = ("scripted",), "scripted"
    config.stages.pretrain.total_steps = 3
    helpers.train(config, tmp_path)
    config.stages.pretrain.total_steps = 7
    helpers.train(config, tmp_path)
    found = [row["val_scripted"] for row in helpers.read_metrics(tmp_path) if "val_scripted" in row]
    assert found == [30.0, 20.0, 21.0, 22.0, 23.0, 24.0, 25.0]
    kept = sorted(int(path.name) for path in (tmp_path / "checkpoints" / "pretrain").iterdir())
    assert kept == [1, 5, 6, 7]


def test_a_metric_without_its_weights_stops_before_training(config, validation_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("SRGAN_JAX_WEIGHTS", str(tmp_path))
    config.validation.folder, config.validation.metrics, config.validation.best = validation_folder, ("niqe",), "niqe"
    with pytest.raises(UserError, match="get them with: srgan-jax port niqe"):
        helpers.train(config, tmp_path / "run")


def test_images_too_small_for_a_metric_stop_before_training(config, tmp_path, monkeypatch):
    from safetensors.numpy import save_file

    monkeypatch.setenv("SRGAN_JAX_WEIGHTS", str(tmp_path))
    save_file({"mu_pris_param": np.zeros((1, 36))}, tmp_path / "niqe.safetensors")
    images.write_image(tmp_path / "held" / "small.png", np.zeros((196, 120, 3), np.uint8))
    config.validation.folder, config.validation.metrics = str(tmp_path / "held"), ("psnr_y", "niqe")
    message = "small is 120 x 196 px; without a border of 4 px at each side, at least 192 x 96 px must remain for niqe"
    with pytest.raises(UserError, match=message):
        helpers.train(config, tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_the_best_checkpoint_of_a_distance_has_the_lowest_value(tmp_path):
    from srgan_jax.training import checkpoints

    saver = checkpoints.Checkpoints(tmp_path, keep=1, best_metric="niqe", lower_is_better=True)
    for step, value in enumerate([5.0, 3.0, 4.0, 6.0], start=1):
        saver.save(step, {"x": np.zeros(2)}, {"niqe": value})
    saver.close()
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == [2, 4]


@pytest.mark.slow
def test_bfloat16_trains_and_resumes(config, tmp_path, monkeypatch):
    """bfloat16 is the default on GPUs: of all convolutions, forward and backward; parameters stay float32."""
    config.compute_dtype = "bfloat16"
    update, state, *arguments = helpers.trace_update(config, "gan")
    program = str(jax.make_jaxpr(update)(state, *arguments))
    assert set(re.findall(r":(\w+)\[[\d,]*\] = conv_general_dilated", program)) == {"bf16"}
    assert {leaf.dtype for leaf in jax.tree.leaves(state.generator.params)} == {np.dtype("float32")}
    with monkeypatch.context() as patch:
        _send_sigterm_at(patch, "gan", 2)
        with pytest.raises(SystemExit, match="143"):
            helpers.train(config, tmp_path)
    helpers.train(config, tmp_path)
    losses = [row["loss"] for row in helpers.read_metrics(tmp_path) if "loss" in row]
    assert len(losses) == 7 and np.isfinite(losses).all()


@pytest.mark.slow
def test_extending_a_stage_that_a_later_stage_started_from_is_refused(config, trained):
    config.stages.pretrain.total_steps += 1
    with pytest.raises(UserError, match="gan.safetensors .* earlier pretrain"):
        helpers.train(config, trained)


def test_runs_without_previews(config, tmp_path):
    config.stage_names, config.sample_pictures = ("pretrain",), 0
    helpers.train(config, tmp_path)
    assert not (tmp_path / "samples").exists()


@pytest.mark.slow
def test_profile_writes_a_trace(config, tmp_path):
    config.stage_names = ("pretrain",)
    config.stages.pretrain.total_steps = 11  # training ends while the trace is running
    helpers.train(config, tmp_path, profile=True)
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
