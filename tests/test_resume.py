"""Tests that nothing is lost: by kills, damaged checkpoints, a full disk, non-finite updates."""

import contextlib
import functools
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import threading
import time
from typing import Any, ClassVar

import flax.linen as nn
import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

import srgan_jax
from srgan_jax import defaults, models
from srgan_jax.data import sampling
from srgan_jax.degradations import DEGRADATIONS
from srgan_jax.runtime.errors import UserError
from srgan_jax.runtime.random_keys import PURPOSE_DEGRADATION, keys_for
from srgan_jax.training import checkpoints, checksums, logs

VALIDATE_EVERY = 8


@pytest.fixture(scope="module")
def command(dataset, validation_folder):
    """A function from a work folder and further overrides to the command line of a small SRResNet and SRGAN."""

    def make(workdir, **more):
        values = {
            "data.dataset": dataset, "data.batch_size": 2, "validation.folder": validation_folder,
            "stages.pretrain.total_steps": 24, "stages.gan.total_steps": 120,
            "save_every_steps": 4, "validate_every_steps": VALIDATE_EVERY, "sample_pictures": 1,
        }  # fmt: skip
        return helpers.command(workdir, **(values | more))

    return make


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, command):
    workdir = tmp_path_factory.mktemp("uninterrupted")
    result = helpers.run(command(workdir))
    assert result.returncode == 0, result.stderr
    return workdir


def _checkpoints(workdir, stage="gan"):
    """Returns the folders of checkpoints by update; a run that was killed while saving leaves others, of Orbax."""
    folders = (workdir / "checkpoints" / stage).iterdir()
    return {int(path.name): path for path in folders if path.name.isdigit()}


def _assert_same(workdir, expected):
    """Asserts that weights, Adam's moments, averages, counters, metrics and kept checkpoints are equal to the bit."""
    for name in ("pretrain.safetensors", "gan.safetensors", "generator.safetensors"):
        both = (srgan_jax.load(folder / name, fold=False) for folder in (workdir, expected))
        jax.tree.map(np.testing.assert_array_equal, *both)
    assert helpers.read_metrics(workdir) == helpers.read_metrics(expected)
    for stage in ("pretrain", "gan"):
        ours, theirs = (_checkpoints(folder, stage) for folder in (workdir, expected))
        assert sorted(ours) == sorted(theirs)  # the newest three and the best
        content, expected_content = (
            helpers.read_checkpoint(ours[max(ours)]),
            helpers.read_checkpoint(theirs[max(theirs)]),
        )
        assert len(content) == len(expected_content) > 20
        for path, value in expected_content.items():
            np.testing.assert_array_equal(content[path], value, err_msg=path)


# ---------------------------------------------------------------------------------------------- kills


def _modified_since(paths, began):
    found = []
    for path in paths:
        try:
            found += [path] if path.stat().st_mtime > began else []
        except FileNotFoundError:  # renamed or deleted meanwhile
            continue
    return found


def _is_writing(workdir, began):
    """True while a checkpoint is being written."""
    return _modified_since(workdir.glob("checkpoints/*/*.orbax-checkpoint-tmp*"), began)


def _is_before_checksums(workdir, began):
    """True between Orbax's commit and the writing of the checksums."""
    found = _modified_since(workdir.glob("checkpoints/*/[0-9]*"), began)
    return [path for path in found if path.name.isdigit() and not checksums.exists(path)]


def _is_validating(workdir, began):
    """True between the metrics of an update and its validation scores."""
    file = workdir / "metrics.jsonl"
    if not _modified_since([file], began):
        return False
    last = file.read_text().rpartition("\n")[0].rpartition("\n")[2]
    return bool(last) and json.loads(last)["step"] % VALIDATE_EVERY == 0 and "val_psnr_y" not in last


def _is_between_stages(workdir, began):
    file = workdir / "pretrain.safetensors"  # also written at validations
    return file.exists() and srgan_jax.read_header(file)["steps"] == "24"


def _is_training(workdir, began):
    return _modified_since([workdir / "metrics.jsonl"], began)


