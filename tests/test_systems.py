"""Compares the recipes that follow other people's systems with those systems: parameters, images, layers, updates."""

import re

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from srgan_jax import defaults, models
from srgan_jax.config import command_line
from srgan_jax.config.recipes import load_config, recipe_files
from srgan_jax.config.renamed import translate_keys
from srgan_jax.config.resolve import resolve
from srgan_jax.data import datasets
from srgan_jax.degradations import DEGRADATIONS
from srgan_jax.models import layers
from srgan_jax.models.extractors import vgg19
from srgan_jax.ops.resize_uint8 import resize_uint8
from srgan_jax.runtime.errors import UserError
from srgan_jax.training.state import count_parameters

SYSTEMS = ("celeba_lsgan", "keras_upsampling", "patchgan_lsgan", "pytorch_blur", "restoration")


def _parameters(recipe, **fields):
    module = models.build(models.GENERATORS, dict(load_config(recipe).generator) | fields)
    return count_parameters(jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))["params"])


def test_patchgan_lsgan_has_the_parameters_of_its_source():
    # conv_in 9*9*3*64 + 64; 16 blocks of two 3x3 convolutions 64 to 64, two norms, a slope; trunk with its norm; twice
    # 64 to 256, a norm and a slope; conv_out; and the slope after conv_in. All convolutions have a bias.
    conv = 9 * 64 * 64 + 64
    blocks = 16 * (2 * conv + 2 * 2 * 64 + 1) + conv + 2 * 64
    up = 2 * (9 * 64 * 256 + 256 + 2 * 256 + 1)
    source = 81 * 3 * 64 + 64 + 1 + blocks + up + 81 * 64 * 3 + 3
    assert _parameters("patchgan_lsgan", bias_before_norm=True) == source == 1_550_486
    assert _parameters("patchgan_lsgan") == source - 33 * 64 - 2 * 256  # the biases before a norm


def test_pytorch_blur_has_the_parameters_of_its_source():
    # conv_in, the one convolution and norm of all blocks, two convolutions 64 to 256, conv_out; one slope; no bias.
    source = 81 * 3 * 64 + 9 * 64 * 64 + 2 * 64 + 2 * 9 * 64 * 256 + 81 * 64 * 3 + 1
    assert _parameters("pytorch_blur", shared_blocks=True) == source == 363_009
    # Ten more convolutions and norms: five blocks of two, and the trunk. Slopes: conv_in, 5 blocks, 2 upsamplings.
    assert _parameters("pytorch_blur") == source + 10 * (9 * 64 * 64 + 2 * 64) + 7


def test_keras_upsampling_has_the_parameters_of_its_source():
    # As SRGAN without slopes; the upsampling has convolutions 64 to 256 and 256 to 256, and conv_out reads 256.
    conv = 9 * 64 * 64 + 64
    up = 9 * 64 * 256 + 256 + 9 * 256 * 256 + 256
    source = 81 * 3 * 64 + 64 + 16 * (2 * conv + 2 * 2 * 64) + conv + 2 * 64 + up + 81 * 256 * 3 + 3
    assert _parameters("keras_upsampling", bias_before_norm=True) == source == 2_038_467
    # The first convolution of a block is before ReLU and has its bias; the second and the trunk's are before a norm.
    assert _parameters("keras_upsampling") == source - 17 * 64


def test_restoration_lacks_only_biases_before_norms():
    # conv_in; 16 blocks and the trunk; upsampling: 64 to 256, four times 256 to 256; conv_out.
    conv = 9 * 64 * 64 + 64
    up = 9 * 64 * 256 + 256 + 4 * (9 * 256 * 256 + 256)
    source = 81 * 3 * 64 + 64 + 16 * (2 * conv + 2 * 2 * 64) + conv + 2 * 64 + up + 81 * 256 * 3 + 3
    assert _parameters("restoration") == source - 17 * 64


@pytest.mark.parametrize("name", SYSTEMS)
def test_options_that_a_header_names_exist(name):
    text = " ".join(recipe_files()[name].read_text().split('"""')[1].split())
    found = re.findall(r"--config\.\S+=\S+", text)
    for option in found:
        config = load_config(name)
        command_line.apply_overrides(config, [option.rstrip(".:")])
        resolve(config)
    assert found or name == "restoration"


@pytest.mark.parametrize(
    ("name", "updates", "augment", "kernel"),
    [
        ("patchgan_lsgan", 200 * 50_650, "none", "bicubic"),
        ("pytorch_blur", 23_000, "none", "bilinear_opencv"),
        ("keras_upsampling", 30_000, "horizontal", "bilinear"),
        ("restoration", 30_000, "none", "nearest"),
        ("celeba_lsgan", 203_462, "none", "bicubic"),
    ],
)
def test_updates_and_images_of_a_recipe_are_those_of_its_source(name, updates, augment, kernel):
    config = load_config(name)
    assert (config.stages.gan.total_steps, config.data.augment, config.data.resize_kernel) == (updates, augment, kernel)


def test_the_pixel_term_of_pytorch_blur_is_that_on_0_to_1():
    from srgan_jax.losses import TERMS
    from srgan_jax.losses.views import Views

    pixel = load_config("pytorch_blur").stages.gan.losses.pixel
    sr, hr = jax.random.uniform(jax.random.key(0), (2, 1, 8, 8, 3))
    found = pixel.weight * TERMS[pixel.term].function(Views(sr, hr)).mean()
    np.testing.assert_allclose(found, np.square(np.asarray(sr) - np.asarray(hr)).mean(), rtol=1e-6)


