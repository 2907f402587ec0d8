"""Tests that runs and weights of earlier versions resume and load, with the results of those versions.

`tests/fixtures/make.py` wrote the files.
"""

import json
import tarfile
from pathlib import Path

import helpers
import jax
import numpy as np
import pytest
from safetensors.numpy import load_file

import srgan_jax
from srgan_jax import defaults

FIXTURES = Path(__file__).parent / "fixtures"
OPTIMIZERS = {"adam": (0.0, 0.0), "clip_adam": (0.05, 0.0), "adamw": (0.0, 0.1), "clip_adamw": (0.05, 0.1)}
FAST = {("pretrain", "clip_adamw"), ("gan", "adam")}
RUNS = [
    pytest.param(stage, optimizer, marks=[] if (stage, optimizer) in FAST else pytest.mark.slow)
    for stage in ("pretrain", "gan")
    for optimizer in OPTIMIZERS
]


def _config(dataset, clip_norm, weight_decay):
    config = defaults.get_config()
    config.data.dataset = dataset
    config.data.batch_size, config.data.crop_px = 4, 32
    config.generator.blocks, config.generator.width = 1, 4
    config.discriminator.width, config.discriminator.dense = 2, 4
    for stage in (config.stages.pretrain, config.stages.gan):
        stage.total_steps, stage.clip_norm, stage.weight_decay = 4, clip_norm, weight_decay
    config.stages.gan.losses.pixel.weight, config.stages.gan.losses.perceptual.weight = 1.0, 0.0
    config.log_every_steps, config.save_every_steps, config.validate_every_steps = 1, 2, 4
    config.sample_pictures = 0
    return config


@pytest.mark.parametrize(("stage", "optimizer"), RUNS)
def test_a_run_of_an_earlier_version_resumes(stage, optimizer, dataset, tmp_path, capfd):
    with tarfile.open(FIXTURES / "runs.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    run = tmp_path / "runs" / f"{stage}_{optimizer}"
    expected = load_file(run / "expected.safetensors")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    config = _config(dataset, *OPTIMIZERS[optimizer])
    if stage == "pretrain":
        config.stage_names = ("pretrain",)
        saved = json.loads((run / "config.json").read_text())
        saved["stage_names"] = ["pretrain"]
        (run / "config.json").write_text(json.dumps(saved))
    helpers.train(config, run)
    assert f"{stage}: resumed after update 2" in capfd.readouterr().err
    found = load_file(run / f"{stage}.safetensors")
    assert found.keys() == expected.keys()
    for name, value in expected.items():  # Adam resumes: a new Adam would differ by a learning rate
        np.testing.assert_allclose(found[name], value, rtol=0, atol=5e-6, err_msg=name)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    of_stage = [[row for row in side if row["stage"] == stage] for side in (lines, rows)]
    assert [row["step"] for row in of_stage[1]] == [1, 2, 3, 4]
    for before, now in zip(*of_stage, strict=True):
        for key in before.keys() - {"seconds", "stage"}:
            assert now[key] == pytest.approx(before[key], rel=1e-3), key


@pytest.mark.parametrize("name", ["srresnet", "msrresnet", "compact", "rrdb", "restoration"])
def test_weights_of_an_earlier_version_load(name):
    params = srgan_jax.load(FIXTURES / "weights" / f"{name}.safetensors")
    recorded = load_file(FIXTURES / "weights" / f"{name}_output.safetensors")
    with jax.default_matmul_precision("highest"):
        sr = np.asarray(srgan_jax.upscale(params, recorded["lr"]))
    np.testing.assert_allclose(sr, recorded["sr"], atol=1e-5)
    assert srgan_jax.read_header(FIXTURES / "weights" / f"{name}.safetensors")["source"] == "random"
