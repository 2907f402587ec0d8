"""What the recipe srgan_fast is made of: the discriminator on features, the halo, crops with contrast, consistency."""

import re

import flax.linen as nn
import helpers
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from srgan_jax import models
from srgan_jax.config.recipes import load_config
from srgan_jax.data import datasets, memory, sampling, stream
from srgan_jax.data.batch_plan import draw_batch
from srgan_jax.losses.terms import TERMS
from srgan_jax.losses.views import Views
from srgan_jax.models import layers
from srgan_jax.runtime.errors import UserError


@pytest.fixture
def config(tiny, vgg_file):
    config = tiny(load_config("srgan_fast"))
    config.extractor.weights = str(vgg_file)
    return config


def test_the_compiled_update_passes_through_vgg_once_per_image_batch(config):
    """There are two forward passes through relu3_1's convolution (256 channels), of real and of generated images.

    One backward pass serves the perceptual and the adversarial term; real images need none.
    """
    stage = helpers.build_stage(config, "gan")
    state = jax.eval_shape(stage.init, None)
    side = stage.plan.window["crop_px"] + 2 * stage.plan.window["margin_px"]
    sharded = {"indices": np.arange(4, dtype=np.int32), "windows": np.zeros((4, 1, side, side, 3), np.uint8)}
    frozen = {"store": None, "extractor": stage.extractor.variables}
    program = jax.jit(stage.update).lower(state, frozen, sharded).compile().as_text()
    outputs = re.findall(r"= f32\[4,8,8,(\d+)\]\S* (?:convolution|custom-call)\(", program)
    assert outputs.count("256") == 2  # 128 to 256 channels, forward
    assert outputs.count("128") == 1  # 256 to 128, backward


def test_the_discriminator_has_a_logit_map_for_each_tap_and_for_the_image():
    module = models.build(
        models.DISCRIMINATORS, {"name": "features", "tap_widths": (2, 2, 2), "patch_widths": (2, 2, 2)}
    )
    features = {
        "relu1_2": jnp.ones((1, 16, 16, 64)),
        "relu2_2": jnp.ones((1, 8, 8, 128)),
        "relu3_1": jnp.ones((1, 4, 4, 256)),
    }
    shapes = jax.eval_shape(
        lambda: module.init_with_output(jax.random.key(0), jnp.zeros((1, 16, 16, 3)), features, train=True)[0]
    )
    assert [each.shape for each in shapes] == [(1, 16, 16, 1), (1, 8, 8, 1), (1, 4, 4, 1), (1, 8, 8, 1)]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tap_widths": (2, 2)}, "tap_widths has 2 values, expected one for each tap: relu1_2, relu2_2, relu3_1"),
        ({"tap_scales": (1.0,)}, "tap_scales has 1 values"),
        ({"taps": (), "tap_widths": (), "tap_scales": (), "patch_widths": ()}, "it would have no logits"),
    ],
)
def test_a_discriminator_that_cannot_work_is_refused(config, fields, message):
    for name, value in fields.items():
        config.discriminator[name] = value
    with pytest.raises(UserError, match=message):
        helpers.build_stage(config, "gan")


def test_features_of_the_discriminator_alone_are_computed(config):
    """Without a perceptual term the extractor still has the discriminator's taps."""
    config.stages.gan.losses.perceptual.weight = 0.0
    _, _, metrics = helpers.update_shapes(config, "gan")
    assert "perceptual" not in metrics and "d_accuracy_real" in metrics


def _draw(config, dataset):
    plan = helpers.build_plan(config)
    images, sizes, _ = datasets.without_small(datasets.open_images(dataset, scale=4), plan.window["crop_px"])
    store = memory.build_store(images, sizes, tile_px=200, channels=plan.channels, **plan.window)
    seed, indices = jax.random.key_data(jax.random.key(0)), np.arange(4, dtype=np.int32)
    return plan, images, draw_batch(plan, seed, np.int32(0), indices, store)


@pytest.mark.parametrize("paired", [False, True])
def test_the_halo_is_around_the_crop(config, dataset, paired_dataset, paired):
    config.data.lr_feature = "lr" if paired else ""
    if paired:  # HR and LR of one size
        config.generator = load_config("restoration").generator
        config.generator.width = 4
    plan, _, batch = _draw(config, paired_dataset if paired else dataset)
    scale = plan.scale
    side, halo = 32 // scale, 2
    assert batch["hr"].shape == (4, 32, 32, 3) and batch["lr"].shape == (4, side, side, 3)
    assert batch["input"].shape == (4, side + 2 * halo, side + 2 * halo, 3)
    np.testing.assert_array_equal(batch["input"][:, halo:-halo, halo:-halo], batch["lr"])
    if not paired:  # LR belongs to HR: bicubic of its inside, where no border is near
        from srgan_jax.ops import resize

        own = resize.downscale(batch["hr"], 4, convention="A")
        np.testing.assert_array_equal(own[:, 2:-2, 2:-2], batch["lr"][:, 2:-2, 2:-2])


