"""Compares the recipes that follow other people's systems with those systems: parameters, images, layers, updates."""

import re

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
import torch.nn.functional as F
from game_helpers import make_game
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
from srgan_jax.ops.resize_uint8 import blur_uint8, resize_uint8
from srgan_jax.runtime.errors import UserError
from srgan_jax.training import gan_variants
from srgan_jax.training.stage import init_state
from srgan_jax.training.state import count_parameters

SYSTEMS = ("celeba_lsgan", "keras_upsampling", "patchgan_lsgan", "pytorch_blur", "restoration")


# ------------------------------------------------------------------------------------------------ recipes


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


# ------------------------------------------------------------------------------------------------ images


MODES = {
    "bicubic": {"mode": "bicubic", "antialias": True},
    "bilinear": {"mode": "bilinear", "antialias": True},
    "bilinear_opencv": {"mode": "bilinear"},
    "nearest": {"mode": "nearest-exact"},
}


def _in_torch(image, size, **mode):
    x = torch.from_numpy(np.asarray(image, np.float32)).permute(2, 0, 1)[None]
    return F.interpolate(x, size, **mode)[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("size", [(64, 48), (171, 200)])
@pytest.mark.parametrize("kernel", MODES)
def test_resizing_equals_torch(kernel, size, photo):
    image = photo[:139, :111]
    inside = slice(8, -8) if kernel in ("bicubic", "bilinear") else slice(None)  # PyTorch renormalises at the borders
    difference = resize_uint8(image, size, kernel) - np.clip(_in_torch(image, size, **MODES[kernel]), 0, 255)
    assert np.abs(difference[inside, inside]).max() < 0.51


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


def test_blur_of_an_original_equals_torch(photo):
    """As OpenCV: a 5-tap Gaussian of sigma 4, mirrored borders; then two samples an axis, from 178 x 218 to 64."""
    image = photo[:218, :178]
    taps = torch.exp(-0.5 * torch.arange(-2.0, 3.0) ** 2 / 16)
    kernel = torch.outer(taps, taps) / taps.sum() ** 2
    x = torch.from_numpy(image.astype(np.float32)).permute(2, 0, 1)[:, None]
    blurred = F.conv2d(F.pad(x, (2, 2, 2, 2), mode="reflect"), kernel[None, None])[:, 0].permute(1, 2, 0).numpy()
    assert np.abs(blur_uint8(image, 5, 4.0) - blurred).max() < 0.51
    lr = DEGRADATIONS["gaussian_blur"].of_original(image, (64, 64))
    assert np.abs(lr - _in_torch(np.round(blurred), (64, 64), mode="bilinear")).max() <= 1.0


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


# ------------------------------------------------------------------------------------------------ layers


@pytest.mark.parametrize(("size", "side"), [(3, 8), (9, 12), (3, 7)])
def test_keras_padding_of_stride_2(size, side):
    """Keras' "same": (ceil(side / 2) - 1) * 2 + size - side zeros, the odd one at the end; odd sides as one larger."""
    even = side + side % 2
    total = (even // 2 - 1) * 2 + size - even
    before = total // 2
    x = np.random.default_rng(0).normal(size=(1, side, side, 2)).astype(np.float32)
    pad = (layers.padding_of("keras", size, 2, side),) * 2
    layer = layers.conv(3, size, "conv", stride=2, pad=pad, use_bias=False)
    params = layer.init(jax.random.key(0), x)
    kernel = torch.from_numpy(np.array(params["params"]["kernel"])).permute(3, 2, 0, 1)
    after = total - before + side % 2
    padded = F.pad(torch.from_numpy(x).permute(0, 3, 1, 2), (before, after, before, after))
    expected = F.conv2d(padded, kernel, stride=2).permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(layer.apply(params, x), expected, atol=1e-5)
    assert expected.shape[1] == even // 2 and layers.padding_of("keras", size, 1, side) == (size // 2,) * 2


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


@pytest.mark.parametrize("name", ["pytorch", "keras"])
def test_initialisation_equals_that_of_the_library(name):
    """PyTorch: kernels and biases uniform within 1 / sqrt(fan in); Keras: within sqrt(6 / (fan in + fan out)), 0."""
    module = models.build(models.GENERATORS, {"name": "srresnet", "blocks": 1, "initialization": name})
    params = module.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]["conv_up_0"]
    fan_in, fan_out = 9 * 64, 9 * 256
    theirs = torch.nn.Conv2d(64, 256, 3)
    if name == "keras":
        torch.nn.init.xavier_uniform_(theirs.weight)
        torch.nn.init.zeros_(theirs.bias)
    bound = fan_in**-0.5 if name == "pytorch" else (6 / (fan_in + fan_out)) ** 0.5
    for ours, other in ((params["kernel"], theirs.weight), (params["bias"], theirs.bias)):
        other = other.detach().numpy()
        assert (
            abs(ours.std() - other.std()) <= 0.1 * other.std() and abs(np.abs(ours).max() - np.abs(other).max()) < 1e-3
        )
    assert 0.99 * bound < jnp.abs(params["kernel"]).max() <= bound


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


# ------------------------------------------------------------------------------------------------ updates


def _discriminator_in_torch(flat, x, statistics):
    """Returns the logits of the discriminator below in training mode; `statistics` gets the moved running ones."""
    x = (2 * x - 1).permute(0, 3, 1, 2)
    for index in range(1, 9):
        x = F.conv2d(
            x, flat[f"conv_{index}/kernel"].permute(3, 2, 0, 1), flat.get(f"conv_{index}/bias"), index % 2 or 2, 1
        )
        if index > 1:
            mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
            for name, value in (("mean", mean), ("var", var)):
                key = f"norm_{index}/{name}"
                statistics[key] = 0.9 * statistics[key] + 0.1 * value.detach()
            x = (x - mean[:, None, None]) / torch.sqrt(var[:, None, None] + 1e-5)
            x = x * flat[f"norm_{index}/scale"][:, None, None] + flat[f"norm_{index}/bias"][:, None, None]
        x = F.leaky_relu(x, 0.2)
    return F.conv2d(x, flat["conv_9/kernel"].permute(3, 2, 0, 1), flat["conv_9/bias"], padding=1)


def _flat(tree):
    paths = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {"/".join(key.key for key in path): torch.tensor(np.asarray(leaf)) for path, leaf in paths}


def test_the_keras_step_equals_a_torch_twin():
    """D: Adam on real images, then on predicted ones, each a batch of its own for BN. G: on another batch, after D."""
    generator = models.build(models.GENERATORS, {"name": "srresnet", "blocks": 1, "width": 4, "scale": 2})
    discriminator = models.build(models.DISCRIMINATORS, {"name": "srgan", "width": 2, "head": "patch"})
    adam = optax.adam(1e-3, b1=0.5)
    losses = {"pixel": ("mse", 1.0), "adversarial": ("probability_lsgan", 0.1)}
    d_losses = {"d_loss": ("probability_lsgan", 1.0)}
    game = make_game(generator, discriminator, g_rate=adam, d_rate=adam, losses=losses, d_losses=d_losses)
    state = init_state(game, 32, 16)
    hr = jax.random.uniform(jax.random.key(3), (2, 2, 32, 32, 3))
    first, second = ({"hr": part, "lr": part[:, ::2, ::2]} for part in hr)
    updated, metrics = jax.jit(lambda state: gan_variants.keras_order(state, [first, second], game))(state)

    g = {"params": state.generator.params, "batch_stats": state.generator.batch_stats}
    predicted = np.asarray(generator.apply(g, first["lr"]))  # with running statistics
    assert np.abs(predicted - generator.apply(g, first["lr"], train=True, mutable=["batch_stats"])[0]).max() > 1e-2
    flat = {name: value.requires_grad_() for name, value in _flat(state.opponent.params).items()}
    statistics = _flat(state.opponent.batch_stats)
    twin = torch.optim.Adam(flat.values(), 1e-3, betas=(0.5, 0.999))
    for image, label in ((np.asarray(first["hr"]), 1.0), (predicted, 0.0)):
        twin.zero_grad()
        probability = torch.sigmoid(_discriminator_in_torch(flat, torch.tensor(image), statistics))
        ((probability - label) ** 2).mean().div(2).backward()
        twin.step()
    for name, value in _flat(updated.opponent.params).items():
        np.testing.assert_allclose(value, flat[name].detach(), atol=2e-4, err_msg=name)
    for name, value in _flat(updated.opponent.batch_stats).items():
        np.testing.assert_allclose(value, statistics[name], rtol=1e-3, atol=1e-4, err_msg=name)
    # The generator's loss is that of its own batch, and its running statistics come from there alone.
    sr, changed = generator.apply(g, second["lr"], train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(metrics["pixel"], 4 * jnp.square(sr - second["hr"]).mean(), rtol=1e-4)
    for ours, expected in zip(
        jax.tree.leaves(updated.generator.batch_stats), jax.tree.leaves(changed["batch_stats"]), strict=True
    ):
        np.testing.assert_allclose(ours, expected, atol=1e-5)
