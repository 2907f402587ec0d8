"""Tests of networks with other channels than RGB, and of 16-bit training data, from `prepare` to `upscale`."""

import helpers
import numpy as np
import pytest
import tifffile
from ml_collections import ConfigDict

import srgan_jax
from srgan_jax import cli, defaults, images, inference
from srgan_jax.data import builder, datasets
from srgan_jax.evaluation import scoring
from srgan_jax.evaluation.pairs import make_pair, read_pairs
from srgan_jax.runtime.errors import UserError

KINDS = [(1, 8), (1, 16), (2, 8), (3, 16), (4, 8), (4, 16), (6, 8), (6, 16)]


def _bands(photo, channels, bits, rows=slice(0, 96)):
    """Returns a photograph with bands that all differ."""
    image = np.stack([np.roll(photo[rows, :120, index % 3], 5 * index, axis=0) for index in range(channels)], axis=-1)
    return image if bits == 8 else image.astype(np.uint16) * 257 + np.arange(120, dtype=np.uint16)[:, None] % 100


def _write(folder, photo, channels, bits, count=3):
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        image = _bands(photo, channels, bits, slice(60 * index, 60 * index + 96))
        if channels in (1, 3):
            images.write_image(folder / f"{index}.png", image)
        else:
            tifffile.imwrite(folder / f"{index}.tif", image, photometric="minisblack", planarconfig="contig")


@pytest.mark.parametrize(("channels", "bits"), KINDS)
def test_a_data_set_keeps_all_bands_and_bits(photo, tmp_path, channels, bits):
    _write(tmp_path / "photos", photo, channels, bits)
    arguments = ["--channels", str(channels), "--bits", str(bits)]
    assert cli.main(["prepare", str(tmp_path / "photos"), "-o", str(tmp_path / "set"), *arguments]) == 0
    assert builder.read_converted(str(tmp_path / "set")) == {}
    assert builder.bands_and_bits(str(tmp_path / "set")) == (channels, bits)
    opened = datasets.open_images(str(tmp_path / "set"), scale=4, channels=channels, bits=bits)
    found = {opened.name(index).split()[0]: opened[index] for index in range(3)}
    for index in range(3):
        expected = _bands(photo, channels, bits, slice(60 * index, 60 * index + 96))
        name = f"{index}.png" if channels in (1, 3) else f"{index}.tif"
        assert found[name].dtype == expected.dtype
        np.testing.assert_array_equal(found[name], expected)


def test_files_of_other_bands_are_skipped_with_the_reason(photo, tmp_path, capsys):
    _write(tmp_path / "photos", photo, 4, 8)
    images.write_image(tmp_path / "photos" / "rgb.png", photo[:100, :100])
    arguments = ["prepare", str(tmp_path / "photos"), "-o", str(tmp_path / "set"), "--channels"]
    assert cli.main([*arguments, "4"]) == 0
    output = capsys.readouterr().out
    assert "skipped rgb.png: 3 bands, expected 4" in output and "3 images prepared, 1 skipped" in output
    assert cli.main([*arguments, "0"]) == 2
    assert "--channels 0: expected 1 or more" in capsys.readouterr().err


def _config(tiny, channels, name="compact"):
    config = tiny(defaults.get_config())
    config.generator.name, config.generator.blocks, config.stage_names = name, 1, ("pretrain", "gan")
    config.stages.gan.losses.perceptual.weight, config.stages.gan.losses.pixel.weight = 0.0, 1.0
    config.data.channels = channels
    return config


