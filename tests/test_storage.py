"""Tests of paths: runs, weights and data sets in a bucket, which a server on the loopback stands for; other schemes."""

import json
import os

import fake_bucket
import helpers
import jax
import numpy as np
import pytest

import srgan_jax
from srgan_jax import cli, defaults, main
from srgan_jax.config.resolve import resolve
from srgan_jax.data import builder
from srgan_jax.runtime import atomic, storage
from srgan_jax.runtime.errors import MissingFileError, UserError


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """The objects of a server, by "bucket/name"; `gs://bucket` leads there."""
    pytest.importorskip("gcsfs", reason="the extra gcs is not installed")
    with fake_bucket.serve() as (store, environment), pytest.MonkeyPatch.context() as patch:
        for name, value in (environment | {"XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}).items():
            patch.setenv(name, value)
        yield store.objects


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("upscale a.png --weights s3://b/w", "--weights=s3://b/w: expected a local path or gs://BUCKET/PATH or hf://"),
        ("upscale s3://b/a.png", "s3://b/a.png: expected a local path, got s3://; give a local path: copy the files"),
        ("upscale a.png -o gs://b/out", "--out=gs://b/out: expected a local path, got gs://"),
        ("upscale a.png --blend a s3://b 0.5", "--blend=s3://b: expected"),
        ("prepare file:///tmp/x -o y", "got file://; write /tmp/x"),
        ("prepare photos -o az://b/set", "--out=az://b/set: expected a local path or gs://BUCKET/PATH, got az://"),
        ("evaluate --data s3://b", "--data=s3://b: expected a local path or gs://BUCKET/PATH, got s3://"),
        ("export https://host/w.pth --to onnx", "https://host/w.pth: expected a local path or gs://BUCKET/PATH or hf"),
        ("info gs:/w", "gs:/w: expected gs://BUCKET/PATH, such as gs://my-bucket/"),
    ],
)
def test_a_scheme_that_a_command_does_not_take_is_refused_in_a_line(command, message, capsys):
    assert cli.main(command.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and message in line


@pytest.mark.parametrize(
    "arguments",
    [
        ["--workdir=s3://b/run"],
        ["--workdir=hf://owner/name"],
        ["--workdir=gs://"],
        ["--config.data.dataset=s3://b/set"],
        ["--config.data.folder=https://host/photos"],
        ["--config.validation.folder=memory://photos"],
        ["--config.init_from=s3://b/w.safetensors"],
        ["--config.extractor.weights=s3://b/vgg19.safetensors"],
        ["--config.data.data_dir=gs://b/tfds"],
        ["--config.compilation_cache=s3://b/cache"],
    ],
)
def test_a_scheme_that_training_does_not_take_is_refused_before_anything_is_made(
    arguments, capsys, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="^2$"):
        main.main(["--config", "srgan", *arguments])
    (line,) = capsys.readouterr().err.splitlines()
    assert arguments[0].lstrip("-") in line and "expected" in line and not os.listdir(tmp_path)


@pytest.mark.parametrize("path", ["C:/photos", "div2k/bicubic_x4:2.0.0", "a/b:/c", "./gs:/x", "-", ""])
def test_local_paths_have_no_scheme(path):
    assert storage.scheme(path) == "" and storage.local(path) == path


def test_without_the_extra_a_bucket_is_refused_with_the_install_command(monkeypatch):
    monkeypatch.setitem(storage.extras.MODULES, "gcs", ("no_such_module",))
    with pytest.raises(UserError, match=r'pip install "srgan-jax\[gcs\]"'):
        storage.open_folder("gs://bucket/run")


def test_weights_are_written_to_and_read_from_a_bucket(bucket, bilinear, weights):
    srgan_jax.save("gs://bucket/w.safetensors", bilinear)
    with open(weights, "rb") as file:
        assert bucket["bucket/w.safetensors"] == file.read()
    loaded = srgan_jax.load("gs://bucket/w.safetensors", fold=False)
    assert dict(loaded.architecture) == dict(bilinear.architecture)
    other = helpers.random_weights(**dict(bilinear.architecture))
    srgan_jax.save("gs://bucket/w.safetensors", other)  # the copy of the cache is not used
    loaded = srgan_jax.load("gs://bucket/w.safetensors", fold=False)
    for name, leaf in other.variables["params"].items():
        np.testing.assert_array_equal(loaded.variables["params"][name]["kernel"], leaf["kernel"])
    with pytest.raises(MissingFileError, match=r"gs://bucket/other.safetensors: no such file"):
        srgan_jax.load("gs://bucket/other.safetensors")


def test_an_error_leaves_no_object(bucket):
    with pytest.raises(ZeroDivisionError), atomic.atomic_file("gs://bucket/broken.txt") as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert "bucket/broken.txt" not in bucket


def test_a_data_set_is_prepared_into_a_bucket_and_read_from_it(bucket, photo_folder, dataset, capsys):
    assert cli.main(["prepare", str(photo_folder), "-o", "gs://bucket/set", "--min-side", "32"]) == 0
    assert "6 images prepared, 0 skipped; train with --config.data.dataset=gs://bucket/set" in capsys.readouterr().out
    ours, expected = builder.open_source("gs://bucket/set"), builder.open_source(dataset)
    assert len(ours) == len(expected) == 6
    np.testing.assert_array_equal(ours[3], expected[3])


@pytest.mark.slow
def test_a_run_in_a_bucket_ends_as_a_local_one(bucket, tiny, dataset, validation_folder, tmp_path, capsys):
    """It stops after the first stage, and continues from what is in the bucket alone."""
    config = tiny(defaults.get_config())
    config.data.dataset, config.validation.folder = dataset, validation_folder
    config.stage_names, config.save_every_steps, config.validate_every_steps = ("pretrain",), 2, 2
    config.stages.pretrain.total_steps = 4
    expected = helpers.train(config, tmp_path / "local")
    config.stages.pretrain.total_steps = 2
    helpers.train(config, "gs://bucket/runs/first")
    assert "bucket/runs/first/checkpoints/pretrain/2/manifest.sha256" in bucket
    for name in ("pretrain.safetensors", "generator.safetensors", "report.html", "samples/pretrain_0000002.png"):
        assert bucket[f"bucket/runs/first/{name}"]
    assert any(name.startswith("bucket/runs/first/tensorboard/pretrain/") for name in bucket)

    del bucket["bucket/runs/first/pretrain.safetensors"]
    config.stages.pretrain.total_steps = 4
    result = helpers.train(config, "gs://bucket/runs/first")
    assert "pretrain: resumed after update 2" in capsys.readouterr().err
    assert "bucket/runs/first/lock" not in bucket
    for ours, theirs in zip(*(map(np.asarray, jax.tree.leaves(tree)) for tree in (result, expected)), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    rows = [json.loads(line) for line in bucket["bucket/runs/first/metrics.jsonl"].splitlines()]
    steps = [(row["step"], "val_psnr_y" in row) for row in rows]
    local = [(row["step"], "val_psnr_y" in row) for row in helpers.read_metrics(tmp_path / "local")]
    assert steps == local

    assert cli.main(["info", "gs://bucket/runs/first"]) == 0
    assert "steps: 4" in capsys.readouterr().out
    assert cli.main(["info", "gs://bucket/runs/first/checkpoints/pretrain/2"]) == 0
    assert "steps: 2" in capsys.readouterr().out


def test_an_earlier_use_without_an_end_is_reported(bucket, capsys):
    from srgan_jax.training import workdir

    bucket["bucket/runs/killed/lock"] = b"process 1 on host since 2026-01-01\n"
    folder = storage.open_folder("gs://bucket/runs/killed")
    with workdir.locked(folder):
        pass
    printed = capsys.readouterr().err
    assert "by process 1 on host since 2026-01-01, or that run was killed; a bucket has no locks" in printed
    assert resolve(defaults.get_config()).data.dataset  # the defaults are local paths
