"""Nothing is lost: runs that are killed, damaged, poisoned or out of disk."""

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
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
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
def command(dataset, held_out):
    """The command line of a small SRResNet and SRGAN, for a work folder and further overrides."""

    def make(workdir, **more):
        values = {
            "data.dataset": dataset, "data.batch_size": 2, "validation.folder": held_out,
            "stages.pretrain.total_steps": 24, "stages.gan.total_steps": 120,
            "save_every_steps": 4, "validate_every_steps": VALIDATE_EVERY, "sample_pictures": 1,
        }  # fmt: skip
        return toys.command(workdir, **(values | more))

    return make


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, command):
    workdir = tmp_path_factory.mktemp("undisturbed")
    result = toys.run(command(workdir))
    assert result.returncode == 0, result.stderr
    return workdir


def _checkpoints(workdir, stage="gan"):
    return {int(path.name): path for path in (workdir / "checkpoints" / stage).iterdir()}


def _assert_same(workdir, expected):
    """Weights, Adam's moments, averages, counters, metrics lines, and which checkpoints are kept, to the bit."""
    for name in ("pretrain.safetensors", "gan.safetensors", "generator.safetensors"):
        both = (srgan_jax.load(folder / name, fold=False) for folder in (workdir, expected))
        jax.tree.map(np.testing.assert_array_equal, *both)
    assert toys.rows(workdir) == toys.rows(expected)
    for stage in ("pretrain", "gan"):
        ours, theirs = (_checkpoints(folder, stage) for folder in (workdir, expected))
        assert sorted(ours) == sorted(theirs)  # the newest three and the best
        content, expected_content = toys.checkpoint(ours[max(ours)]), toys.checkpoint(theirs[max(theirs)])
        assert len(content) == len(expected_content) > 20
        for path, value in expected_content.items():
            np.testing.assert_array_equal(content[path], value, err_msg=path)


# ---------------------------------------------------------------------------------------------- kills


def _since(paths, began):
    found = []
    for path in paths:
        try:
            found += [path] if path.stat().st_mtime > began else []
        except FileNotFoundError:  # renamed or deleted meanwhile
            continue
    return found


def _writing(workdir, began):
    """While a checkpoint is being written."""
    return _since(workdir.glob("checkpoints/*/*.orbax-checkpoint-tmp*"), began)


def _without_manifest(workdir, began):
    """Between Orbax's commit and the manifest."""
    found = _since(workdir.glob("checkpoints/*/[0-9]*"), began)
    return [path for path in found if path.name.isdigit() and not checksums.exists(path)]


def _validating(workdir, began):
    """Between the numbers of an update and its scores."""
    file = workdir / "metrics.jsonl"
    if not _since([file], began):
        return False
    last = file.read_text().rpartition("\n")[0].rpartition("\n")[2]
    return bool(last) and json.loads(last)["step"] % VALIDATE_EVERY == 0 and "val_psnr_y" not in last


def _between_stages(workdir, began):
    return (workdir / "pretrain.safetensors").exists()


def _training(workdir, began):
    return _since([workdir / "metrics.jsonl"], began)


def _kill_when(command, workdir, moment, delay_s):
    """Starts a run and kills it `delay_s` after `moment`; False where it was quicker than the signal."""
    began = time.time()
    process = subprocess.Popen(
        command, cwd=toys.ROOT, env=toys.environment(), stderr=subprocess.DEVNULL, start_new_session=True
    )
    while process.poll() is None and not moment(workdir, began):
        assert time.time() - began < 300
        time.sleep(0.0005)
    time.sleep(delay_s)
    process.kill()
    return process.wait() == -signal.SIGKILL


