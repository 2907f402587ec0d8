"""Tests of the discriminator's accuracy on crops of the validation images."""

import flax.linen as nn
import helpers
import jax
import numpy as np
import pytest

from srgan_jax import defaults
from srgan_jax.evaluation.pairs import make_pair
from srgan_jax.models import DISCRIMINATORS
from srgan_jax.training import held_out


class Brightness(nn.Module):
    """A discriminator for which images are real if they are brighter than gray."""

    @nn.compact
    def __call__(self, image, *, train=False, keys=None):
        self.param("unused", nn.initializers.zeros, (1,))
        return image.mean(axis=(1, 2, 3), keepdims=True) - 0.5


@pytest.fixture
def config(tiny, monkeypatch):
    monkeypatch.setitem(DISCRIMINATORS, "brightness", Brightness)
    config = tiny(defaults.get_config())
    config.stage_names, config.discriminator.name = ("gan",), "brightness"
    config.discriminator.width, config.discriminator.dense = 64, 1024  # the defaults, as it has no such fields
    config.generator.name, config.generator.blocks = "compact", 1  # bilinear at first
    config.stages.gan.losses.perceptual.weight, config.stages.gan.losses.pixel.weight = 0.0, 1.0
    return config


@pytest.mark.parametrize("degradation", ["bicubic", "photo"])
def test_accuracies_are_fractions_of_the_crops_of_validation_images(config, degradation):
    """Three of four images are white: real, and their SR as well; a small image is left out."""
    config.degradation.name = degradation
    stage = helpers.build_stage(config, "gan")
    state = jax.jit(stage.init)(None)
    sides = [*[(64, 80)] * 4, (16, 16)]
    levels = [250, 250, 250, 5, 5]
    images = [np.full((*side, 3), level, np.uint8) for side, level in zip(sides, levels, strict=True)]
    pairs = [make_pair(str(index), image, 4) for index, image in enumerate(images)]
    found = held_out.accuracies(stage, state, pairs)
    assert found == {"d_accuracy_real_validation": 0.75, "d_accuracy_fake_validation": 0.25}
    assert held_out.accuracies(stage, state, pairs[-1:]) == {}
    with helpers.record_compilations() as compiled:
        held_out.accuracies(stage, state, pairs)
    assert not compiled


def test_a_gap_above_a_tenth_is_reported():
    def line(training, unseen):
        names = ("d_accuracy_real", "d_accuracy_fake")
        after = {f"{name}_validation": value for name, value in zip(names, unseen, strict=True)}
        return held_out.memorisation_warning(dict(zip(names, training, strict=True)), after)

    assert line((0.9, 0.8), (0.8, 0.8)) is None  # .85 - .8
    assert "85% of training crops correctly, and 70% of crops of validation images" in line((0.9, 0.8), (0.6, 0.8))
    assert held_out.memorisation_warning({"loss": 1.0}, {}) is None


@pytest.mark.slow
def test_a_run_logs_them_at_its_validations(config, dataset, validation_folder, tmp_path):
    config.data.dataset, config.validation.folder = dataset, validation_folder
    config.stages.gan.total_steps, config.validate_every_steps, config.sample_pictures = 3, 2, 0
    helpers.train(config, tmp_path)
    rows = [row for row in helpers.read_metrics(tmp_path) if "d_accuracy_real_validation" in row]
    assert [row["step"] for row in rows] == [1, 2, 3] and all("val_psnr_y" in row for row in rows)