def test_sr_is_cropped_before_the_losses(config, dataset):
    """The pixel term of a bilinear generator equals that of the large image's centre, by hand."""
    from srgan_jax.training.players import generate

    config.stage_names = ("pretrain",)
    stage = helpers.build_stage(config, "pretrain")
    _, _, batch = _draw(config, dataset)
    state = stage.init(None)
    sr = generate(stage.game, state.generator, batch).sr
    whole = stage.generator.apply({"params": state.generator.params}, batch["input"])
    assert sr.shape == batch["hr"].shape
    np.testing.assert_allclose(sr, whole[:, 8:-8, 8:-8], atol=1e-6)


def test_crops_of_one_colour_are_drawn_again_alike_by_both_sources(config, tmp_path):
    """An image that is gray but for a corner with noise: few random crops of it have contrast."""
    from srgan_jax.data import builder
    from srgan_jax.images import write_image

    image = np.full((160, 160, 3), 128, np.uint8)
    image[:80, :80] = np.random.default_rng(0).integers(0, 256, (80, 80, 3))
    for index in range(4):
        write_image(tmp_path / "photos" / f"{index}.png", np.rot90(image, index))
    assert builder.prepare(str(tmp_path / "photos"), str(tmp_path / "set"), min_side_px=32) == {}
    deviations = {}
    for contrast in (0.0, 20.0):
        config.data.min_contrast = contrast
        batches = []
        for seed in range(6):
            plan = helpers.build_plan(config)
            images = datasets.open_images(str(tmp_path / "set"), scale=4)
            sizes = np.array([images[i].shape[:2] for i in range(4)], np.int32)
            store = memory.build_store(images, sizes, tile_px=200, **plan.window)
            key, indices = jax.random.key_data(jax.random.key(seed)), np.arange(4, dtype=np.int32)
            chosen = sampling.choose_images(key, jnp.int32(3), indices, 4, 4)
            keys = sampling.sample_keys(key, jnp.int32(3), indices)
            ours = memory.gather_windows(store, chosen, keys, **plan.window, min_contrast=contrast)
            theirs = stream.read_windows(images, key, 3, indices, batch_size=4, **plan.window, min_contrast=contrast)
            np.testing.assert_array_equal(ours, theirs)
            batches.append(np.asarray(ours, float))
        windows = np.concatenate(batches)
        deviations[contrast] = np.abs(windows - windows.mean(axis=(1, 2, 3), keepdims=True)).mean(axis=(1, 2, 3))
    assert (deviations[0.0] > 10).mean() < 0.75  # by geometry about half of the crops touch the corner enough
    assert (deviations[20.0] > 10).mean() > 0.9  # the criterion reads every fourth pixel of one channel


def test_a_sample_with_contrast_keeps_its_crop():
    """With `min_contrast` only the samples without contrast change."""
    keys = jax.random.split(jax.random.key(0), 5)
    sizes = jnp.tile(jnp.array([[300, 200]]), (5, 1))
    first = sampling.choose_corners(keys, sizes, 32)
    candidates = sampling.candidate_corners(keys, sizes, 32)
    np.testing.assert_array_equal(candidates[:, 0], first)
    assert len({tuple(corner) for corner in np.asarray(candidates[0])}) == sampling.CANDIDATES
    # Levels of the sampled pixels: two windows without contrast, then one of 0 and 100 (deviation 50), then 0 and 200.
    windows = np.zeros((2, 3, 8, 8, 3), np.uint8)
    windows[0, 1, :4], windows[0, 2, :4], windows[1, 2, :4] = 100, 200, 10
    assert sampling.choose_candidate(windows, 40.0).tolist() == [1, 2]  # the first that suffices; the largest of all


def test_consistency_compares_what_lr_determines():
    hr = jnp.full((1, 32, 32, 3), 0.5)
    value = lambda sr: float(TERMS["consistency"].function(Views(sr, hr)).mean())  # noqa: E731
    assert value(hr) == 0
    assert value(hr + 0.1) == pytest.approx(0.2, rel=1e-5)  # a colour shift of 0.1, on [-1, 1] twice that
    rows, columns = np.indices((32, 32))
    checkerboard = 0.1 * (-1.0) ** (rows + columns)[None, :, :, None]
    assert value(hr + checkerboard) < 1e-3  # texture that a quarter of the size can't hold


