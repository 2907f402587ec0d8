"""The loop, through `train_and_evaluate` and through the command."""

import functools
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest
import toys
from ml_collections import ConfigDict
from PIL import Image

import srgan_jax
from srgan_jax import defaults, images, weights
from srgan_jax.runtime.errors import UserError
from srgan_jax.training import loop
from srgan_jax.training.loop import train_and_evaluate


@pytest.fixture
def config(tiny, dataset):
    """SRResNet and SRGAN with pixel loss, a few updates on four virtual devices."""
    config = tiny(defaults.get_config())
    config.data.dataset = dataset
    config.stages.pretrain.total_steps = 4
    config.stages.gan.total_steps = 3
    config.stages.gan.pixel_weight = 1.0
    config.stages.gan.perceptual_weight = 0.0
    config.save_every_steps = 2
    config.validate_every_steps = 2
    return config


def _same(first: Path, second: Path):
    for name in ("pretrain.safetensors", "gan.safetensors", "generator.safetensors"):
        both = (srgan_jax.load(folder / name, fold=False) for folder in (first, second))
        jax.tree.map(np.testing.assert_array_equal, *both)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, dataset, held_out):
    """A run of both stages that nobody disturbed, in a process of its own."""
    workdir = tmp_path_factory.mktemp("finished")
    result = toys.run(_command(workdir, dataset, held_out))
    assert result.returncode == 0, result.stderr
    return workdir, result.stderr


def _command(workdir, dataset, held_out, *more):
    values = {
        "data.dataset": dataset, "data.batch_size": 4, "validation.folder": held_out,
        "stages.pretrain.total_steps": 6, "stages.gan.total_steps": 60, "save_every_steps": 10,
        "validate_every_steps": 30,
    }  # fmt: skip
    return [*toys.command(workdir, **values), *more]


@pytest.mark.slow
def test_command_runs_both_stages(finished):
    workdir, told = finished
    for text in (
        "pretrain: loss at update 1: pixel",
        "gan: loss at update 1: pixel",
        "(100.0 %)",
        "adversarial",
        "finished",
    ):
        assert text in told
    rows = toys.rows(workdir)
    for stage, last in (("pretrain", 6), ("gan", 60)):
        training = [row for row in rows if row["stage"] == stage and "loss" in row]
        assert [row["step"] for row in training] == list(range(1, last + 1))
        assert all(np.isfinite(list(row.values())[2:]).all() for row in training)
        validation = [row for row in rows if row["stage"] == stage and "val_psnr_y" in row]
        assert [row["step"] for row in validation] == {"pretrain": [6], "gan": [30, 60]}[stage] and 5 < validation[-1][
            "val_psnr_y"
        ] < 50
    gan = next(row for row in rows if "d_loss" in row)
    assert {"adversarial", "d_accuracy_real", "d_accuracy_fake"} < set(gan)


@pytest.mark.slow
def test_run_folder_holds_what_a_user_needs(finished):
    workdir, _ = finished
    params = srgan_jax.load(workdir)
    assert srgan_jax.upscale(params, np.zeros((8, 8, 3), np.uint8)).shape == (32, 32, 3)
    header = srgan_jax.read_header(workdir / "generator.safetensors")
    assert header["stage"] == "gan" and header["steps"] == "60" and float(header["val_psnr_y"]) > 5
    assert json.loads((workdir / "config.json").read_text())["data"]["batch_size"] == 4
    versions = json.loads((workdir / "versions.json").read_text())
    assert versions["jax"] == jax.__version__ and versions["git"] and "--config" in versions["command"]
    for sample in ("pretrain_0000006", "gan_0000030", "gan_0000060"):
        with Image.open(workdir / "samples" / f"{sample}.png") as sheet:
            # Three rows of LR (enlarged), SR and HR, 60 px each (61 cut to a multiple of 4), 4 px apart.
            assert sheet.size == (3 * 60 + 2 * 4, 3 * 60 + 2 * 4)
    assert list((workdir / "tensorboard" / "gan").glob("events.out.tfevents.*"))
    assert sorted(int(path.name) for path in (workdir / "checkpoints" / "gan").iterdir())[-3:] == [40, 50, 60]