def _has_saved(workdir, began):
    """True when the second stage has written a whole checkpoint."""
    return _modified_since(workdir.glob(f"checkpoints/gan/[0-9]*/{checksums.FILE}"), began)


def _kill_when(command, workdir, moment, delay_s):
    """Starts a run and kills it `delay_s` after `moment`; returns False where it ended before the signal."""
    began = time.time()
    process = subprocess.Popen(
        command, cwd=helpers.ROOT, env=helpers.environment(), stderr=subprocess.DEVNULL, start_new_session=True
    )
    while process.poll() is None and not moment(workdir, began):
        assert time.time() - began < 300
        time.sleep(0.0005)
    time.sleep(delay_s)
    process.kill()
    return process.wait() == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.timeout(1500)  # twelve starts of a process
def test_a_run_killed_ten_times_equals_an_uninterrupted_one(uninterrupted, command, tmp_path):
    """Kills a run by `kill -9` ten times, at moments drawn with a fixed seed, with both data sources."""
    rng = random.Random(0)
    anywhere = [_is_training, _is_writing, _is_writing, _is_before_checksums, _is_validating, _is_validating]
    rng.shuffle(anywhere)
    moments = [_is_training, _is_writing, _is_between_stages, *anywhere, _has_saved]
    killed = []
    for number, moment in enumerate(moments):
        delay_s = rng.uniform(0, 0.3) if moment is _is_training else rng.uniform(0, 0.004)
        source = ("memory", "stream")[number % 2]
        assert _kill_when(command(tmp_path, **{"data.source": source}), tmp_path, moment, delay_s), killed
        killed.append(moment.__name__)
    gan = tmp_path / "gan.safetensors"
    assert len(killed) == 10 and (not gan.exists() or srgan_jax.read_header(gan)["steps"] != "120")
    whole = [step for step, folder in _checkpoints(tmp_path).items() if checksums.exists(folder)]
    result = helpers.run(command(tmp_path))
    assert result.returncode == 0, result.stderr
    assert f"gan: resumed after update {max(whole)}\n" in result.stderr and max(whole) >= 4
    _assert_same(tmp_path, uninterrupted)


# ---------------------------------------------------------------------------------------------- damage


def _make_state(value):
    """Returns a state of 1,701 numbers."""
    return {"a": jnp.full((40, 30), float(value)), "b": {"c": jnp.arange(500) + value, "d": jnp.int32(value)}}


@pytest.fixture
def three_checkpoints(tmp_path):
    """A folder with checkpoints 1, 2 and 3, the list of reported lines, and a function that opens the folder."""
    reported = []

    def open_again():
        return checkpoints.Checkpoints(tmp_path / "stage", report=reported.append)

    saver = open_again()
    for step in (1, 2, 3):
        saver.save(step, _make_state(step))
    saver.close()
    assert not reported and saver.saved == 3
    return tmp_path / "stage", reported, open_again


def _files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _flip_bit(file, place, bit):
    with open(file, "r+b") as opened:
        opened.seek(place)
        value = opened.read(1)[0] ^ (1 << bit)
        opened.seek(place)
        opened.write(bytes([value]))


def test_flipped_bits_of_line_ends_are_detected(tmp_path):
    """A line feed with its lowest bit flipped is a vertical tab, at which Python's `splitlines` splits, too."""
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    checksums.write(tmp_path)
    manifest = tmp_path / checksums.FILE
    text = manifest.read_bytes()
    assert not checksums.verify(tmp_path) and text.count(b"\n") == 2
    for place in (place for place, byte in enumerate(text) if byte == ord("\n")):
        for bit in range(8):
            _flip_bit(manifest, place, bit)
            assert checksums.verify(tmp_path), (place, bit)
            manifest.write_bytes(text)