def test_max_pooling_after_a_relu_has_the_values_and_gradient_of_flax():
    x = jax.random.normal(jax.random.key(0), (2, 9, 11, 4))  # odd sides: the last row and column are left out
    weights = jax.random.normal(jax.random.key(1), (2, 4, 5, 4))
    pools = [layers.max_pool_after_relu, lambda x: nn.max_pool(x, (2, 2), (2, 2))]
    values = [pool(nn.relu(x)) for pool in pools]
    np.testing.assert_array_equal(*values)
    gradients = [jax.grad(lambda x, pool=pool: (weights * pool(nn.relu(x))).sum())(x) for pool in pools]
    np.testing.assert_array_equal(*gradients)


def test_the_lattice_term_finds_texture_at_some_positions_only():
    noise = 0.5 + 0.05 * jax.random.normal(jax.random.key(0), (4, 64, 64, 3))
    rows, columns = np.indices((64, 64)) % 4
    stronger = noise + 0.3 * (noise - 0.5) * ((rows == 0) & (columns == 0))[None, :, :, None]
    value = lambda sr: float(TERMS["lattice"].function(Views(sr, noise)).mean())  # noqa: E731
    # 4 * 14 * 14 = 784 samples at each position: the energy's relative variance is 2 / 784, and the mean's 1 / 784.
    assert value(noise) < 1.5 * 3 / 784
    # 1.3^2 = 1.69 times the energy at one of 16 positions, most of it high frequencies of its own: the log differs by
    # about 0.4 there, so the mean square is about 0.4^2 * 15 / 256 = 0.01.
    assert 0.005 < value(stronger) - value(noise) < 0.03
    # Every second row 0.02 brighter, the others darker: the energies stay equal, but luma's amplitude, 219 / 255 of
    # that, has a share of the energy: 0.0172^2 / (0.0172^2 + luma's variance of the noise, about 0.029^2) = 0.26.
    brighter = noise + 0.02 * jnp.where(rows % 2, 1.0, -1.0)[None, :, :, None]
    assert 0.15 < value(brighter) - value(noise) < 0.35
    assert value(jnp.full((1, 32, 32, 3), 0.5)) == pytest.approx(0, abs=1e-7)


def test_the_mesh_term_finds_what_repeats_within_a_block_more_than_in_hr():
    noise = 0.5 + 0.05 * jax.random.normal(jax.random.key(0), (8, 64, 64, 3))
    rows, columns = np.indices((64, 64)) % 4
    signs = jnp.where(jnp.arange(8) % 2, 1.0, -1.0)  # the mesh of one image is the negative of the next one's
    mesh = signs[:, None, None, None] * jnp.where((rows < 2) == (columns < 2), 0.03, -0.03)[None, :, :, None]
    value = lambda sr, hr, name="mesh": float(TERMS[name].function(Views(sr, hr)).mean())  # noqa: E731
    assert value(noise, noise) == 0
    # 219 / 255 of .03 has the variance .00066, less what the high pass takes; the noise's luma .029^2 = .00084. All of
    # the mesh and 1 / 49 of the noise are shared by the 49 cells of a block: (.00084 + 49 * .0006) / .00144 = 21.
    assert 12 < value(noise + mesh, noise) < 25
    assert value(noise + mesh, noise + mesh) == 0  # HR may have one
    assert value(noise + mesh, noise, "lattice") - value(noise, noise, "lattice") < 0.02  # it cancels in the batch
    with pytest.raises(UserError, match="multiple of the period"):
        TERMS["mesh"].function(Views(noise, noise), block_px=30)
    with pytest.raises(UserError, match="crops of 64 px"):
        TERMS["mesh"].function(Views(noise, noise), block_px=60)


def test_lattice_statistics_equal_those_of_scipys_gaussian_filter():
    from scipy.ndimage import gaussian_filter

    from srgan_jax.losses.penalties import lattice_statistics

    image = jax.random.uniform(jax.random.key(1), (1, 72, 72, 3))
    luma = (np.asarray(image[0], np.float64) @ [65.481, 128.553, 24.966] + 16) / 255  # MATLAB's
    inner = (luma - gaussian_filter(luma, 1.0, truncate=4.0))[4:-4, 4:-4]
    mean, energy = (values.reshape(16, 4, 16, 4).mean(axis=(0, 2)) for values in (inner, inner**2))
    found = lattice_statistics(image)
    np.testing.assert_allclose(found[0], mean, atol=1e-6)
    np.testing.assert_allclose(found[1], energy, rtol=1e-4)