@pytest.mark.slow
@pytest.mark.timeout(1500)  # twelve starts of a process
def test_ten_kills(undisturbed, command, tmp_path):
    """`kill -9` ten times under a fixed seed, from both data sources: the run ends as if nothing had happened."""
    rng = random.Random(0)
    anywhere = [_training, _training, _writing, _writing, _without_manifest, _validating, _validating]
    rng.shuffle(anywhere)
    moments = [_training, _writing, _between_stages, *anywhere]
    killed = []
    for number, moment in enumerate(moments):
        delay_s = rng.uniform(0, 0.3) if moment is _training else rng.uniform(0, 0.004)
        source = ("memory", "stream")[number % 2]
        assert _kill_when(command(tmp_path, **{"data.source": source}), tmp_path, moment, delay_s), killed
        killed.append(moment.__name__)
    assert len(killed) == 10 and not (tmp_path / "gan.safetensors").exists()
    result = toys.run(command(tmp_path))
    assert result.returncode == 0, result.stderr
    # On a quick machine each kill may come before the second stage has a whole checkpoint.
    assert "resumed after update" in result.stderr or "the stage starts again at update 1" in result.stderr
    _assert_same(tmp_path, undisturbed)


# ---------------------------------------------------------------------------------------------- damage


def _state(value):
    """A state of a few thousand numbers."""
    return {"a": jnp.full((40, 30), float(value)), "b": {"c": jnp.arange(500) + value, "d": jnp.int32(value)}}


@pytest.fixture
def three(tmp_path):
    """Checkpoints 1, 2 and 3, what is said of them, and a function that opens them."""
    said = []

    def open_again():
        return checkpoints.Checkpoints(tmp_path / "stage", report=said.append)

    saver = open_again()
    for step in (1, 2, 3):
        saver.save(step, _state(step))
    saver.close()
    assert not said and saver.saved == 3
    return tmp_path / "stage", said, open_again


def _files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _flip(file, place, bit):
    with open(file, "r+b") as opened:
        opened.seek(place)
        value = opened.read(1)[0] ^ (1 << bit)
        opened.seek(place)
        opened.write(bytes([value]))


def test_flipped_bits_of_line_ends_are_caught(tmp_path):
    """A line feed with its lowest bit flipped is a vertical tab, at which Python's `splitlines` splits, too."""
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    checksums.write(tmp_path)
    manifest = tmp_path / checksums.FILE
    text = manifest.read_bytes()
    assert not checksums.verify(tmp_path) and text.count(b"\n") == 2
    for place in (place for place, byte in enumerate(text) if byte == ord("\n")):
        for bit in range(8):
            _flip(manifest, place, bit)
            assert checksums.verify(tmp_path), (place, bit)
            manifest.write_bytes(text)


def test_200_flipped_bits_are_caught(three):
    """At random places of all files of a checkpoint, manifest included; each is detected and its file is named."""
    folder = three[0] / "3"
    files, rng = _files(folder), np.random.default_rng(0)
    ends = np.cumsum([file.stat().st_size for file in files])
    caught, hit = 0, set()
    for place in rng.integers(ends[-1], size=200):
        which = int(np.searchsorted(ends, place, side="right"))
        offset, bit = int(place - (ends[which - 1] if which else 0)), int(rng.integers(8))
        _flip(files[which], offset, bit)
        damages = checksums.verify(folder)
        name = files[which].relative_to(folder).as_posix()
        assert damages, (name, offset, bit)
        if name != checksums.FILE:  # a flip in the manifest may show as a file that differs from it
            assert len(damages) == 1 and damages[0].startswith(name), damages
        caught, hit = caught + 1, hit | {name}
        _flip(files[which], offset, bit)
    assert caught == 200 and len(hit) >= 4 and checksums.FILE in hit
    assert checksums.verify(folder) == []


