"""Published discriminators against PyTorch modules written from their definitions, and as the start of a GAN stage."""

import dataclasses

import helpers
import jax
import numpy as np
import pytest

import srgan_jax
from srgan_jax import cli, defaults, models, weights
from srgan_jax.runtime.errors import UserError
from srgan_jax.weights import importers

torch = pytest.importorskip("torch", reason="PyTorch is not installed (scripts/test.sh --torch)")
F = torch.nn.functional


class UNet(torch.nn.Module):
    """Real-ESRGAN's discriminator (arXiv 2107.10833, section 3.3), with the names of its published code."""

    def __init__(self, width, normalise):
        super().__init__()
        self.conv0 = torch.nn.Conv2d(3, width, 3, padding=1)
        sizes = [(1, 2, 4), (2, 4, 4), (4, 8, 4), (8, 4, 3), (4, 2, 3), (2, 1, 3), (1, 1, 3), (1, 1, 3)]
        for number, (before, after, size) in enumerate(sizes, 1):
            stride = 2 if size == 4 else 1
            layer = torch.nn.Conv2d(before * width, after * width, size, stride, padding=1, bias=False)
            setattr(self, f"conv{number}", normalise(layer))
        self.conv9 = torch.nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, x):
        maps = [F.leaky_relu(self.conv0(x), 0.2)]
        for layer in (self.conv1, self.conv2, self.conv3):
            maps.append(F.leaky_relu(layer(maps[-1]), 0.2))
        x = maps.pop()
        for layer in (self.conv4, self.conv5, self.conv6):
            x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = F.leaky_relu(layer(x), 0.2) + maps.pop()
        return self.conv9(F.leaky_relu(self.conv8(F.leaky_relu(self.conv7(x), 0.2)), 0.2))


class VGG(torch.nn.Module):
    """BasicSR's discriminator of ESRGAN: for each resolution a 3x3 convolution and a 4x4 one of stride 2."""

    def __init__(self, width, levels):
        super().__init__()
        self.levels, before = levels, 3
        for level in range(levels):
            after = width * min(2**level, 8)
            setattr(self, f"conv{level}_0", torch.nn.Conv2d(before, after, 3, padding=1, bias=level == 0))
            setattr(self, f"conv{level}_1", torch.nn.Conv2d(after, after, 4, 2, padding=1, bias=False))
            for index in (0, 1) if level else (1,):
                setattr(self, f"bn{level}_{index}", torch.nn.BatchNorm2d(after))
            before = after
        self.linear1, self.linear2 = torch.nn.Linear(before * 16, 100), torch.nn.Linear(100, 1)

    def forward(self, x):
        for level in range(self.levels):
            for index in (0, 1):
                x = getattr(self, f"conv{level}_{index}")(x)
                x = F.leaky_relu(getattr(self, f"bn{level}_{index}")(x) if level or index else x, 0.2)
        return self.linear2(F.leaky_relu(self.linear1(x.flatten(1)), 0.2))


NORMALISE = {"hooks": torch.nn.utils.spectral_norm, "parametrizations": torch.nn.utils.parametrizations.spectral_norm}


def _images(count, side):
    return np.random.default_rng(1).random((count, side, side, 3), np.float32)


