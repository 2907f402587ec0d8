"""Tests of networks with other channels than RGB, and of 16-bit training data, from `prepare` to `upscale`."""

import flax.linen as nn
import helpers
import jax
import numpy as np
import pytest
import tifffile
from ml_collections import ConfigDict

import srgan_jax
from srgan_jax import cli, defaults, images, inference, models
from srgan_jax.data import builder, datasets
from srgan_jax.evaluation import scoring
from srgan_jax.evaluation.pairs import make_pair, read_pairs
from srgan_jax.models import layers
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
    assert builder.bands_of(str(tmp_path / "set")) == images.Bands(channels, bits)
    opened = datasets.open_images(str(tmp_path / "set"), scale=4, bands=images.Bands(channels, bits))
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
    builder.prepare("photos", "set", bands=images.Bands(channels, bits))
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
    sr = images.decode_bands("sr" + file[2:], images.Bands(channels, bits))
    unit = lr / np.float32(2**bits - 1)
    weights = srgan_jax.load("run")
    expected = np.asarray(srgan_jax.upscale(weights, unit))
    assert sr.shape == (96, 80, channels) and sr.dtype == lr.dtype
    np.testing.assert_allclose(sr / np.float32(2**bits - 1), expected, atol=1.01 / (2**bits - 1))


class _RgbOnly(nn.Module):
    """A generator of a user, without the field `channels`."""

    scale: int = 4

    @nn.compact
    def __call__(self, lr, *, train=False, mask=None):
        return layers.nearest(lr, self.scale)


def test_what_needs_rgb_is_refused_before_anything_is_read(tiny, monkeypatch):
    monkeypatch.setitem(models.GENERATORS, "rgb_only", _RgbOnly)

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
        config.generator = ConfigDict({"name": "rgb_only", "scale": 4})

    def imagenet(config):
        config.generator = ConfigDict({"name": "srresnet", "blocks": 1, "input_range": "imagenet"})

    def mean(config):
        config.generator = ConfigDict({"name": "edsr", "blocks": 1, "mean": (0.5, 0.4)})

    def lattice(config):
        config.stages.gan.losses.lattice = {"term": "lattice", "weight": 1.0}

    assert "perceptual read features of vgg19, which takes RGB, but the data has 4 bands; set" in error(perceptual)
    assert "the degradation photo takes 8-bit RGB, but the data is 8-bit images of 4 bands; exp" in error(degradation)
    assert (
        "config.validation.metrics: psnr_y takes 1 or 3, ssim_daala takes 1 or 3 bands, but the images have 4"
        in error(metric)
    )
    assert "config.generator.name=rgb_only takes RGB, but the data has 4 bands; expected one of" in error(generator)
    assert "the range imagenet is one of RGB, but the image has 4 channels; set unit or signed" in error(imagenet)
    assert "generator.mean=(0.5, 0.4): expected 3 values or 4, one for each channel" in error(mean)
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
    pairs = read_pairs(tmp_path, 4, bands=images.Bands(6, 16))
    assert len(pairs) == 3 and pairs[0].lr.shape == (24, 30, 6) and pairs[0].lr.dtype == np.uint16


TRANSFORMER = {"depths": (2,), "heads": (2,), "width": 8, "scale": 2, "mean": (0.3,) * 3}
SMALL = {
    "edsr": {"blocks": 1, "width": 4, "scale": 2, "mean": (0.2, 0.3, 0.4)},
    "swinir": TRANSFORMER | {"window": 4, "head_width": 4, "unshuffle": 2},
    "dat": TRANSFORMER | {"split": (4, 8), "upsampling": "direct"},
    "span": {"blocks": 1, "width": 4, "scale": 2, "fused": True},
    "realplksr": {"blocks": 1, "width": 4, "scale": 2, "kernel_size": 5, "groups": 2},
    "restoration": {"blocks": 1, "width": 4, "scale": 1, "upsampling_width": 4},
}