@pytest.mark.slow
@pytest.mark.parametrize(
    ("channels", "bits", "name", "source"),
    [
        (1, 8, "srresnet", "memory"),
        (4, 16, "compact", "memory"),
        (6, 8, "srvggnet_compact", "stream"),
        (3, 16, "rrdb", "memory"),
    ],
)
def test_a_network_is_trained_resumed_and_used(
    tiny, photo, tmp_path, monkeypatch, capsys, channels, bits, name, source
):
    """The bands are those of the data set; the run is resumed, its weights upscale a file of these bands."""
    monkeypatch.chdir(tmp_path)
    _write(tmp_path / "photos", photo, channels, bits, 5)
    builder.prepare("photos", "set", channels=channels, bits=bits)
    config = _config(tiny, 0, name)
    config.data.dataset, config.data.source, config.validation.hold_out = "set", source, 1
    config.stages.pretrain.total_steps, config.stages.gan.total_steps = 2, 2
    trained = helpers.train(config, tmp_path / "run")
    rows = helpers.read_metrics(tmp_path / "run")
    assert all(np.isfinite(value) for row in rows for value in row.values() if isinstance(value, float))
    assert trained.architecture["channels"] == channels
    config.stages.gan.total_steps = 3
    helpers.train(config, tmp_path / "run")
    assert "config.generator" not in capsys.readouterr().err
    lr = _bands(photo, channels, bits, slice(0, 24))[:, :20]
    file = "lr.png" if channels in (1, 3) else "lr.tif"
    write = images.write_image if channels in (1, 3) else images.write_bands
    write(file, lr)
    assert cli.main(["upscale", file, "-o", "sr" + file[2:], "--weights", "run"]) == 0, capsys.readouterr().err
    sr = images.decode_bands("sr" + file[2:], channels, bits)
    unit = lr / np.float32(2**bits - 1)
    weights = srgan_jax.load("run")
    expected = np.asarray(srgan_jax.upscale(weights, unit))
    assert sr.shape == (96, 80, channels) and sr.dtype == lr.dtype
    np.testing.assert_allclose(sr / np.float32(2**bits - 1), expected, atol=1.01 / (2**bits - 1))


def test_what_needs_rgb_is_refused_before_anything_is_read(tiny):
    def error(change):
        config = _config(tiny, 4)
        change(config)
        with pytest.raises(UserError) as caught:
            helpers.build_stage(config, "gan")
        return str(caught.value)

    def perceptual(config):
        config.stages.gan.losses.perceptual.weight = 1.0

    def degradation(config):
        config.degradation = ConfigDict({"name": "photo"})

    def metric(config):
        config.validation.metrics = ("psnr_y", "ssim_daala")

    def generator(config):
        config.generator.name = "edsr"

    def lattice(config):
        config.stages.gan.losses.lattice = {"term": "lattice", "weight": 1.0}

    assert "perceptual read features of vgg19, which takes RGB, but the data has 4 bands; set" in error(perceptual)
    assert "config.degradation.name=photo takes 8-bit RGB, but the data has 4 bands of 8 bits" in error(degradation)
    assert "ssim_daala need RGB, but the data has 4 bands" in error(metric)
    assert "config.generator.name=edsr takes RGB, but the data has 4 bands; expected one of" in error(generator)
    assert "luma: expected RGB, got 4 channels" in error(lattice)


def test_16_bits_are_scored_and_shrunk_without_rounding_to_8():
    """LR of a smooth ramp has more than 256 levels; an error of one 16-bit step is 96.3 dB: 20 log10(65535)."""
    hr = np.tile(np.linspace(20_000, 21_000, 96).astype(np.uint16)[:, None, None], (1, 96, 1))
    pair = make_pair("ramp", hr, 4)
    assert pair.lr.dtype == np.uint16 and len(np.unique(pair.lr)) == 24  # all would be 3 to 5 levels of 8 bits
    (row,) = scoring.score([pair], [hr + np.uint16(1)], ("psnr_y", "psnr_rgb"))
    assert row == pytest.approx({"psnr_y": 96.33, "psnr_rgb": 96.33}, abs=0.2)  # float32 rounds the difference


def test_a_network_of_one_channel_upscales_each_channel_by_itself(photo):
    params = helpers.random_weights(name="compact", blocks=1, width=4, scale=2, channels=1)
    rgba = np.concatenate([photo[:20, :30], np.full((20, 30, 1), 255, np.uint8)], axis=-1)
    tiler = inference.Tiler(params, (32, 32))
    ((_, strips),) = ((image, list(s)) for image, s in tiler.upscale([inference.from_array(rgba, 1)]))
    found = np.concatenate(strips)
    for index in range(3):
        expected = np.asarray(srgan_jax.upscale(params, rgba[..., index : index + 1]))
        assert np.abs(found[..., index : index + 1].astype(int) - expected.astype(int)).max() <= 1
    np.testing.assert_array_equal(found[..., 3], 255)
    with pytest.raises(UserError, match=r"expected \[H, W, 1\] or \[N, H, W, 1\], got \(20, 30, 3\)"):
        srgan_jax.upscale(params, photo[:20, :30])


def test_pairs_of_any_bands_are_read(photo, tmp_path):
    _write(tmp_path, photo, 6, 16)
    pairs = read_pairs(tmp_path, 4, channels=6, bits=16)
    assert len(pairs) == 3 and pairs[0].lr.shape == (24, 30, 6) and pairs[0].lr.dtype == np.uint16
