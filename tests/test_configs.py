"""Tests of the recipes: an update of each is traced by shape; two are trained, one of them resumes."""

import json
import shutil
from pathlib import Path

import helpers
import jax
import numpy as np
import pytest

import srgan_jax
from srgan_jax import defaults
from srgan_jax.config.recipes import load_config

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "configs").glob("[!_]*.py"))
FAST = ("compact", "photo", "quickstart", "srgan", "srresnet")


@pytest.mark.parametrize(
    "path", [pytest.param(path, id=path.stem, marks=[] if path.stem in FAST else pytest.mark.slow) for path in CONFIGS]
)
def test_an_update_of_the_recipe_can_be_traced(path, extractor_file):
    """For each stage, at full size but with one block: every name resolves, an update returns a state and a loss."""
    config = load_config(str(path))
    config.generator.blocks = 1
    config.extractor.weights = str(extractor_file(config.extractor.name))
    for name in config.stage_names:
        before, after, metrics = helpers.update_shapes(config, name)
        assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), after) == jax.tree.map(
            lambda leaf: (leaf.shape, leaf.dtype), before
        )
        assert before.step.shape == metrics["loss"].shape == () and len(jax.tree.leaves(before.generator.params)) > 6
        assert ("d_loss" in metrics) == (before.discriminator is not None) == (name == "gan")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "resumes"), [("srgan_mse", True), ("real_esrgan", False)])
def test_recipe_trains_and_resumes(name, resumes, tiny, dataset, extractor_file, tmp_path):
    """Trains two updates of each stage at a small size, and a third, which one recipe repeats after it resumed."""
    config = tiny(load_config(name), crop_px=48)  # smaller maps of VGG19's block5 take XLA four times as long
    config.data.dataset, config.sample_pictures = dataset, 0  # test_train.py tests the previews
    config.extractor.weights = str(extractor_file(config.extractor.name))
    last = config.stage_names[-1]
    config.stages[last].total_steps, config.save_every_steps = 3, 2
    saved = tmp_path / "checkpoints" / last
    trained = helpers.train(config, tmp_path)
    rows = helpers.read_metrics(tmp_path)
    losses = [(row["stage"], row["step"]) for row in rows if "loss" in row]
    assert losses == [(s, n) for s in config.stage_names for n in (1, 2, 3) if n < 3 or s == last]
    assert all(np.isfinite([v for v in row.values() if isinstance(v, float)]).all() for row in rows)
    second, third = (helpers.read_checkpoint(saved / step) for step in ("2", "3"))
    for network in ("generator", "discriminator"):
        params = [key for key in third if key.startswith(f"['{network}']['params']")]
        assert max(float(np.abs(third[key] - second[key]).max()) for key in params) > 0, network
    assert srgan_jax.load(tmp_path, fold=False).architecture == trained.architecture
    if not resumes:
        return
    for file in (f"{last}.safetensors", "generator.safetensors"):
        (tmp_path / file).unlink()
    shutil.rmtree(saved / "3")  # as if it had been killed after the second update
    resumed = helpers.train(config, tmp_path)
    assert helpers.read_metrics(tmp_path) == rows
    again = helpers.read_checkpoint(saved / "3")
    assert again.keys() == third.keys() and int(second["['step']"]) == 2
    for key, value in third.items():
        np.testing.assert_array_equal(again[key], value, err_msg=key)
    assert trained.architecture == resumed.architecture


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_file_states_its_command_and_adds_no_keys(path):
    text = path.read_text()
    assert f"--config {path.stem} " in text or f"srgan-jax {path.stem}" in text

    def keys(config):
        return set(json.loads(config.to_json_best_effort()))

    assert keys(load_config(str(path))) == keys(defaults.get_config())


def test_the_srgan_recipe_has_the_papers_values():
    config = load_config("srgan")
    assert (config.generator.blocks, config.generator.width, config.generator.scale) == (16, 64, 4)
    assert (config.data.crop_px, config.data.batch_size) == (96, 16)
    pretrain, gan = config.stages.pretrain, config.stages.gan
    assert (pretrain.total_steps, pretrain.learning_rate, pretrain.losses.pixel.term, pretrain.b1) == (
        1_000_000,
        1e-4,
        "mse",
        0.9,
    )
    assert (gan.total_steps, gan.learning_rate, gan.schedule, gan.drops) == (200_000, 1e-4, "piecewise", (0.5,))
    assert (gan.losses.perceptual.options.taps, gan.losses.adversarial.term, gan.losses.adversarial.weight) == (
        ("relu5_4",),
        "bce",
        1e-3,
    )