@pytest.mark.parametrize("name", SMALL)
def test_a_generator_of_one_channel_equals_rgb_of_gray(name):
    """RGB of equal bands, as RGB's kernels add up over them, and the mean is the average of RGB's.

    The first band of the result has the outputs `[: last // 3]` of the last convolution: sub-pixels of one band lie
    side by side. EDSR adds the mean again at its end.
    """
    fields = SMALL[name] | {"name": name}
    rgb = helpers.random_weights(**fields)
    first = np.asarray(rgb.variables["params"]["conv_in"]["kernel"])
    per_band = first.reshape(*first.shape[:2], 3, -1, first.shape[-1])  # an unshuffled pixel: bands, then its parts
    equal = np.broadcast_to(per_band.mean(axis=2, keepdims=True), per_band.shape)
    last = rgb.variables["params"]["conv_out"]
    count = last["bias"].shape[0] // 3
    changed = {
        "conv_in": {"kernel": per_band.mean(axis=2) * 3},
        "conv_out": {k: v[..., :count] for k, v in last.items()},
    }
    params = rgb.variables["params"]
    one = rgb.variables | {"params": params | {k: params[k] | v for k, v in changed.items()}}
    three = rgb.variables | {"params": params | {"conv_in": params["conv_in"] | {"kernel": equal.reshape(first.shape)}}}
    gray = np.random.default_rng(0).random((1, 8, 12, 1)).astype(np.float32)
    whole = jax.jit(models.build(models.GENERATORS, fields).apply)(three, gray.repeat(3, axis=-1))
    found = jax.jit(models.build(models.GENERATORS, fields | {"channels": 1}).apply)(one, gray)
    offset = fields["mean"][0] - np.mean(fields["mean"]) if name == "edsr" else 0.0
    np.testing.assert_allclose(found + offset, np.asarray(whole)[..., :1], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("channels", [1, 4])
def test_every_generator_takes_any_number_of_channels(channels):
    for name, fields in SMALL.items():
        for more in [{}, {"dysample": True}, {"dysample": True, "scale": 3}] if name == "realplksr" else [{}]:
            module = models.build(models.GENERATORS, fields | {"name": name, "channels": channels} | more)
            image = np.zeros((1, 8, 16, channels), np.float32)
            sr, _ = jax.eval_shape(module.init_with_output, jax.random.key(0), image)
            assert sr.shape == (1, 8 * module.scale, 16 * module.scale, channels), (name, more)
    assert all("channels" in models.fields_of(kind) for kind in models.GENERATORS.values())


def _evaluate(capsys, *arguments):
    status = cli.main(["evaluate", *map(str, arguments)])
    out, err = capsys.readouterr()
    lines = [line.split() for line in out.split("\n\n")[0].splitlines()]  # of the table
    return status, {line[1]: line[2:] for line in lines[2:]}, out, err


def test_evaluate_scores_images_of_other_bands(photo, tmp_path, capsys, monkeypatch):
    """PSNR over all bands is that of NumPy; 16 bits are not rounded to 8."""
    monkeypatch.chdir(tmp_path)
    _write(tmp_path / "set", photo, 4, 16, count=1)
    params = helpers.random_weights(name="compact", blocks=1, width=4, scale=4, channels=4)
    srgan_jax.save("four.safetensors", params)
    status, rows, out, err = _evaluate(
        capsys, "--weights", "four.safetensors", "--data", "set", "--bits", 16, "--report", "r"
    )
    assert status == 0, err
    (pair,) = read_pairs(tmp_path / "set", 4, bands=images.Bands(4, 16))
    sr = np.asarray(srgan_jax.upscale(params, pair.lr / np.float32(65535)))
    sr = np.floor(sr * np.float32(65535) + np.float32(0.5)) / 65535
    error = np.square(sr - pair.hr / 65535)[4:-4, 4:-4].mean()
    assert float(rows["four"][0]) == pytest.approx(-10 * np.log10(error), abs=2e-3)
    assert out.split()[:4] == ["set", "method", "psnr", "ssim"]
    assert "read as 16-bit images of 4 bands, whose samples are scored" in out
    assert "SR rounded to 16 bits" in out and "nearest" in rows and (tmp_path / "r" / "index.html").exists()
    assert cli.main(["upscale", "set/0.tif", "-o", "sr.tif", "--weights", "four.safetensors"]) == 0
    assert "0.0115 megapixels in " in capsys.readouterr().err  # 96 * 120
    for names, needed in ((["niqe"], "niqe takes 3"), (["vgg54", "psnr"], "vgg54 takes 3"),
                          (["psnr_rgb"], "psnr_rgb takes 3"), (["ssim_y", "psnr"], "ssim_y takes 1 or 3")):  # fmt: skip
        status, _, _, err = _evaluate(capsys, "--weights", "four.safetensors", "--data", "set", "--metrics", *names)
        assert status == 2 and err.count("\n") == 1, err
        assert f"--metrics: {needed} bands, but the images have 4; expected some of psnr, ssim" in err
    status, _, _, err = _evaluate(capsys, "--weights", "four.safetensors", "compact_x4", "--data", "set")
    assert status == 2 and "compact_x4 has 3 channels, expected 4; evaluate one number of channels at a time" in err
    arguments = ("--weights", "four.safetensors", "--data", "set", "--degradation", "photo")
    assert (
        "the degradation photo takes 8-bit RGB, but the data is 8-bit images of 4 bands"
        in _evaluate(capsys, *arguments)[3]
    )


def test_evaluate_of_gray_equals_the_scores_of_gray_files_in_rgb(photo, tmp_path, capsys):
    """A gray file is scored on its samples, whether it is read as three equal bands or as one."""
    _write(tmp_path / "set", photo, 1, 8, count=1)
    names = ("psnr_y", "ssim_y", "ssim_daala")
    found = [
        _evaluate(capsys, "--data", tmp_path / "set", "--scale", 2, "--channels", n, "--metrics", *names)
        for n in (1, 3)
    ]
    assert found[0][0] == 0 and "read as 8-bit gray" in found[0][2]
    for method in ("bicubic", "nearest"):
        one, three = (list(map(float, rows[method])) for _, rows, _, _ in found)
        np.testing.assert_allclose(one, three, atol=1.1e-3)