def test_truncated_deleted_and_added_files_are_caught(three):
    folder = three[0] / "3"
    for file in _files(folder):
        content, name = file.read_bytes(), file.relative_to(folder).as_posix()
        for damage in (lambda f, c: f.write_bytes(c[: len(c) // 2]), lambda f, c: f.unlink()):
            damage(file, content)
            assert content == b"" or any(name in line for line in checksums.verify(folder)), name
            file.write_bytes(content)
    (folder / "default" / "stray").write_text("x")
    assert checksums.verify(folder) == ["default/stray is not in manifest.sha256"]


def test_manifests_are_read_by_sha256sum(three):
    result = subprocess.run(["sha256sum", "-c", "manifest.sha256"], cwd=three[0] / "2", capture_output=True, text=True)
    assert result.returncode == 0 and result.stdout.count(": OK") == len(_files(three[0] / "2")) - 1


def _largest(folder):
    return max((file for file in _files(folder) if file.name != checksums.FILE), key=lambda file: file.stat().st_size)


def test_the_newest_sound_checkpoint_is_used(three):
    folder, said, open_again = three
    damaged = _largest(folder / "3")
    _flip(damaged, damaged.stat().st_size // 2, 3)
    saver = open_again()
    restored = saver.restore(_state(0))
    jax.tree.map(np.testing.assert_array_equal, restored, _state(2))
    assert len(said) == 1 and "checkpoint 3 is damaged" in said[0]
    assert damaged.relative_to(folder / "3").as_posix() in said[0]
    assert (folder.parent / "stage.damaged" / "3").is_dir()  # for whoever wants to look
    saver.save(3, _state(33))  # written again
    saver.close()
    jax.tree.map(np.testing.assert_array_equal, open_again().restore(_state(0)), _state(33))


def test_without_a_sound_checkpoint_the_run_stops(three):
    folder, said, open_again = three
    for step in (1, 2, 3):
        _largest(folder / str(step)).unlink()
    for _ in range(2):  # and says so again when it is started again
        with pytest.raises(UserError, match="no intact checkpoint .*checkpoint 1 .*missing"):
            open_again().restore(_state(0))
    assert [re.search(r"checkpoint (\d) .*damaged", line)[1] for line in said] == ["3", "2"]


def test_a_checkpoint_without_manifest_is_damaged_or_unfinished(three):
    folder, said, open_again = three
    (folder / "3" / "manifest.sha256").unlink()
    (folder.parent / "stage.saving").write_text("3")  # killed before the manifest
    jax.tree.map(np.testing.assert_array_equal, open_again().restore(_state(0)), _state(2))
    assert said == ["checkpoint 3 was being written when the run ended: it is deleted"]
    (folder / "2" / "manifest.sha256").unlink()  # somebody deleted it
    jax.tree.map(np.testing.assert_array_equal, open_again().restore(_state(0)), _state(1))
    assert "checkpoint 2 " in said[1] and "manifest.sha256 is missing" in said[1]


def test_checkpoints_of_another_model_are_refused(three):
    _, _, open_again = three
    other = _state(0) | {"a": jnp.zeros((40, 31)), "e": jnp.zeros(2)}
    message = r"doesn't fit this config: 2 tensors differ \(a: expected \(40, 31\), found \(40, 30\); e: expected "
    with pytest.raises(UserError, match=message):
        open_again().restore(other)


def test_a_kill_before_the_save_began(three):
    folder, said, open_again = three
    (folder.parent / "stage.saving").write_text("")
    jax.tree.map(np.testing.assert_array_equal, open_again().restore(_state(0)), _state(3))
    assert not said and not (folder.parent / "stage.saving").exists()


@pytest.mark.slow
def test_damaged_runs_end_like_undisturbed_ones(undisturbed, command, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(undisturbed, workdir)
    (workdir / "gan.safetensors").unlink()
    (workdir / "generator.safetensors").unlink()
    for step in (120, 116):
        damaged = _largest(_checkpoints(workdir)[step])
        _flip(damaged, 100, 7)
    result = toys.run(command(workdir))
    assert result.returncode == 0, result.stderr
    assert "checkpoint 120 " in result.stderr and "gan: resumed after update 112" in result.stderr
    _assert_same(workdir, undisturbed)
    (workdir / "gan.safetensors").unlink()
    for folder in _checkpoints(workdir).values():
        _flip(_largest(folder), 100, 7)
    result = toys.run(command(workdir))
    assert result.returncode == 1 and "error: no intact checkpoint" in result.stderr


# ---------------------------------------------------------------------------------------------- full disk


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"mounting a small file system needs more rights: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def _wait_for_writers():
    """Until no checkpoint is being written."""
    for thread in threading.enumerate():
        if thread.name == "checkpoint":
            thread.join()


def _fill(folder):
    """Takes all space of a file system; returns the file that holds it."""
    with open(folder / "ballast", "wb", buffering=0) as file:
        try:
            while file.write(b"x" * 4096):
                pass
        except OSError:
            return folder / "ballast"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # tasks that Orbax left behind
def test_a_full_disk_costs_one_checkpoint(small_disk):
    said = []
    saver = checkpoints.Checkpoints(small_disk / "stage", report=said.append)
    noise = np.random.default_rng(0).random(100_000, np.float32)  # 400 KB that don't compress

    def state(value):
        return _state(value) | {"noise": jnp.asarray(noise) + value}

    saver.save(1, state(1))
    saver.save(2, state(2))
    while not checksums.exists(saver.folder / "2"):
        time.sleep(0.01)
    ballast = _fill(small_disk)
    saver.save(3, state(3))  # fails at once
    with open(ballast, "ab") as file:
        file.truncate(file.tell() - 200_000)
    saver.save(4, state(4))  # begins, and fails in the background
    assert len(said) == 1 and re.match("WARNING: checkpoint 3 .*checkpoint 2 ", said[0]), said
    _wait_for_writers()
    ballast.unlink()
    saver.save(5, state(5))
    assert "checkpoint 4 " in said[1]
    saver.close()
    assert len(said) == 2 and saver.saved == 5
    assert sorted(path.name for path in saver.folder.iterdir()) == ["1", "2", "5"]
    reopened = checkpoints.Checkpoints(small_disk / "stage", report=said.append)
    jax.tree.map(np.testing.assert_array_equal, reopened.restore(state(0)), state(5))
    assert len(said) == 2


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


class _Reports(io.StringIO):
    """Standard error that calls `function` once, when `text` has been written."""

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
def test_training_outlives_a_full_disk(config, small_disk, monkeypatch, tmp_path):
    toys.train(config, tmp_path / "undisturbed")
    written = small_disk / "run" / "checkpoints" / "pretrain" / "2" / checksums.FILE

    def fill():
        while not written.exists():
            time.sleep(0.01)
        _fill(small_disk)

    toys.when_logged(monkeypatch, {("pretrain", 3): fill})
    stderr = _Reports("WARNING: checkpoint 6 ", (small_disk / "ballast").unlink)
    with contextlib.redirect_stderr(stderr):
        toys.train(config, small_disk / "run")
    told = stderr.getvalue()
    assert re.search("WARNING: checkpoint 4 .*checkpoint 2 ", told) and "WARNING: checkpoint 6 " in told
    assert sorted(_checkpoints(small_disk / "run", "pretrain")) == [2, 8]
    assert toys.rows(small_disk / "run") == toys.rows(tmp_path / "undisturbed")  # no line is lost


def test_metrics_wait_for_room_on_a_full_disk(small_disk, capsys):
    log = logs.StageLog(small_disk, "gan", 0, 10, 1)
    row = {f"number_{index}": 0.5 for index in range(300)}  # more than the rest of a page
    log.write(1, row)
    ballast = _fill(small_disk)
    log.write(2, row)
    log.write(3, row)
    assert len(toys.rows(small_disk)) == 1  # and no half line
    ballast.unlink()
    log.write(4, row)
    log.close()
    assert [line["step"] for line in toys.rows(small_disk)] == [1, 2, 3, 4]
    assert capsys.readouterr().err.count("WARNING: metrics.jsonl can't be written (No space left on device)") == 1


# ---------------------------------------------------------------------------------------------- divergence


def _spoil(monkeypatch, config, updates, value, rollbacks=1):
    """Adds `value` to the LR images of some updates, for as many orders of samples as there are rollbacks.

    By a degradation of the test's own, which knows the random keys of these updates' samples.
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
    monkeypatch.setitem(DEGRADATIONS, "spoilt", bicubic._replace(degrade=degrade))
    config.degradation.name = "spoilt"


def test_skipped_updates_are_counted_and_told(config, tmp_path, monkeypatch, capsys):
    _spoil(monkeypatch, config, (3, 4), jnp.nan)
    toys.train(config, tmp_path)
    rows = toys.rows(tmp_path)
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [row["skipped"] for row in rows] == [0, 0, 0, 1, 2, 2, 2, 2]
    assert [row["loss"] is None for row in rows] == [step in (4, 5) for step in range(1, 9)]
    warnings = [line for line in capsys.readouterr().err.splitlines() if "not finite" in line]
    assert len(warnings) == 2 and "1 in all" in warnings[0] and "2 in all" in warnings[1]


@pytest.mark.slow
def test_a_stage_without_an_applied_update_is_not_finished(config, tmp_path, monkeypatch):
    """Also where it is too short for the guard's alarm, and where the run is started again."""
    _spoil(monkeypatch, config, range(8), jnp.nan)
    for _ in range(2):
        with pytest.raises(UserError, match="pretrain: .* 8 updates .*finite"):
            toys.train(config, tmp_path)
    assert not (tmp_path / "pretrain.safetensors").exists()
    config.stages.pretrain.total_steps = 9
    toys.train(config, tmp_path)  # the ninth is
    assert (tmp_path / "generator.safetensors").exists()


@pytest.mark.slow
def test_divergence_goes_back_and_takes_other_samples(config, tmp_path, monkeypatch, capsys):
    """Updates 4, 5, 6 fail until the first return: checkpoint 4 was written among them, so training returns to 2."""
    config.guard.max_skips = 3
    toys.train(config, tmp_path / "good")
    _spoil(monkeypatch, config, (3, 4, 5), jnp.nan)
    toys.train(config, tmp_path / "bad")
    told = capsys.readouterr().err
    assert re.search(r"3 .* up to 6 .*not finite.* update 2.*\(1 of 3\)", told)
    good, bad = toys.rows(tmp_path / "good"), toys.rows(tmp_path / "bad")
    assert [row["step"] for row in bad] == list(range(1, 9)) and good[:2] == bad[:2]
    assert all(a["pixel"] != b["pixel"] for a, b in zip(good[2:], bad[2:], strict=True))  # other samples
    assert sorted(_checkpoints(tmp_path / "bad", "pretrain")) == [4, 6, 8]
    content = toys.checkpoint(_checkpoints(tmp_path / "bad", "pretrain")[8])
    assert content["['health']['rollbacks']"] == 1 and content["['step']"] == 8


@pytest.mark.slow
def test_divergence_stops_the_run_in_the_end(config, tmp_path, monkeypatch, capsys):
    config.guard.max_skips = 2
    _spoil(monkeypatch, config, range(4, 8), jnp.nan, rollbacks=4)
    with pytest.raises(UserError, match="2 .* up to 6 .*not finite, after 3 rollbacks "):
        toys.train(config, tmp_path)
    told = capsys.readouterr().err
    assert all(re.search(rf"WARNING: .* update 4.*\({n} of 3\)", told) for n in (1, 2, 3))
    assert toys.rows(tmp_path)[-1]["step"] == 6 and sorted(_checkpoints(tmp_path, "pretrain")) == [2, 4]


class _Range(nn.Module):
    """A discriminator that takes for real what lies near [0, 1], however it is trained."""

    TAKES: ClassVar[tuple[str, ...]] = ("image",)

    dtype: Any = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, image, *, train=False, keys=None):
        offset = self.param("offset", nn.initializers.zeros, (1,))
        return jnp.where(jnp.abs(image).max(axis=(1, 2, 3)) < 10.0, 1.0, -1.0)[:, None] + 1e-6 * offset


@pytest.mark.slow
def test_a_discriminator_that_always_wins_is_noticed(config, tmp_path, monkeypatch, capsys):
    """SR images of updates 3, 4 and 5 are far from [0, 1], until training returned to the checkpoint before them."""
    config.stage_names, config.guard.d_wins_steps = ("gan",), 3
    config.stages.gan.total_steps, config.stages.gan.losses.pixel.weight = 6, 1.0
    config.stages.gan.losses.perceptual.weight = 0.0
    monkeypatch.setitem(models.DISCRIMINATORS, "range", _Range)
    config.discriminator = ConfigDict({"name": "range"})
    _spoil(monkeypatch, config, (2, 3, 4), 1e5)
    toys.train(config, tmp_path)
    told = capsys.readouterr().err
    assert re.search(r"3 updates up to 5 .* update 2.*\(1 of 3\)", told) and told.count("WARNING") == 1
    assert [row["step"] for row in toys.rows(tmp_path)] == [1, 2, 3, 4, 5, 6]
    assert not any(row["d_accuracy_real"] == row["d_accuracy_fake"] == 1.0 for row in toys.rows(tmp_path))


@pytest.mark.slow
def test_a_discriminator_that_wins_is_reported(config, tmp_path, monkeypatch, capsys):
    """At the tenth update in a row; training continues."""
    config.stage_names, config.stages.gan.total_steps = ("gan",), 11
    config.stages.gan.losses.pixel.weight, config.stages.gan.losses.perceptual.weight = 1.0, 0.0
    config.save_every_steps = 100
    monkeypatch.setitem(models.DISCRIMINATORS, "range", _Range)
    config.discriminator = ConfigDict({"name": "range"})
    _spoil(monkeypatch, config, range(11), 1e5)
    toys.train(config, tmp_path)
    (warning,) = [line for line in capsys.readouterr().err.splitlines() if "discriminator wins" in line]
    assert "gan: update 10:" in warning and "100% of real" in warning
    assert toys.rows(tmp_path)[-1]["step"] == 11


# ---------------------------------------------------------------------------------------------- the folder


@pytest.mark.slow
def test_a_second_run_is_told_who_holds_the_folder(config, tmp_path, monkeypatch):
    told = []

    def second():
        with pytest.raises(UserError, match=rf"in use .*{os.getpid()} .* 20\d\d-") as error:
            toys.train(config, tmp_path)
        told.append(str(error.value))

    toys.when_logged(monkeypatch, {("pretrain", 3): second})
    toys.train(config, tmp_path)
    assert told and "--workdir" in told[0]
    config.stages.pretrain.total_steps = 10
    toys.train(config, tmp_path)  # and let go of afterwards


@pytest.mark.slow
def test_several_updates_in_a_call(config, tmp_path):
    """The same parameters, a line for the last update of each call."""
    toys.train(config, tmp_path / "one")
    config.steps_per_call = config.log_every_steps = 2
    toys.train(config, tmp_path / "two")
    one, two = (toys.rows(tmp_path / name) for name in ("one", "two"))
    assert [row["step"] for row in two] == [2, 4, 6, 8]
    np.testing.assert_allclose([row["loss"] for row in two], [row["loss"] for row in one[1::2]], rtol=1e-5)
    config.data.source = "stream"
    with pytest.raises(UserError, match="steps_per_call=2"):
        toys.train(config, tmp_path / "three")


@pytest.mark.slow
def test_files_and_threads_do_not_grow(config, tmp_path, monkeypatch):
    """A thousandth of a long run; the figures of 20,000 updates are in the notes."""
    counts = {}

    def count(step):
        _wait_for_writers()  # files that are being written don't count
        counts[step] = len(os.listdir("/proc/self/fd")), threading.active_count()

    toys.when_logged(monkeypatch, {("pretrain", step): functools.partial(count, step) for step in (10, 40)})
    config.stages.pretrain.total_steps = 40
    toys.train(config, tmp_path)
    assert counts[40][0] <= counts[10][0] + 2 and counts[40][1] <= counts[10][1] + 2