@pytest.mark.slow
def test_averaged_generator_scores_what_the_log_says(finished, held_out):
    from srgan_jax.evaluation import scoring
    from srgan_jax.evaluation.pairs import read_pairs

    workdir, _ = finished
    params = srgan_jax.load(workdir)
    pairs = read_pairs(held_out, 4)
    results = [np.asarray(srgan_jax.upscale(params, pair.lr)) for pair in pairs]
    mean = scoring.mean(scoring.score(pairs, results))
    assert mean["psnr_y"] == pytest.approx(toys.rows(workdir)[-1]["val_psnr_y"], abs=1e-3)


@pytest.mark.slow
def test_running_again_changes_nothing(finished, dataset, held_out):
    workdir, _ = finished
    before = (workdir / "metrics.jsonl").read_text()
    result = toys.run(_command(workdir, dataset, held_out))
    assert result.returncode == 0 and "pretrain: finished" in result.stderr and "gan: finished" in result.stderr
    assert (workdir / "metrics.jsonl").read_text() == before


@pytest.mark.slow
@pytest.mark.parametrize(("how", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stopped_runs_end_like_undisturbed_ones(finished, dataset, held_out, tmp_path, how, status):
    undisturbed, _ = finished
    command = _command(tmp_path, dataset, held_out)
    process = subprocess.Popen(command, cwd=toys.ROOT, env=toys.environment(), stderr=subprocess.PIPE, text=True)
    while not (tmp_path / "checkpoints" / "gan" / "10" / "manifest.sha256").exists():  # in the second stage
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    process.send_signal(how)
    _, told = process.communicate(timeout=120)
    if process.returncode == 0:  # it was quicker than the signal
        pytest.fail("the run finished before it was stopped; make it longer")
    assert process.returncode == status, told
    assert "Traceback" not in told
    result = toys.run(command)
    assert result.returncode == 0, result.stderr
    assert "gan: resumed after update" in result.stderr and "pretrain: finished" in result.stderr
    _same(tmp_path, undisturbed)
    assert toys.rows(tmp_path) == toys.rows(undisturbed)


@pytest.mark.slow
def test_sources_see_the_same_samples(config, tmp_path):
    rows = {}
    for source in ("memory", "stream"):
        config.data.source = source
        train_and_evaluate(config, tmp_path / source)
        rows[source] = toys.rows(tmp_path / source)
    # The programs differ (tiles are cut in one of them), so XLA may round differently.
    for ours, theirs in zip(rows["memory"], rows["stream"], strict=True):
        assert ours["stage"] == theirs["stage"] and ours.keys() == theirs.keys()
        assert [ours[key] for key in ours if key != "stage"] == pytest.approx(
            [theirs[key] for key in ours if key != "stage"], rel=1e-4
        )
    config.data.source, config.data.device_share = "memory", 0.0  # tiles don't fit: pictures stay on the host
    train_and_evaluate(config, tmp_path / "host")
    assert toys.rows(tmp_path / "host") == rows["stream"]


@pytest.mark.slow
def test_a_slow_source_is_told(config, tmp_path, monkeypatch, capsys):
    from srgan_jax.data import stream
    from srgan_jax.data.feed import Feed

    config.stage_names, config.data.source, config.log_every_steps = ("pretrain",), "stream", 16
    config.validate_every_steps = config.save_every_steps = 1000
    config.stages.pretrain.total_steps = 80
    lines, line, original = [], Feed.line, stream.stream_windows

    def slowly(*args, **options):  # takes as long as the update before, however fast the machine
        for windows in original(*args, **options):
            began = time.perf_counter()
            yield windows
            if any(lines):  # it was told: at once from here on
                yield from itertools.repeat(windows)
            time.sleep(min(time.perf_counter() - began, 1.0))

    monkeypatch.setattr(stream, "stream_windows", slowly)
    monkeypatch.setattr(Feed, "line", lambda feed: lines.append(line(feed)) or lines[-1])
    train_and_evaluate(config, tmp_path)
    told = capsys.readouterr().err
    assert told.count("the updates wait for their pictures") == 1 and "decoding is the limit" in told
    assert told.index("wait for their pictures") < told.index("no longer wait for their pictures")


@pytest.mark.slow
def test_both_mappings_train(config, tmp_path):
    rows = {}
    for mapping in ("jit", "pmap"):
        config.devices.mapping = mapping
        train_and_evaluate(config, tmp_path / mapping)
        rows[mapping] = [row["loss"] for row in toys.rows(tmp_path / mapping) if "loss" in row]
    np.testing.assert_allclose(rows["pmap"], rows["jit"], rtol=1e-3)


@pytest.mark.slow
def test_training_goes_on_when_the_total_is_raised(config, tmp_path):
    config.stage_names = ("pretrain",)
    train_and_evaluate(config, tmp_path)
    config.stages.pretrain.total_steps = 6
    train_and_evaluate(config, tmp_path)
    assert [row["step"] for row in toys.rows(tmp_path) if "loss" in row] == [1, 2, 3, 4, 5, 6]
    assert srgan_jax.read_header(tmp_path / "generator.safetensors")["steps"] == "6"


@pytest.mark.slow
def test_starting_from_weights(config, tmp_path, capsys):
    config.stage_names = ("pretrain",)
    first = train_and_evaluate(config, tmp_path / "first")
    config.init_from = str(tmp_path / "first")
    config.stages.pretrain.learning_rate = 0.0
    config.generator.blocks += 1
    second = train_and_evaluate(config, tmp_path / "second")
    close = functools.partial(np.testing.assert_allclose, rtol=1e-6)  # an average of equal numbers, rounded
    begun = weights.deepen(first, config.generator.blocks)
    jax.tree.map(close, begun.variables["params"], second.variables["params"])
    config.init_from = str(tmp_path / "second")
    config.generator.blocks -= 1
    with pytest.raises(UserError, match="of another architecture: blocks 2 instead of 1$"):
        train_and_evaluate(config, tmp_path / "third")
    config.init_from = str(tmp_path / "first")
    config.generator.width = 4
    with pytest.raises(UserError, match="of another architecture: width 8 instead of 4$"):
        train_and_evaluate(config, tmp_path / "third")
    config.generator = ConfigDict({"name": "compact", "blocks": 1, "width": 8, "scale": 4})
    with pytest.raises(UserError, match="of another architecture: name srresnet instead of compact$"):
        train_and_evaluate(config, tmp_path / "third")
    config.generator_of_init_from, start = True, config.init_from
    config.init_from = ""
    with pytest.raises(UserError, match=r"name them by --config\.init_from="):
        train_and_evaluate(config, tmp_path / "third")
    config.init_from = start
    third = train_and_evaluate(config, tmp_path / "third")
    assert third.architecture == first.architecture
    assert f"the generator is that of {start} (name srresnet, " in capsys.readouterr().err
    jax.tree.map(close, first.variables["params"], third.variables["params"])
    assert json.loads((tmp_path / "third" / "config.json").read_text())["generator"]["name"] == "srresnet"
    config.stages.pretrain.total_steps += 1
    train_and_evaluate(config, tmp_path / "third")  # goes on as the same run
    assert toys.rows(tmp_path / "third")[-1]["step"] == config.stages.pretrain.total_steps


@pytest.mark.slow
def test_another_run_in_a_folder_that_is_used_is_refused(config, tmp_path):
    """What was trained stays as it was: generator, stages and start are those of the run, finished or not."""
    config.stages.pretrain.total_steps = config.stages.gan.total_steps = 1
    train_and_evaluate(config, tmp_path / "run")
    kept = {name: (tmp_path / "run" / name).read_bytes() for name in ("generator.safetensors", "config.json")}
    generator = config.generator
    wider, other = generator.copy_and_resolve_references(), ConfigDict({"name": "compact", "blocks": 1, "width": 8})
    wider.width, other.scale = 16, 4
    for key, value, message in [
        ("generator", wider, r"config.generator.width=8 \(now 16\); give that again, or use another --workdir"),
        ("generator", other, r"config.generator.name='srresnet' \(now 'compact'\); give that again"),
        ("stage_names", ("pretrain",), r"config.stage_names=\['pretrain', 'gan'\] \(now \['pretrain'\]\); give"),
        ("stage_names", ("gan",), r"config.stage_names=\['pretrain', 'gan'\] \(now \['gan'\]\); give"),
        ("init_from", str(tmp_path / "run"), r"config.init_from='' \(now '.*run'\); give that again"),
    ]:
        changed = config.copy_and_resolve_references()
        changed[key] = value
        with pytest.raises(UserError, match="run was trained with " + message):
            train_and_evaluate(changed, tmp_path / "run")
    (tmp_path / "run" / "gan.safetensors").unlink()  # a checkpoint alone is a trained stage, too
    config.stage_names = ("pretrain",)
    with pytest.raises(UserError, match=r"now \['pretrain'\]"):
        train_and_evaluate(config, tmp_path / "run")
    assert kept == {name: (tmp_path / "run" / name).read_bytes() for name in kept}


@pytest.mark.slow
def test_what_nothing_was_trained_with_may_change(config, tmp_path):
    config.stages.pretrain.total_steps = config.stages.gan.total_steps = 1
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(config.to_json_best_effort())  # it stopped before the first update
    config.generator.width, config.stage_names = 4, ("pretrain",)
    train_and_evaluate(config, tmp_path / "run")
    config.stage_names = ("pretrain", "gan")  # one more
    assert dict(train_and_evaluate(config, tmp_path / "run").architecture)["width"] == 4


def test_a_vgg_loss_without_weights_stops_before_training(config, tmp_path):
    config.stages.gan.perceptual_weight = 1.0
    config.extractor.weights = str(tmp_path / "vgg19.safetensors")
    with pytest.raises(UserError, match=r"srgan-jax port vgg19 --download"):
        train_and_evaluate(config, tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_names_that_depend_on_others_are_checked_too(config, tmp_path):
    config.stages.gan.perceptual_weight = 1.0
    config.stages.gan.perceptual_taps = ("relu5_5",)
    with pytest.raises(UserError, match="unknown vgg19 feature 'relu5_5'; valid: conv1_1"):
        train_and_evaluate(config, tmp_path)
    config.stages.gan.perceptual_weight = 0.0
    config.stages.gan.adversarial, config.stages.gan.label_smoothing = "hinge", 0.1
    with pytest.raises(UserError, match="no labels to smooth"):
        train_and_evaluate(config, tmp_path)
    config.degradation = ConfigDict({"name": "gaussian_blur", "sigma": 2.0})
    with pytest.raises(UserError, match="unknown option of gaussian_blur 'sigma'; valid: antialias, sigma_px, size_px"):
        train_and_evaluate(config, tmp_path)


@pytest.mark.slow
def test_a_discriminator_that_wins_is_told(config, tmp_path, capsys):
    config.stage_names = ("gan",)
    config.stages.gan.total_steps = 11
    config.stages.gan.balance_accuracy = -1.0  # always above
    config.validate_every_steps = config.save_every_steps = 100
    train_and_evaluate(config, tmp_path)
    assert "gan: update 10: the discriminator wins: it judged" in capsys.readouterr().err


@pytest.mark.slow
def test_changed_configs_are_told(config, tmp_path, capsys):
    config.stage_names = ("pretrain",)
    train_and_evaluate(config, tmp_path)
    config.log_every_steps = 2
    train_and_evaluate(config, tmp_path)
    assert "changed since this run began: config.log_every_steps: 1 before, 2 now" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("data.batch_size", 6, "batch_size=6 can't be divided by 4 devices; (4|8) can"),
        ("data.source", "disk", "unknown config.data.source 'disk'; valid: memory, stream"),
        ("degradation.name", "blurr", "unknown degradation 'blurr'; valid: bicubic"),
        ("stages.gan.discriminator_updates", 0, "discriminator_updates and discriminator_every must be 1 or more"),
        ("stages.gan.perceptual_tap_weights", (1.0, 2.0), "perceptual_tap_weights has 2 numbers for 1 perceptual_taps"),
        ("extractor.name", "vgg16", "unknown network 'vgg16'; valid: resnet152v2, vgg19"),
        ("stages.pretrain.pixel", "l3", "unknown pixel loss 'l3'; valid: charbonnier, l1, mse, psnr"),
        ("stages.gan.optimizer", "adamw", "unknown optimizer 'adamw'; valid: adam, muon"),
        ("stages.gan.adversarial", "gan", "unknown adversarial loss 'gan'; valid: bce"),
        (
            "stages.pretrain.schedule",
            "linear",
            "unknown learning rate schedule 'linear'; valid: constant, cosine, piece",
        ),
        ("devices.mapping", "xmap", "unknown config.devices.mapping 'xmap'; valid: jit, pmap"),
        ("compute_dtype", "float16", "unknown compute_dtype 'float16'; valid: auto, bfloat16, float32"),
        ("stage_names", ("pretrain", "gun"), "unknown stage 'gun'; valid: gan, pretrain"),
        ("validation.folder", "no/such/folder", "no such folder: no/such/folder"),
        ("validation.metrics", ("psnr",), "unknown metric 'psnr'; valid: lpips_alex, lpips_vgg, ms_ssim"),
        ("data.dataset", "no_such_set", "no data set 'no_such_set'"),
        ("data.crop_px", 30, "crop_px=30 is not a multiple of the scale 4"),
        (
            "data.resize_px",
            16,
            "resize_px=16: expected a multiple of the scale 4, and no less",
        ),
        ("data.rescale", 0.0, "rescale=0.0: expected more than 0 and at most 1"),
        ("data.crop_px", 0, "crop_px=0 is not a multiple of the scale 4"),
        ("validation.best", "ssim", "best='ssim' is not among config.validation.metrics: psnr_y, ssim_y, psnr_rgb"),
        ("stages.pretrain.pixel_weight", 0.0, "every weight of config.stages.pretrain is 0"),
        ("stage_names", (), "config.stage_names is empty; stages: gan, pretrain"),
        ("keep_checkpoints", 2, "keep_checkpoints=2: expected 3 or more"),
        ("steps_per_call", 0, "steps_per_call=0: expected 1 or more"),
        ("steps_per_call", 3, "config.log_every_steps=1 is no multiple of config.steps_per_call=3; 3 is"),
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
def test_mistakes_stop_before_training(config, tmp_path, key, value, message):
    config.unlock()
    config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError, match=message):
        train_and_evaluate(config, tmp_path)
    assert not (tmp_path / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--config.stages.pretrain.total_step=5"],
            "no such key in the config: 'total_step'; did you mean 'total_steps'?\n",
        ),
        (
            ["--config.stages.pretrain.total_steps=1e5"],
            "total_steps=1e5: expected a whole number in digits, got '1e5'\n",
        ),
        (["--config.ema_decay=much"], "ema_decay=much: expected a number, got 'much'\n"),
        (["--config.data.augment=perhaps"], "augment=perhaps: expected True or False, got 'perhaps'\n"),
        (["--config.stage.pretrain.total_steps=5"], "no such key in the config: 'stage'; did you mean 'stages'?"),
        (["extra"], "unexpected argument 'extra'"),
        (["--nonsense"], "nonsense"),
    ],
)
def test_mistakes_on_the_command_line_end_in_one_line(tmp_path, dataset, held_out, arguments, message):
    result = toys.run(_command(tmp_path, dataset, held_out, *arguments))
    lines = [line for line in result.stderr.splitlines(keepends=True) if line.strip()]
    assert result.returncode == 1 and len(lines) == 1 and lines[0].startswith("error: ") and message in lines[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected --config, for instance: python -m srgan_jax.main --config srgan"),
        (["--workdir", "w"], "expected --config"),
        (["--config", "srgna", "--workdir", "w"], "unknown recipe 'srgna'; valid: celeba_lsgan, compact, "),
        (
            ["--config", "scripts/results.py", "--workdir", "w"],
            "scripts/results.py has no function get_config",
        ),
        (
            ["--config", "configs/absent.py", "--workdir", "w"],
            "no config file configs/absent.py; a name without / and .py is a recipe: ",
        ),
    ],
)
def test_missing_config_ends_in_one_line(arguments, message):
    command = [sys.executable, "-m", "srgan_jax.main", *arguments]
    result = toys.run(command)
    assert result.returncode == 1 and result.stderr.startswith("error: ") and len(result.stderr.splitlines()) == 1
    assert message in result.stderr


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("    config.seed = sead\n    return config", "{file}, line 5: NameError: name 'sead' is not defined\n"),
        ("    config.seed = 'one'\n    return config", "{file}, line 5: TypeError: Could not override field 'seed'"),
        ("    return 1 / 0", "{file}, line 5: ZeroDivisionError: division by zero\n"),
        ("    return config.stage", "{file}, line 5: "),
        ("    open('absent')\n    return config", "{file}, line 5: [Errno 2] No such file or directory: 'absent'\n"),
    ],
)
def test_mistakes_in_a_config_file_name_the_line(tmp_path, body, message):
    file = tmp_path / "mine.py"
    file.write_text(
        f"from srgan_jax import defaults\n\ndef get_config():\n    config = defaults.get_config()\n{body}\n"
    )
    result = toys.run([sys.executable, "-m", "srgan_jax.main", "--config", str(file), "--workdir", str(tmp_path)])
    assert result.returncode == 1 and len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("error: " + message.format(file=file))


