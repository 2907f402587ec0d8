"""Every config trains: two updates of each stage at toy size, and one more that is repeated after a resume."""

import importlib.util
import json
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
import toys

import srgan_jax
from srgan_jax import defaults
from srgan_jax.runtime import devices
from srgan_jax.training import checkpoints
from srgan_jax.training.loop import train_and_evaluate

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "configs").glob("[!_]*.py"))


@pytest.fixture
def one_device(monkeypatch):
    """Quicker to compile for than four; tests/test_devices.py compares the two."""
    make_mesh = devices.make_mesh
    monkeypatch.setattr(devices, "make_mesh", lambda: make_mesh(jax.devices()[:1]))


def load_config(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_trains_and_resumes(
    path, tiny, dataset, paired_dataset, extractor_file, tmp_path, one_device, monkeypatch
):
    config = tiny(
        load_config(path).get_config(), crop_px=48
    )  # smaller maps of VGG19's block5 take XLA four times as long
    config.data.dataset = paired_dataset if config.data.lr_feature else dataset
    config.extractor.weights = str(extractor_file(config.extractor.name))
    if path.stem != "restoration":
        config.sample_pictures = 0  # the loop's own tests look at them
    last = config.stage_names[-1]
    config.stages[last].total_steps, config.save_every_steps = 3, 2
    saved = {}
    save = checkpoints.Checkpoints.save

    def save_and_keep(self, step, state, *args, **kwargs):
        saved[self.folder.name, step] = jax.device_get(state)
        return save(self, step, state, *args, **kwargs)

    monkeypatch.setattr(checkpoints.Checkpoints, "save", save_and_keep)
    trained = train_and_evaluate(config, tmp_path)
    rows = toys.rows(tmp_path)
    losses = [(row["stage"], row["step"]) for row in rows if "loss" in row]
    assert losses == [(s, n) for s in config.stage_names for n in (1, 2, 3) if n < 3 or s == last]
    assert all(np.isfinite([v for v in row.values() if isinstance(v, float)]).all() for row in rows)
    states = {step: saved.pop((last, step)) for step in (2, 3)}
    for file in (f"{last}.safetensors", "generator.safetensors"):
        (tmp_path / file).unlink()
    shutil.rmtree(tmp_path / "checkpoints" / last / "3")  # as if it had been killed after the second update
    saved.clear()
    resumed = train_and_evaluate(config, tmp_path)
    assert toys.rows(tmp_path) == rows
    assert list(saved) == [(last, 3)] and int(states[2].step) == 2
    jax.tree.map(np.testing.assert_array_equal, saved[last, 3], states[3])
    for network in ("generator", "discriminator") if last == "gan" else ("generator",):
        before, after = (getattr(states[step], network).params for step in (2, 3))
        moved = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), before, after)
        assert max(jax.tree.leaves(moved)) > 0, network
    assert trained.architecture == resumed.architecture
    assert srgan_jax.load(tmp_path, fold=False).architecture == resumed.architecture


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_says_its_command_and_adds_no_keys(path):
    module = load_config(path)
    assert f"--config {path.stem} " in module.__doc__ or f"srgan-jax {path.stem}" in module.__doc__

    def keys(config):
        return set(json.loads(config.to_json_best_effort()))

    assert keys(module.get_config()) == keys(defaults.get_config())


def test_the_papers_recipe():
    config = load_config(ROOT / "configs" / "srgan.py").get_config()
    assert (config.generator.blocks, config.generator.width, config.generator.scale) == (16, 64, 4)
    assert (config.data.crop_px, config.data.batch_size) == (96, 16)
    pretrain, gan = config.stages.pretrain, config.stages.gan
    assert (pretrain.total_steps, pretrain.learning_rate, pretrain.pixel, pretrain.b1) == (1_000_000, 1e-4, "mse", 0.9)
    assert (gan.total_steps, gan.learning_rate, gan.schedule, gan.drops) == (200_000, 1e-4, "piecewise", (0.5,))
    assert (gan.perceptual_taps, gan.adversarial, gan.adversarial_weight) == (("relu5_4",), "bce", 1e-3)