def test_200_flipped_bits_are_detected(three_checkpoints):
    """At random places of all files of a checkpoint, with its checksums; the file of each flipped bit is named."""
    folder = three_checkpoints[0] / "3"
    files, rng = _files(folder), np.random.default_rng(0)
    ends = np.cumsum([file.stat().st_size for file in files])
    caught, hit = 0, set()
    for place in rng.integers(ends[-1], size=200):
        which = int(np.searchsorted(ends, place, side="right"))
        offset, bit = int(place - (ends[which - 1] if which else 0)), int(rng.integers(8))
        _flip_bit(files[which], offset, bit)
        damages = checksums.verify(folder)
        name = files[which].relative_to(folder).as_posix()
        assert damages, (name, offset, bit)
        if name != checksums.FILE:  # a flip in the checksums may appear as damage of a file
            assert len(damages) == 1 and damages[0].startswith(name), damages
        caught, hit = caught + 1, hit | {name}
        _flip_bit(files[which], offset, bit)
    assert caught == 200 and len(hit) >= 4 and checksums.FILE in hit
    assert checksums.verify(folder) == []


def test_truncated_deleted_and_added_files_are_detected(three_checkpoints):
    folder = three_checkpoints[0] / "3"
    (folder / "default" / "empty").touch()
    checksums.write(folder)
    for file in _files(folder):
        content, name = file.read_bytes(), file.relative_to(folder).as_posix()
        for damage in (lambda f, c: f.write_bytes(c[: len(c) // 2]), lambda f, c: f.unlink()):
            damage(file, content)
            if file.exists() and file.read_bytes() == content:  # half of an empty file is the same file
                continue
            assert any(name in line for line in checksums.verify(folder)), name
            file.write_bytes(content)
    assert checksums.verify(folder) == []
    (folder / "default" / "stray").write_text("x")
    assert checksums.verify(folder) == ["default/stray is not in manifest.sha256"]


def test_sha256sum_reads_the_checksums(three_checkpoints):
    result = subprocess.run(
        ["sha256sum", "-c", "manifest.sha256"], cwd=three_checkpoints[0] / "2", capture_output=True, text=True
    )
    assert result.returncode == 0 and result.stdout.count(": OK") == len(_files(three_checkpoints[0] / "2")) - 1


def _largest_file(folder):
    return max((file for file in _files(folder) if file.name != checksums.FILE), key=lambda file: file.stat().st_size)


def test_the_newest_intact_checkpoint_is_used(three_checkpoints):
    folder, reported, open_again = three_checkpoints
    damaged = _largest_file(folder / "3")
    _flip_bit(damaged, damaged.stat().st_size // 2, 3)
    saver = open_again()
    restored = saver.restore(_make_state(0))
    jax.tree.map(np.testing.assert_array_equal, restored, _make_state(2))
    assert len(reported) == 1 and "checkpoint 3 is damaged" in reported[0]
    assert damaged.relative_to(folder / "3").as_posix() in reported[0]
    assert (folder.parent / "stage.damaged" / "3").is_dir()  # kept for inspection
    saver.save(3, _make_state(33))  # written again
    saver.close()
    jax.tree.map(np.testing.assert_array_equal, open_again().restore(_make_state(0)), _make_state(33))


def test_a_run_without_an_intact_checkpoint_stops(three_checkpoints):
    folder, reported, open_again = three_checkpoints
    for step in (1, 2, 3):
        _largest_file(folder / str(step)).unlink()
    for _ in range(2):  # also when it is started again
        with pytest.raises(UserError, match="no intact checkpoint .*checkpoint 1 .*missing"):
            open_again().restore(_make_state(0))
    assert [re.search(r"checkpoint (\d) .*damaged", line)[1] for line in reported] == ["3", "2"]


def test_a_checkpoint_without_checksums_is_damaged_or_unfinished(three_checkpoints):
    folder, reported, open_again = three_checkpoints
    (folder / "3" / "manifest.sha256").unlink()
    (folder.parent / "stage.saving").write_text("3")  # killed before the checksums were written
    jax.tree.map(np.testing.assert_array_equal, open_again().restore(_make_state(0)), _make_state(2))
    assert reported == ["checkpoint 3 was being written when the run ended: it is deleted"]
    (folder / "2" / "manifest.sha256").unlink()  # a user deleted it
    jax.tree.map(np.testing.assert_array_equal, open_again().restore(_make_state(0)), _make_state(1))
    assert "checkpoint 2 " in reported[1] and "manifest.sha256 is missing" in reported[1]


def test_checkpoints_of_another_model_are_refused(three_checkpoints):
    _, _, open_again = three_checkpoints
    other = _make_state(0) | {"a": jnp.zeros((40, 31)), "e": jnp.zeros(2)}
    message = r"doesn't fit this config: 2 tensors differ \(a: expected \(40, 31\), found \(40, 30\); e: expected "
    with pytest.raises(UserError, match=message):
        open_again().restore(other)


def test_a_kill_before_the_save_began(three_checkpoints):
    folder, reported, open_again = three_checkpoints
    (folder.parent / "stage.saving").write_text("")
    jax.tree.map(np.testing.assert_array_equal, open_again().restore(_make_state(0)), _make_state(3))
    assert not reported and not (folder.parent / "stage.saving").exists()


@pytest.mark.slow
def test_runs_with_damaged_checkpoints_equal_uninterrupted_ones(uninterrupted, command, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(uninterrupted, workdir)
    (workdir / "gan.safetensors").unlink()
    (workdir / "generator.safetensors").unlink()
    for step in (120, 116):
        damaged = _largest_file(_checkpoints(workdir)[step])
        _flip_bit(damaged, 100, 7)
    result = helpers.run(command(workdir))
    assert result.returncode == 0, result.stderr
    assert "checkpoint 120 " in result.stderr and "gan: resumed after update 112" in result.stderr
    _assert_same(workdir, uninterrupted)
    (workdir / "gan.safetensors").unlink()
    for folder in _checkpoints(workdir).values():
        _flip_bit(_largest_file(folder), 100, 7)
    result = helpers.run(command(workdir))
    assert result.returncode == 2 and "error: no intact checkpoint" in result.stderr


# ---------------------------------------------------------------------------------------------- full disk


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder]
    mounted = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"LC_ALL": "C"})
    if os.geteuid() or "permission denied" in mounted.stderr:  # root of a container may lack the right, too
        pytest.skip(f"mounting a small file system needs more rights: {mounted.stderr.strip()}")
    assert mounted.returncode == 0, mounted.stderr
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def _wait_for_writers():
    """Waits until no checkpoint is being written."""
    for thread in threading.enumerate():
        if thread.name == "checkpoint":
            thread.join()


def _fill_disk(folder):
    """Fills a file system with one file; returns that file."""
    with open(folder / "ballast", "wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            return folder / "ballast"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # tasks that Orbax left behind
def test_a_full_disk_loses_only_the_checkpoints_that_do_not_fit(small_disk):
    reported = []
    saver = checkpoints.Checkpoints(small_disk / "stage", report=reported.append)
    noise = np.random.default_rng(0).random(100_000, np.float32)  # 400 KB that don't compress

    def state(value):
        return _make_state(value) | {"noise": jnp.asarray(noise) + value}

    saver.save(1, state(1))
    saver.save(2, state(2))
    while not checksums.exists(saver.folder / "2"):
        time.sleep(0.01)
    ballast = _fill_disk(small_disk)
    saver.save(3, state(3))  # fails at once
    with open(ballast, "ab") as file:
        file.truncate(file.tell() - 200_000)
    saver.save(4, state(4))  # starts, and fails in the background
    assert len(reported) == 1 and re.match("WARNING: checkpoint 3 .*checkpoint 2 ", reported[0]), reported
    _wait_for_writers()
    ballast.unlink()
    saver.save(5, state(5))
    assert "checkpoint 4 " in reported[1]
    saver.close()
    assert len(reported) == 2 and saver.saved == 5
    assert sorted(path.name for path in saver.folder.iterdir()) == ["1", "2", "5"]
    reopened = checkpoints.Checkpoints(small_disk / "stage", report=reported.append)
    jax.tree.map(np.testing.assert_array_equal, reopened.restore(state(0)), state(5))
    assert len(reported) == 2


@pytest.fixture
def config(tiny, dataset):
    """SRResNet with a checkpoint every other update, on four virtual devices."""
    config = tiny(defaults.get_config())
    config.data.dataset = dataset
    config.stage_names = ("pretrain",)
    config.stages.pretrain.total_steps = 8
    config.save_every_steps = 2
    config.sample_pictures = 0
    return config


class _CallOnText(io.StringIO):
    """A replacement of standard error that calls `function` once, when `text` has been written."""

    def __init__(self, text, function):
        super().__init__()
        self.text, self.function = text, function

    def write(self, text):
        written = super().write(text)
        if self.function and self.text in self.getvalue():
            function, self.function = self.function, None
            function()
        return written


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # tasks that Orbax left behind
def test_training_continues_on_a_full_disk(config, small_disk, monkeypatch, tmp_path):
    helpers.train(config, tmp_path / "uninterrupted")
    written = small_disk / "run" / "checkpoints" / "pretrain" / "2" / checksums.FILE

    def fill():
        while not written.exists():
            time.sleep(0.01)
        _fill_disk(small_disk)

    helpers.call_when_logged(monkeypatch, {("pretrain", 3): fill})
    stderr = _CallOnText("WARNING: checkpoint 6 ", (small_disk / "ballast").unlink)
    with contextlib.redirect_stderr(stderr):
        helpers.train(config, small_disk / "run")
    output = stderr.getvalue()
    assert re.search("WARNING: checkpoint 4 .*checkpoint 2 ", output) and "WARNING: checkpoint 6 " in output
    assert sorted(_checkpoints(small_disk / "run", "pretrain")) == [2, 8]
    assert helpers.read_metrics(small_disk / "run") == helpers.read_metrics(
        tmp_path / "uninterrupted"
    )  # no line is lost


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # of TensorBoard's own thread
def test_metrics_are_written_when_a_full_disk_has_space_again(small_disk, capsys):
    log = logs.StageLog(small_disk, "gan", 0, 10, 1)
    row = {f"number_{index}": 0.5 for index in range(300)}  # more than the rest of a page
    log.write(1, row)
    ballast = _fill_disk(small_disk)
    log.write(2, row)
    log.write(3, row)
    assert len(helpers.read_metrics(small_disk)) == 1  # and no partial line
    ballast.unlink()
    log.write(4, row)
    log.close()
    assert [line["step"] for line in helpers.read_metrics(small_disk)] == [1, 2, 3, 4]
    assert capsys.readouterr().err.count("WARNING: metrics.jsonl can't be written (No space left on device)") == 1


# ---------------------------------------------------------------------------------------------- divergence


def _corrupt_lr_images(monkeypatch, config, updates, value, rollbacks=1):
    """Adds `value` to the LR images of some updates, in the first `rollbacks` orders of samples.

    Uses a degradation that recognises the random keys of these updates' samples.
    """
    seed, indices = jax.random.key_data(jax.random.key(config.seed)), np.arange(config.data.batch_size)
    keys = [
        sampling.sample_keys(sampling.rollback_seed(seed, np.int32(count)), np.int32(update), indices)
        for count in range(rollbacks)
        for update in updates
    ]
    bad = np.concatenate([jax.random.key_data(keys_for(key, PURPOSE_DEGRADATION)) for key in keys])

    def degrade(key, hr, *, scale):
        is_bad = (jax.random.key_data(key) == bad).all(axis=-1).any()
        return bicubic.degrade(key, hr, scale=scale) + jnp.where(is_bad, value, 0.0)

    bicubic = DEGRADATIONS["bicubic"]
    monkeypatch.setitem(DEGRADATIONS, "corrupt", bicubic._replace(degrade=degrade))
    config.degradation.name = "corrupt"


def test_skipped_updates_are_counted_and_reported(config, tmp_path, monkeypatch, capsys):
    _corrupt_lr_images(monkeypatch, config, (3, 4), jnp.nan)
    helpers.train(config, tmp_path)
    rows = helpers.read_metrics(tmp_path)
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [row["skipped"] for row in rows] == [0, 0, 0, 1, 2, 2, 2, 2]
    assert [row["loss"] is None for row in rows] == [step in (4, 5) for step in range(1, 9)]
    warnings = [line for line in capsys.readouterr().err.splitlines() if "not finite" in line]
    assert len(warnings) == 2 and "1 in all" in warnings[0] and "2 in all" in warnings[1]


@pytest.mark.slow
def test_a_stage_without_an_applied_update_is_not_finished(config, tmp_path, monkeypatch):
    """Also where it is too short for the alarm after `max_skips` updates, and where the run is started again."""
    _corrupt_lr_images(monkeypatch, config, range(8), jnp.nan)
    for _ in range(2):
        with pytest.raises(UserError, match="pretrain: .* 8 updates .*finite"):
            helpers.train(config, tmp_path)
    assert not (tmp_path / "pretrain.safetensors").exists()
    config.stages.pretrain.total_steps = 9
    helpers.train(config, tmp_path)  # the ninth update is finite
    assert (tmp_path / "generator.safetensors").exists()


@pytest.mark.slow
def test_divergence_rolls_back_and_reseeds_the_sample_order(config, tmp_path, monkeypatch, capsys):
    """Updates 4, 5, 6 fail until the first rollback, which goes to checkpoint 2, as 4 was written during them."""
    config.guard.max_skips = 3
    helpers.train(config, tmp_path / "good")
    _corrupt_lr_images(monkeypatch, config, (3, 4, 5), jnp.nan)
    helpers.train(config, tmp_path / "bad")
    output = capsys.readouterr().err
    assert re.search(r"3 .* up to 6 .*not finite.* update 2.*\(1 of 3\)", output)
    good, bad = helpers.read_metrics(tmp_path / "good"), helpers.read_metrics(tmp_path / "bad")
    assert [row["step"] for row in bad] == list(range(1, 9))
    for ours, theirs in zip(bad[:2], good[:2], strict=True):  # two programs, which round differently
        assert ours.pop("stage") == theirs.pop("stage") and ours == pytest.approx(theirs, rel=1e-6)
    assert all(a["pixel"] != b["pixel"] for a, b in zip(good[2:], bad[2:], strict=True))  # other samples
    assert sorted(_checkpoints(tmp_path / "bad", "pretrain")) == [4, 6, 8]
    content = helpers.read_checkpoint(_checkpoints(tmp_path / "bad", "pretrain")[8])
    assert content["['health']['rollbacks']"] == 1 and content["['step']"] == 8


@pytest.mark.slow
def test_repeated_divergence_stops_the_run(config, tmp_path, monkeypatch, capsys):
    config.guard.max_skips = 2
    _corrupt_lr_images(monkeypatch, config, range(4, 8), jnp.nan, rollbacks=4)
    with pytest.raises(UserError, match="2 .* up to 6 .*not finite, after 3 rollbacks "):
        helpers.train(config, tmp_path)
    output = capsys.readouterr().err
    assert all(re.search(rf"WARNING: .* update 4.*\({n} of 3\)", output) for n in (1, 2, 3))
    assert helpers.read_metrics(tmp_path)[-1]["step"] == 6 and sorted(_checkpoints(tmp_path, "pretrain")) == [2, 4]


class _RangeDiscriminator(nn.Module):
    """A discriminator that classifies images near [0, 1] as real, whatever it is trained on."""

    TAKES: ClassVar[tuple[str, ...]] = ("image",)

    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, image, *, train=False, keys=None):
        offset = self.param("offset", nn.initializers.zeros, (1,))
        return jnp.where(jnp.abs(image).max(axis=(1, 2, 3)) < 10.0, 1.0, -1.0)[:, None] + 1e-6 * offset


@pytest.mark.slow
def test_training_rolls_back_when_the_discriminator_always_wins(config, tmp_path, monkeypatch, capsys):
    """SR images of updates 3, 4 and 5 are far from [0, 1], until training rolled back to the checkpoint before them."""
    config.stage_names, config.guard.d_wins_steps = ("gan",), 3
    config.stages.gan.total_steps, config.stages.gan.losses.pixel.weight = 6, 1.0
    config.stages.gan.losses.perceptual.weight = 0.0
    monkeypatch.setitem(models.DISCRIMINATORS, "range", _RangeDiscriminator)
    config.discriminator = ConfigDict({"name": "range"})
    _corrupt_lr_images(monkeypatch, config, (2, 3, 4), 1e5)
    helpers.train(config, tmp_path)
    output = capsys.readouterr().err
    assert re.search(r"3 updates up to 5; rolled back to update 2.*\(1 of 3\)", output) and output.count("WARNING") == 1
    assert [row["step"] for row in helpers.read_metrics(tmp_path)] == [1, 2, 3, 4, 5, 6]
    assert not any(row["d_accuracy_real"] == row["d_accuracy_fake"] == 1.0 for row in helpers.read_metrics(tmp_path))


@pytest.mark.slow
def test_a_discriminator_that_wins_is_reported(config, tmp_path, monkeypatch, capsys):
    """At 10 consecutive log steps; training continues."""
    config.stage_names, config.stages.gan.total_steps = ("gan",), 11
    config.stages.gan.losses.pixel.weight, config.stages.gan.losses.perceptual.weight = 1.0, 0.0
    config.save_every_steps = 100
    monkeypatch.setitem(models.DISCRIMINATORS, "range", _RangeDiscriminator)
    config.discriminator = ConfigDict({"name": "range"})
    _corrupt_lr_images(monkeypatch, config, range(11), 1e5)
    helpers.train(config, tmp_path)
    (warning,) = [line for line in capsys.readouterr().err.splitlines() if "discriminator wins" in line]
    assert "gan: update 10:" in warning and "100% of real" in warning
    assert helpers.read_metrics(tmp_path)[-1]["step"] == 11


# ---------------------------------------------------------------------------------------------- the work folder


@pytest.mark.slow
def test_a_second_run_in_the_same_folder_is_refused(config, tmp_path, monkeypatch):
    output = []

    def second():
        with pytest.raises(UserError, match=rf"in use .*{os.getpid()} .* 20\d\d-") as error:
            helpers.train(config, tmp_path)
        output.append(str(error.value))

    helpers.call_when_logged(monkeypatch, {("pretrain", 3): second})
    helpers.train(config, tmp_path)
    assert output and "--workdir" in output[0]
    config.stages.pretrain.total_steps = 10
    helpers.train(config, tmp_path)  # the lock is released afterwards


@pytest.mark.slow
def test_several_updates_per_call_give_the_same_state(config, tmp_path):
    """The log has the means over the updates of each call.

    XLA may round differently in the other program: parameters and averages may differ by a hundredth of one of the 8
    updates, each of which changes a parameter by about the learning rate, 1e-4.
    """
    helpers.train(config, tmp_path / "one")
    config.steps_per_call = config.log_every_steps = 2
    helpers.train(config, tmp_path / "two")
    one, two = (helpers.read_metrics(tmp_path / name) for name in ("one", "two"))
    assert [row["step"] for row in two] == [2, 4, 6, 8]
    losses = np.array([row["loss"] for row in one]).reshape(4, 2)
    np.testing.assert_allclose([row["loss"] for row in two], losses.mean(axis=1), rtol=1e-5)
    one, two = (helpers.read_checkpoint(_checkpoints(tmp_path / name, "pretrain")[8]) for name in ("one", "two"))
    assert one.keys() == two.keys()
    for path, value in one.items():
        if "['params']" in path or value.dtype.kind in "iub":  # parameters, averages and counters
            np.testing.assert_allclose(two[path], value, rtol=0, atol=1e-6, err_msg=path)
    config.data.source = "stream"
    with pytest.raises(UserError, match="steps_per_call=2"):
        helpers.train(config, tmp_path / "three")


@pytest.mark.slow
def test_open_files_and_threads_do_not_grow(config, tmp_path, monkeypatch):
    """A short version of a run of 20,000 updates."""
    counts = {}

    def count(step):
        _wait_for_writers()  # files that are being written don't count
        counts[step] = len(os.listdir("/proc/self/fd")), threading.active_count()

    helpers.call_when_logged(monkeypatch, {("pretrain", step): functools.partial(count, step) for step in (10, 40)})
    config.stages.pretrain.total_steps = 40
    helpers.train(config, tmp_path)
    assert counts[40][0] <= counts[10][0] + 2 and counts[40][1] <= counts[10][1] + 2
