"""Tests of configs/finetune.py: training from shipped weights on a user's folder."""

import dataclasses

import helpers
import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors import safe_open

import srgan_jax
from srgan_jax import images
from srgan_jax.config.recipes import load_config, recipe_files
from srgan_jax.config.resolve import resolve
from srgan_jax.data import builder
from srgan_jax.degradations import DEGRADATIONS
from srgan_jax.evaluation.pairs import degrade_pairs, make_pair
from srgan_jax.models import GENERATORS, build
from srgan_jax.runtime.errors import UserError
from srgan_jax.training import provenance, samples, setup
from srgan_jax.training.start import generator_from, initial_variables
from srgan_jax.weights import pretrained


@pytest.fixture
def config(tiny, tmp_path, photo):
    """The config at a small size, with a folder of eight images and a copy, and initial weights of that size."""
    for index in range(8):
        top = 20 * index
        images.write_image(tmp_path / "mine" / f"{index}.png", photo[top : top + 60, :70])
    images.write_image(tmp_path / "mine" / "copies" / "of 3.bmp", photo[60:120, :70])
    made = load_config("finetune")
    hold_out, init_from = made.validation.hold_out, str(tmp_path / "initial.safetensors")
    config = tiny(made)
    config.data.folder, config.validation.hold_out, config.init_from = str(tmp_path / "mine"), hold_out, init_from
    config.validation.metrics = ("psnr_y",)
    config.sample_pictures = 0
    config.stages.pretrain.warmup_steps, config.stages.pretrain.learning_rate = 0, 1e-2  # visible in two updates
    config.ema_decay = 0.5
    fields = dict(config.generator)
    variables = build(GENERATORS, fields).init(jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32))
    srgan_jax.save(init_from, srgan_jax.make_weights(variables, fields), dtype="float16")
    return config


def test_the_requested_number_of_validation_images_gives_no_warning(config, tmp_path, capsys):
    config.validation.hold_out = 2
    helpers.open_images(config, tmp_path / "run")
    stderr = capsys.readouterr().err
    assert "validation images, not trained on: " in stderr and "a quarter" not in stderr


def _psnr_y(sr, hr):
    """Computes PSNR-Y by hand: MATLAB's luma, 4 px left out."""
    y = [image[4:-4, 4:-4].astype(np.float64) @ (65.481, 128.553, 24.966) / 255 for image in (sr, hr)]
    return 10 * np.log10(255**2 / np.mean((y[0] - y[1]) ** 2))


@pytest.mark.slow
def test_a_run_ends_with_scores_before_and_after_on_validation_images(config, tmp_path, capsys):
    trained = helpers.train(config, tmp_path / "run")
    stderr = capsys.readouterr().err
    table = (tmp_path / "run" / "before_after.md").read_text()
    shown = [line.split() for line in stderr.splitlines()]  # aligned, where the file has Markdown
    assert all(line.replace("|", " ").split() in shown for line in table.splitlines()[2:5])
    assert "LR: degradation photo, random key of each image" in table
    rows = {line.split(" | ")[1]: float(line.split(" | ")[2].strip(" |")) for line in table.splitlines()[2:5]}
    assert list(rows) == ["bicubic", "before", "after"]

    assert "config.validation.hold_out=8: only 2 images are held out, a quarter of all at most" in stderr
    rest, held_out = helpers.open_images(config, tmp_path / "run")
    assert (len(rest), len(held_out)) in ((7, 2), (6, 2))  # of nine files, two are copies of each other
    seen = {image.tobytes() for image in rest}
    assert not any(image.tobytes() in seen for image in held_out)
    degrade = DEGRADATIONS["photo"].degrade
    pairs = [make_pair(f"held out {i}", hr, 4) for i, hr in enumerate(held_out)]
    pairs = degrade_pairs(pairs, lambda key, hr: degrade(key, hr, scale=4))
    for name, params in (("before", srgan_jax.load(config.init_from)), ("after", trained)):
        results = [np.asarray(srgan_jax.upscale(params, pair.lr)) for pair in pairs]
        expected = np.mean([_psnr_y(sr, pair.hr) for sr, pair in zip(results, pairs, strict=True)])
        assert rows[name] == pytest.approx(expected, abs=0.006), name
    assert rows["after"] != rows["before"]

    prepared = (tmp_path / "run" / "dataset" / "folder.txt").stat().st_mtime_ns
    helpers.train(config, tmp_path / "run")  # finished: the same table, nothing prepared again
    assert (tmp_path / "run" / "before_after.md").read_text() == table
    assert (tmp_path / "run" / "dataset" / "folder.txt").stat().st_mtime_ns == prepared
    config.data.folder = str(tmp_path / "mine" / "copies")
    with pytest.raises(UserError, match=r"mine/copies: expected .*mine, .*--workdir"):
        helpers.train(config, tmp_path / "run")