def test_nearest_equals_pillow(photo):
    image = photo[:139, :111]
    for height, width in ((64, 48), (200, 256)):
        expected = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.NEAREST))
        np.testing.assert_array_equal(resize_uint8(image, (height, width), "nearest"), expected)


def test_bilinear_degradation_equals_pillow(photo):
    image = photo[:128, :96]
    lr = np.asarray(DEGRADATIONS["bilinear"].degrade(None, jnp.asarray(image) / 255, scale=4)) * 255
    expected = np.asarray(Image.fromarray(image).resize((24, 32), Image.Resampling.BILINEAR), np.float32)
    assert np.abs(lr - expected)[1:-1, 1:-1].max() <= 1.01  # Pillow rounds between the passes


def test_lr_from_original_is_made_before_hr_is_resized(dataset):
    """LR of the original image, and not of the square: they differ; both are packed at the same places."""
    config = load_config("pytorch_blur")
    config.data.dataset, config.data.resize_px, config.data.crop_px, config.data.batch_size = dataset, 64, 64, 2
    config.data.first_images = 2
    images, held_out = helpers.open_images(config, None)
    plain = datasets.open_images(dataset, scale=4)
    assert len(images) == 2 and len(plain) > 2 and not len(held_out) and images.size(1) == (16, 16)
    packed, original = images[1], plain[1]
    lr = DEGRADATIONS["gaussian_blur"].of_original(original, (16, 16))
    np.testing.assert_array_equal(packed[..., -3:], lr)
    hr = resize_uint8(original, (64, 64), "bilinear_opencv")
    np.testing.assert_array_equal(packed[..., :-3], datasets.pack(hr, lr)[..., :-3])
    of_square = DEGRADATIONS["gaussian_blur"].degrade(None, jnp.asarray(hr) / 255, scale=4) * 255
    assert np.abs(lr - of_square).mean() > 1
    plan = helpers.build_plan(config)
    assert plan.is_paired and plan.margin_px == 0 and plan.channels == 51


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"data.lr_from_original": True}, ("lr_from_original=True", "resize_px above 0")),
        ({"data.augment": "rotate"}, ("'rotate'", "horizontal")),
        ({"data.resize_kernel": "lanczos"}, ("'lanczos'", "bilinear_opencv")),
        ({"data.lr_from_original": True, "data.resize_px": 96, "degradation.name": "photo"}, ("'photo'", "bicubic")),
    ],
)
def test_wrong_options_of_images_are_reported(values, parts):
    config = defaults.get_config()
    config.update_from_flattened_dict(values)
    with pytest.raises(UserError) as raised:
        helpers.build_plan(config)
    assert all(part in str(raised.value) for part in parts), raised.value


def test_augment_of_earlier_versions_is_renamed():
    config = defaults.get_config()
    with config.ignore_type():
        config.data.augment = False
    with pytest.raises(UserError, match="augment=False: expected a name: .*none in place of False"):
        resolve(config)
    for before, now in ((True, "flips_rotations"), (False, "none")):
        assert translate_keys({"data": {"augment": before, "crop_px": 8}}) == {"data": {"augment": now, "crop_px": 8}}


def test_networks_with_keras_padding_read_other_pixels():
    image = jax.random.uniform(jax.random.key(0), (1, 32, 32, 3))
    for table, fields in (
        (models.DISCRIMINATORS, {"name": "srgan", "width": 2, "head": "patch"}),
        (models.GENERATORS, {"name": "restoration", "blocks": 1, "width": 2, "upsampling_width": 2}),
    ):
        symmetric, keras = (models.build(table, fields | {"padding": kind}) for kind in layers.PADDINGS)
        variables = symmetric.init(jax.random.key(1), image)
        first, second = symmetric.apply(variables, image), keras.apply(variables, image)
        assert first.shape == second.shape and jnp.abs(first - second).max() > 1e-4


def test_discriminators_have_an_input_range():
    image = jax.random.uniform(jax.random.key(0), (1, 16, 16, 3))
    module = lambda **fields: models.build(  # noqa: E731
        models.DISCRIMINATORS, {"name": "srgan", "width": 2, "head": "patch"} | fields
    )
    variables = module().init(jax.random.key(1), image)
    expected = module().apply(variables, image)
    np.testing.assert_allclose(module(input_range="unit").apply(variables, 2 * image - 1), expected, atol=1e-6)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    shown = (2 * image - 1) * std + mean  # its normalised values are 2 x - 1
    np.testing.assert_allclose(module(input_range="imagenet").apply(variables, shown), expected, atol=1e-5)


def test_inputs_of_vgg19_without_preprocessing():
    image = jnp.asarray([[[[0.1, 0.5, 0.9]]]])
    np.testing.assert_allclose(vgg19.PREPROCESSING["bgr_unit"](image)[0, 0, 0], [0.9, 0.5, 0.1])
    np.testing.assert_allclose(vgg19.PREPROCESSING["signed"](image)[0, 0, 0], [-0.8, 0.0, 0.8], atol=1e-6)


def test_preprocessing_of_the_extractor_is_an_option(vgg_file, capfd):
    config = load_config("keras_upsampling")
    config.extractor.weights, config.generator.blocks = str(vgg_file), 1
    config.data.crop_px = config.data.resize_px = 32
    extractor = helpers.build_stage(config, "gan").extractor
    assert "signed input, features x 1" in capfd.readouterr().err
    image = jax.random.uniform(jax.random.key(0), (1, 16, 16, 3))
    plain = vgg19.VGG19(taps=("relu3_3",), convention="signed").apply(extractor.variables, image)
    np.testing.assert_allclose(extractor.apply(extractor.variables, image)["relu3_3"], plain["relu3_3"], rtol=1e-5)