def test_help_is_no_error():
    result = toys.run([sys.executable, "-m", "srgan_jax.main", "--help"])
    assert result.returncode == 0 and "folder of the run" in result.stdout and not result.stderr


class _Stop:
    """Sends a signal to this process when the training log writes a line that holds `text`."""

    def __init__(self, monkeypatch, text):
        from srgan_jax.training import logs

        write = logs.StageLog.write

        def write_and_stop(log, step, values, shown=()):
            write(log, step, values, shown)
            if text(log, step, values):
                os.kill(os.getpid(), signal.SIGTERM)

        monkeypatch.setattr(logs.StageLog, "write", write_and_stop)


def test_a_signal_while_numbers_are_written_saves_that_update(config, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        _Stop(patch, lambda log, step, values: log._stage == "pretrain" and step == 3)
        with pytest.raises(SystemExit, match="143"):
            train_and_evaluate(config, tmp_path)
    assert "pretrain: saved after update 3" in capsys.readouterr().err
    assert (tmp_path / "checkpoints" / "pretrain" / "3").is_dir()
    train_and_evaluate(config, tmp_path)
    assert "pretrain: resumed after update 3" in capsys.readouterr().err


def test_a_signal_in_the_last_update_of_a_stage_stops_before_the_next(config, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        _Stop(patch, lambda log, step, values: log._stage == "pretrain" and step == 4)
        with pytest.raises(SystemExit, match="143"):
            train_and_evaluate(config, tmp_path)
    assert (tmp_path / "pretrain.safetensors").exists() and not (tmp_path / "checkpoints" / "gan").exists()


def test_a_kill_before_publication_is_mended(config, tmp_path):
    config.stage_names = ("pretrain",)
    first = train_and_evaluate(config, tmp_path)
    (tmp_path / "pretrain.safetensors").unlink()
    (tmp_path / "generator.safetensors").unlink()
    second = train_and_evaluate(config, tmp_path)
    jax.tree.map(np.testing.assert_array_equal, dict(first.variables), dict(second.variables))
    assert (tmp_path / "generator.safetensors").exists()


@pytest.mark.slow
def test_interrupted_logs_have_the_lines_of_undisturbed_ones(config, tmp_path, monkeypatch):
    config.stage_names, config.log_every_steps = ("pretrain",), 2
    config.stages.pretrain.total_steps = 6
    train_and_evaluate(config, tmp_path / "undisturbed")
    with monkeypatch.context() as patch:
        _Stop(patch, lambda log, step, values: step == 2)
        with pytest.raises(SystemExit):
            train_and_evaluate(config, tmp_path / "stopped")
    train_and_evaluate(config, tmp_path / "stopped")
    assert toys.rows(tmp_path / "stopped") == toys.rows(tmp_path / "undisturbed")


@pytest.mark.slow
def test_the_best_checkpoint_outlives_newer_ones_and_a_resume(config, held_out, tmp_path, monkeypatch):

    scores = iter([30.0, 20.0, 21.0, 22.0, 23.0, 24.0, 25.0])
    monkeypatch.setattr(loop, "validate", lambda *_: {"psnr_y": next(scores)})
    config.stage_names = ("pretrain",)
    config.validation.folder, config.save_every_steps, config.validate_every_steps = held_out, 1, 1
    config.stages.pretrain.total_steps = 3
    train_and_evaluate(config, tmp_path)
    config.stages.pretrain.total_steps = 7
    train_and_evaluate(config, tmp_path)
    kept = sorted(int(path.name) for path in (tmp_path / "checkpoints" / "pretrain").iterdir())
    assert kept == [1, 5, 6, 7]


def test_a_metric_without_its_weights_stops_before_training(config, held_out, tmp_path, monkeypatch):
    monkeypatch.setenv("SRGAN_JAX_WEIGHTS", str(tmp_path))
    config.validation.folder, config.validation.metrics, config.validation.best = held_out, ("niqe",), "niqe"
    with pytest.raises(UserError, match="get them with: srgan-jax port niqe"):
        train_and_evaluate(config, tmp_path / "run")


def test_pictures_too_small_for_a_metric_stop_before_training(config, tmp_path, monkeypatch):
    from safetensors.numpy import save_file

    monkeypatch.setenv("SRGAN_JAX_WEIGHTS", str(tmp_path))
    save_file({"mu_pris_param": np.zeros((1, 36))}, tmp_path / "niqe.safetensors")
    images.write_image(tmp_path / "held" / "small.png", np.zeros((196, 120, 3), np.uint8))
    config.validation.folder, config.validation.metrics = str(tmp_path / "held"), ("psnr_y", "niqe")
    told = "small is 120 x 196 px; with 4 px left out at each side, at least 192 x 96 must remain for niqe"
    with pytest.raises(UserError, match=told):
        train_and_evaluate(config, tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_the_best_of_a_distance_is_the_lowest(tmp_path):
    from srgan_jax.training import checkpoints

    saver = checkpoints.Checkpoints(tmp_path, keep=1, best_metric="niqe", lower_is_better=True)
    for step, value in enumerate([5.0, 3.0, 4.0, 6.0], start=1):
        saver.save(step, {"x": np.zeros(2)}, {"niqe": value})
    saver.close()
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == [2, 4]


@pytest.mark.slow
def test_bfloat16_trains_and_resumes(config, tmp_path):
    """What a GPU does by default."""
    config.compute_dtype = "bfloat16"
    train_and_evaluate(config, tmp_path)
    config.stages.gan.total_steps = 4
    train_and_evaluate(config, tmp_path)
    losses = [row["loss"] for row in toys.rows(tmp_path) if "loss" in row]
    assert len(losses) == 8 and np.isfinite(losses).all()


@pytest.mark.slow
def test_later_stages_are_not_left_behind(config, tmp_path):
    train_and_evaluate(config, tmp_path)
    config.stages.pretrain.total_steps = 5
    with pytest.raises(UserError, match=r"gan.safetensors in .* was trained from an earlier pretrain"):
        train_and_evaluate(config, tmp_path)


def test_runs_without_sample_pictures(config, tmp_path):
    config.stage_names, config.sample_pictures = ("pretrain",), 0
    train_and_evaluate(config, tmp_path)
    assert not (tmp_path / "samples").exists()


@pytest.mark.slow
def test_profile_writes_a_trace(config, tmp_path):
    config.stage_names = ("pretrain",)
    config.stages.pretrain.total_steps = 11  # it ends while the trace is running
    train_and_evaluate(config, tmp_path, profile=True)
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