def _run(module, images):
    """Returns the output of a PyTorch module for images `[N, H, W, 3]`, as NHWC."""
    with torch.no_grad():
        output = module(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    return output.transpose(0, 2, 3, 1) if output.ndim == 4 else output


def _random(module, seed=0):
    """Moves all parameters and statistics of a module at random; vectors of spectral normalisation stay as they are."""
    generator = torch.Generator().manual_seed(seed)
    for key, value in [*module.named_parameters(), *module.named_buffers()]:
        if value.is_floating_point() and not key.endswith(("_u", "_v")):
            noise = 0.1 * torch.randn(value.shape, generator=generator)
            value.data += noise.abs() if key.endswith("running_var") else noise
    return module


def _apply(discriminator, images, **options):
    module = models.build(models.DISCRIMINATORS, discriminator.architecture)
    with jax.default_matmul_precision("highest"):
        return module.apply(discriminator.variables, images, **options)


@pytest.mark.parametrize("form", NORMALISE)
def test_unet_equals_pytorch_and_continues_with_its_vectors(tmp_path, form):
    """In evaluation with the vectors of the file, which are not converged; then in training, whose next ones equal.

    PyTorch's newer form computes u from v in training, and v from u after that; ours and the older form the reverse.
    """
    module = _random(UNet(4, NORMALISE[form]).train())
    images = _images(2, 24)
    _run(module, images)  # a power iteration
    _random(module, seed=1)  # an update: u and v are those of the kernels before it
    torch.save({"params": module.state_dict()}, tmp_path / "netD.pth")
    found, provenance = importers.import_network(tmp_path / "netD.pth")
    assert isinstance(found, weights.DiscriminatorWeights) and provenance["source"] == "unet"
    assert found.architecture == {
        "name": "unet", "width": 4, "spectral_norm": True, "minibatch_kernels": 0, "input_range": "unit"
    }  # fmt: skip
    assert found.parameter_count() == sum(value.numel() for value in module.parameters())
    np.testing.assert_allclose(_apply(found, images), _run(module.eval(), images), atol=1e-5)
    if form == "parametrizations":
        return
    module.train()
    logits, changed = _apply(found, images, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(logits, _run(module, images), atol=1e-5)
    after = importers._import_tensors(
        {key: value.numpy() for key, value in module.state_dict().items()}, "unet", kind=importers.DISCRIMINATOR
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), changed["batch_stats"],
                 after.variables["batch_stats"])  # fmt: skip


@pytest.mark.parametrize("levels", [2, 5])
def test_vgg_equals_pytorch(tmp_path, levels):
    """Two resolutions: crops of 16 px. Five: crops of 128 px, as the published files have."""
    module = _random(VGG(2, levels))
    torch.save(module.state_dict(), tmp_path / "netD.pth")
    found, provenance = importers.import_network(tmp_path / "netD.pth")
    side = 4 * 2**levels
    assert provenance["source"] == "vgg" and found.architecture["crop_px"] == side
    assert found.parameter_count() == sum(value.numel() for value in module.parameters())
    images = _images(2, side)
    np.testing.assert_allclose(_apply(found, images), _run(module.eval(), images), atol=1e-5)
    np.testing.assert_allclose(
        _apply(found, images, train=True, mutable=["batch_stats"])[0], _run(module.train(), images), atol=1e-4
    )


def test_parameters_of_the_published_sizes():
    def count(**fields):
        module = models.build(models.DISCRIMINATORS, fields)
        image = np.zeros((1, fields.get("crop_px", 128), fields.get("crop_px", 128), 3), np.float32)
        return sum(
            leaf.size for leaf in jax.tree.leaves(jax.eval_shape(module.init, jax.random.key(0), image)["params"])
        )

    # 3x3 from RGB with bias; 4x4 from 64 to 512; 3x3 back and twice 64; 3x3 to 1 with bias.
    down = 16 * (64 * 128 + 128 * 256 + 256 * 512)
    assert count(name="unet") == 28 * 64 + down + 9 * (512 * 256 + 256 * 128 + 128 * 64 + 2 * 64**2) + 9 * 64 + 1
    # A level from i to o channels: 3x3, 4x4, two norms; the first has a bias and one norm. Then 8192 to 100 to 1.
    levels = [(64, 128), (128, 256), (256, 512), (512, 512)]
    inner = sum(9 * i * o + 16 * o * o + 4 * o for i, o in levels)
    assert count(name="vgg", crop_px=128) == 28 * 64 + 16 * 64**2 + 2 * 64 + inner + 8193 * 100 + 101 == 14_499_401


@pytest.fixture
def unet_file(tmp_path):
    """A file of Real-ESRGAN's discriminator in small, as another program writes it."""
    path = tmp_path / "theirs" / "netD.pth"
    path.parent.mkdir()
    torch.save({"params": _random(UNet(4, torch.nn.utils.spectral_norm)).state_dict()}, path)
    return path


def test_import_writes_a_file_of_a_discriminator(tmp_path, unet_file, capsys):
    out = tmp_path / "d.safetensors"
    assert cli.main(["import", str(unet_file), "--licence", "BSD-3-Clause", "-o", str(out)]) == 0
    assert "unet, a discriminator, " in capsys.readouterr().out
    first, second = (weights.load_discriminator(path) for path in (unet_file, out))
    assert first.architecture == second.architecture
    jax.tree.map(np.testing.assert_array_equal, dict(first.variables), dict(second.variables))
    for path in (unet_file, out):
        assert cli.main(["info", str(path)]) == 0
        assert "architecture: unet: width 4" in capsys.readouterr().out
    for path, message in (
        (unet_file, "is not a generator that is known: it holds a discriminator (unet); training takes it: "
                    "config.discriminator_init_from"),
        (out, "expected the format 'srgan_jax generator 1', found 'srgan_jax discriminator 1'"),
    ):  # fmt: skip
        assert cli.main(["upscale", "photo.jpg", "--weights", str(path)]) == 2
        assert message in capsys.readouterr().err
    assert cli.main(["import", str(unet_file), "--from", "vgg", "-o", str(out), "--overwrite"]) == 2
    assert "is not laid out as vgg (--from unet fits)" in capsys.readouterr().err
    assert cli.main(["import", str(out)]) == 2
    assert "is a file of srgan_jax already" in capsys.readouterr().err


def test_both_players_of_one_file_are_found(tmp_path):
    d, g = UNet(4, torch.nn.utils.spectral_norm).state_dict(), helpers.compact_tensors()
    g = {key: torch.from_numpy(value) for key, value in g.items()}
    torch.save({"netD": d, "netG": g, "epoch": 3}, tmp_path / "both.pth")
    assert srgan_jax.load(tmp_path / "both.pth").architecture["name"] == "srvggnet_compact"
    assert weights.load_discriminator(tmp_path / "both.pth").architecture["name"] == "unet"
    torch.save({"netG": g}, tmp_path / "g.pth")
    message = "is not a discriminator that is known: it holds a generator .compact.; config.init_from takes it"
    with pytest.raises(UserError, match=message):
        weights.load_discriminator(tmp_path / "g.pth")


def _gan_config(tiny, dataset, file):
    """Returns a small config whose GAN stage begins from a discriminator's file."""
    config = tiny(defaults.get_config())
    config.data.dataset = dataset
    config.discriminator_init_from = str(file)
    config.stages.gan.losses.pixel.weight, config.stages.gan.losses.perceptual.weight = 1.0, 0.0
    config.stages.gan.schedule = "constant"
    config.save_every_steps = 1
    return config


def test_the_first_update_uses_the_discriminator_of_the_file(tiny, dataset, unet_file):
    """Its loss on given images is that of PyTorch's module in training: one power iteration for each call."""
    from srgan_jax.config.resolve import resolve
    from srgan_jax.training import players, setup, start

    opponent = weights.load_discriminator(unet_file)
    run = resolve(_gan_config(tiny, dataset, unet_file))
    fields = start.discriminator_from(opponent, str(unet_file), run.data.crop_px)
    stage = setup.build(dataclasses.replace(run, discriminator=fields), opponent)[-1]
    state = stage.init(None, stage.discriminator_variables)
    module = UNet(4, torch.nn.utils.spectral_norm)
    module.load_state_dict(torch.load(unet_file)["params"])
    real, fake = _images(4, 32).reshape(2, 2, 32, 32, 3)
    theirs = [F.softplus(torch.from_numpy(sign * _run(module.train(), images))).mean() for sign, images in
              ((-1, real), (1, fake))]  # fmt: skip
    d = state.opponent
    with jax.default_matmul_precision("highest"):
        total, _ = players.discriminator_loss(
            d.params, stage.game, d, {"hr": real, "lr": real[:, ::4, ::4], "keys": None}, fake, state.step
        )
    assert float(total) == pytest.approx(float(sum(theirs)), abs=1e-5)


@pytest.mark.slow
def test_a_run_from_a_discriminator_resumes_without_its_file(tiny, dataset, unet_file, tmp_path, capsys):
    """With the same bits as the whole run; also with u and v of spectral normalisation."""
    config = _gan_config(tiny, dataset, unet_file)
    config.stages.gan.total_steps = 3
    whole = helpers.train(config, tmp_path / "whole")
    assert f"the discriminator is that of {unet_file} (name unet, width 4" in capsys.readouterr().err
    checkpoint = helpers.read_checkpoint(tmp_path / "whole" / "checkpoints" / "gan" / "3")
    assert any("conv_down_1']['v']" in name for name in checkpoint)
    config.stages.gan.total_steps = 1
    helpers.train(config, tmp_path / "run")
    unet_file.unlink()
    config.stages.gan.total_steps = 3
    resumed = helpers.train(config, tmp_path / "run")
    jax.tree.map(np.testing.assert_array_equal, dict(resumed.variables), dict(whole.variables))
    other = helpers.read_checkpoint(tmp_path / "run" / "checkpoints" / "gan" / "3")
    jax.tree.map(np.testing.assert_array_equal, other, checkpoint)
    config.discriminator_init_from = ""
    with pytest.raises(UserError, match="was trained with config.discriminator_init_from="):
        helpers.train(config, tmp_path / "run")


def test_a_discriminator_that_does_not_fit_the_run_is_refused(tiny, dataset, tmp_path, unet_file):
    torch.save(VGG(2, 4).state_dict(), tmp_path / "vgg.pth")  # crops of 64 px
    config = _gan_config(tiny, dataset, tmp_path / "vgg.pth")
    with pytest.raises(UserError, match=r"crop_px=32: expected 64, .*; write --config.data.crop_px=64"):
        helpers.train(config, tmp_path / "run")
    config.discriminator_init_from, config.data.crop_px = str(unet_file), 36
    with pytest.raises(UserError, match="sides divisible by 8"):
        helpers.train(config, tmp_path / "run")
    config.data.crop_px, config.stage_names = 32, ("pretrain",)
    with pytest.raises(UserError, match="needs a stage with a discriminator; config.stage_names=.'pretrain',. has"):
        helpers.train(config, tmp_path / "run")
    config.discriminator_init_from = str(tmp_path / "absent.pth")
    with pytest.raises(UserError, match="no weights at .*absent.pth"):
        helpers.train(config, tmp_path / "run")