def test_hold_out_and_a_validation_folder_exclude_each_other(config, tmp_path):
    config.validation.folder = str(tmp_path / "mine")
    with pytest.raises(UserError, match="expected 0 with config.validation.folder"):
        helpers.open_images(config, tmp_path / "run")


@pytest.mark.parametrize(("then", "now"), [({"hold_out": 0}, {"hold_out": 2}), ({"crop_px": 64}, {"crop_px": 48})])
def test_a_resumed_run_cannot_hold_out_images_that_it_trained_on(config, tmp_path, then, now):
    sections = {"hold_out": config.validation, "crop_px": config.data}
    config.validation.hold_out = 2
    for key, value in then.items():
        sections[key][key] = value
    provenance.describe_run(tmp_path, resolve(config)).write()
    samples.check_held_out(config.validation.hold_out, config.data.crop_px, tmp_path)
    for key, value in now.items():
        sections[key][key] = value
    with pytest.raises(UserError, match=f"{next(iter(now))}=.* another --workdir"):
        helpers.open_images(config, tmp_path)


def test_a_replaced_validation_image_is_refused(config, tmp_path, photo, capsys):
    """After another preparation, an image that was trained on would be held out in its place."""
    config.data.dataset, config.data.folder = str(tmp_path / "prepared"), ""
    config.validation.hold_out = 2
    builder.prepare(str(tmp_path / "mine"), config.data.dataset, min_side_px=32)
    run = tmp_path / "run"
    helpers.open_images(config, run)
    provenance.describe_run(run, resolve(config)).write()  # training began
    held_out = capsys.readouterr().err.partition("not trained on: ")[2].split(" (number")[0]
    helpers.open_images(config, run)
    images.write_image(tmp_path / "mine" / held_out, photo[150:210, 100:170])
    config.data.dataset = str(tmp_path / "again")
    builder.prepare(str(tmp_path / "mine"), config.data.dataset, min_side_px=32)
    with pytest.raises(UserError, match=rf"are gone: {held_out}.*; in their place are: .*png .*another --workdir"):
        helpers.open_images(config, run)
    helpers.open_images(config, tmp_path / "other")


def test_degraded_pairs_are_deterministic(photo):
    pairs = [make_pair(name, photo[:64, :80], 4) for name in "aba"]
    first = degrade_pairs(pairs, lambda key, hr: DEGRADATIONS["photo"].degrade(key, hr, scale=4))
    np.testing.assert_array_equal(first[0].lr, first[2].lr)
    assert (first[0].lr != first[1].lr).any() and (first[0].lr != pairs[0].lr).any()
    again = degrade_pairs(pairs[:1], lambda key, hr: DEGRADATIONS["photo"].degrade(key, hr, scale=4))
    np.testing.assert_array_equal(again[0].lr, first[0].lr)


def _with_generator_from(start, config):
    run = resolve(config)
    if not config.generator_of_init_from:
        return run
    return dataclasses.replace(run, generator=generator_from(start, config.init_from))


START = {"finetune": "photo_x4", "photo": "compact_x4"}  # the recipes that begin with weights, and these weights


def test_other_recipes_begin_with_a_new_generator():
    assert {name: load_config(name).init_from for name in recipe_files() if load_config(name).init_from} == START


@pytest.mark.parametrize("recipe", START)
def test_recipes_start_from_weights_of_their_architecture(recipe):
    """The generator of the first stage begins with the tensors of the shipped file."""
    config = load_config(recipe)
    start = srgan_jax.load(config.init_from, fold=False)
    stage = setup.build(_with_generator_from(start, config))[0]
    shapes = jax.eval_shape(stage.generator.init, jax.random.key(0), np.zeros((1, 8, 8, 3), np.float32))
    state = stage.init(initial_variables(start, stage.generator))
    with safe_open(pretrained.FOLDER / f"{START[recipe]}.safetensors", framework="numpy") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    params = flatten_dict({"params": state.generator.params}, sep="/")
    assert params.keys() == tensors.keys() == flatten_dict(dict(shapes), sep="/").keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(params[name], tensor.astype(np.float32), err_msg=name)
