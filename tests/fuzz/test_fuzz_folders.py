"""Fuzzing of run folders and data sets: their JSON files, and records of images."""

import contextlib
import shutil
from pathlib import Path

import helpers
import numpy as np
from harness import Counts, fuzz_file, tries

from srgan_jax import weights
from srgan_jax.config.recipes import load_config
from srgan_jax.config.recorded import load_recorded
from srgan_jax.config.resolve import resolve
from srgan_jax.data import builder
from srgan_jax.data.skip_corrupt import ReadableImages
from srgan_jax.training import checkpoints, logs, provenance, run_weights
from srgan_jax.training.image_folder import prepare_folder


def test_run_folders(tmp_path):
    run = resolve(load_config("srgan"))
    provenance.describe_run(tmp_path, run).write()
    (tmp_path / "metrics.jsonl").write_text('{"stage": "pretrain", "step": 1}\n' * 5)
    weights.save(
        tmp_path / "generator.safetensors", helpers.random_weights(name="srresnet", blocks=1, width=4), {"steps": "3"}
    )
    (tmp_path / "checkpoints" / "pretrain" / "3").mkdir(parents=True)
    readers = {
        "config.json": (lambda: load_recorded(tmp_path), lambda: run_weights.find_weights(str(tmp_path), 3)),
        "versions.json": (lambda: provenance.describe_run(tmp_path, run),),
        "metrics.jsonl": (
            lambda: logs.truncate_metrics(tmp_path / "metrics.jsonl", ("pretrain",), "pretrain", 3),
            lambda: run_weights.find_weights(str(tmp_path), best=True),
        ),
        "generator.safetensors": (lambda: weights.read_header(tmp_path),),
    }
    for name, calls in readers.items():
        for seed, call in enumerate(calls):
            assert not fuzz_file(tmp_path / name, call, tries(50), seed=seed).faults()


def test_checkpoints(tmp_path):
    state = {"x": np.arange(6.0)}
    saver = checkpoints.Checkpoints(tmp_path / "sound" / "stage")
    for step in (1, 2):
        saver.save(step, state)
    saver.close()
    counts = Counts()
    files = [file for file in (tmp_path / "sound").rglob("*") if file.is_file() and "2" in file.parts]
    for index, file in enumerate(files):

        def restore(file=file):
            shutil.rmtree(tmp_path / "copy", ignore_errors=True)
            shutil.copytree(tmp_path / "sound", tmp_path / "copy")
            opened = checkpoints.Checkpoints(tmp_path / "copy" / "stage", report=lambda line: None)
            with contextlib.closing(opened):
                restored = opened.restore(state)
                assert restored is None or np.array_equal(restored["x"], state["x"])  # never other values

        counts += fuzz_file(file, restore, tries(2), seed=index)
    assert not Counts(counts).faults()


def test_data_sets(tmp_path, dataset, photo_folder):
    """The JSON files, the images in their records, and the record of what a run prepared."""
    shutil.copytree(dataset, tmp_path / "set")

    def read():
        images = ReadableImages(builder.open_source(str(tmp_path / "set")), lambda line: None)
        return [images[index] for index in range(2)]

    for file in sorted((tmp_path / "set").rglob("*")):
        if file.is_file() and file.name not in ("skipped.json", "converted.json"):
            assert not fuzz_file(file, read, tries(20)).faults()
    prepare_folder(str(photo_folder), tmp_path / "run", 32)
    for name in ("folder.json", "folder.txt"):
        file = Path(tmp_path / "run" / "dataset" / name)
        assert not fuzz_file(file, lambda: prepare_folder(str(photo_folder), tmp_path / "run", 32), tries(20)).faults()
