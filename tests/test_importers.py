"""Compares imported generators with PyTorch networks, built here from the sources' documented layouts."""

import numpy as np
import pytest

import srgan_jax
from srgan_jax import inference
from srgan_jax.evaluation import scoring
from srgan_jax.evaluation.pairs import read_pairs
from srgan_jax.runtime.errors import UserError
from srgan_jax.weights import importers, safetensors_io

torch = pytest.importorskip("torch", reason="PyTorch is not installed (scripts/test.sh --torch)")
nn, functional = torch.nn, torch.nn.functional
WIDTH, BLOCKS = 8, 3


class _Residual(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body_names = [name for name, _ in body]
        for name, module in body:
            setattr(self, name, module)

    def forward(self, x):
        y = x
        for name in self.body_names:
            y = getattr(self, name)(y)
        return x + y


def _norm_body(bias, epsilon=1e-5):
    conv = lambda: nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=bias)  # noqa: E731
    norm = lambda: nn.BatchNorm2d(WIDTH, epsilon)  # noqa: E731
    return conv(), norm(), nn.PReLU(), conv(), norm()


class SRGAN5(nn.Module):
    def __init__(self, norm=False):
        super().__init__()
        self.block1 = nn.Sequential(nn.Conv2d(3, WIDTH, 9, padding=4), nn.PReLU())
        for index in range(BLOCKS):
            names = ("conv1", "bn1", "prelu", "conv2", "bn2")
            setattr(self, f"block{index + 2}", _Residual(list(zip(names, _norm_body(True), strict=True))))
        after = nn.BatchNorm2d(WIDTH) if norm else nn.PReLU()
        setattr(self, f"block{BLOCKS + 2}", nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 3, padding=1), after))
        ups = []
        for _ in range(2):
            up = nn.Module()
            up.conv, up.prelu = nn.Conv2d(WIDTH, 4 * WIDTH, 3, padding=1), nn.PReLU()
            up.forward = lambda x, up=up: up.prelu(functional.pixel_shuffle(up.conv(x), 2))
            ups.append(up)
        setattr(self, f"block{BLOCKS + 3}", nn.Sequential(*ups, nn.Conv2d(WIDTH, 3, 9, padding=4)))

    def forward(self, x):
        x = first = self.block1(x)
        for index in range(2, BLOCKS + 3):
            x = getattr(self, f"block{index}")(x)
        return (torch.tanh(getattr(self, f"block{BLOCKS + 3}")(first + x)) + 1) / 2


class Lornatang(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(3, WIDTH, 9, padding=4), nn.PReLU())
        self.trunk = nn.Sequential(*[_Residual([("rcb", nn.Sequential(*_norm_body(False)))]) for _ in range(BLOCKS)])
        self.conv2 = nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False), nn.BatchNorm2d(WIDTH))
        ups = []
        for _ in range(2):
            up = nn.Module()
            up.upsample_block = nn.Sequential(nn.Conv2d(WIDTH, 4 * WIDTH, 3, padding=1), nn.PixelShuffle(2), nn.PReLU())
            up.forward = lambda x, up=up: up.upsample_block(x)
            ups.append(up)
        self.upsampling = nn.Sequential(*ups)
        self.conv3 = nn.Conv2d(WIDTH, 3, 9, padding=4)

    def forward(self, x):
        first = self.conv1(x)
        return self.conv3(self.upsampling(first + self.conv2(self.trunk(first))))


class EriklindernorenGenerator(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(3, WIDTH, 9, padding=4), nn.PReLU())
        blocks = [_Residual([("conv_block", nn.Sequential(*_norm_body(True, 0.8)))]) for _ in range(BLOCKS)]
        self.res_blocks = nn.Sequential(*blocks)
        self.conv2 = nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.BatchNorm2d(WIDTH, 0.8))
        ups = []
        for _ in range(2):
            ups += [nn.Conv2d(WIDTH, 4 * WIDTH, 3, padding=1), nn.BatchNorm2d(4 * WIDTH)]
            ups += [nn.PixelShuffle(2), nn.PReLU()]
        self.upsampling = nn.Sequential(*ups)
        self.conv3 = nn.Sequential(nn.Conv2d(WIDTH, 3, 9, padding=4), nn.Tanh())

    def forward(self, x):
        mean, std = (torch.tensor(v)[None, :, None, None] for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
        first = self.conv1((x - mean) / std)
        return self.conv3(self.upsampling(first + self.conv2(self.res_blocks(first)))) * std + mean


class BasicSRMSRResNet(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.scale = scale
        conv = lambda i, o: nn.Conv2d(i, o, 3, 1, 1)  # noqa: E731
        self.conv_first = conv(3, WIDTH)
        names = lambda: [("conv1", conv(WIDTH, WIDTH)), ("relu", nn.ReLU()), ("conv2", conv(WIDTH, WIDTH))]  # noqa: E731
        self.body = nn.Sequential(*[_Residual(names()) for _ in range(BLOCKS)])
        self.upconv1 = conv(WIDTH, WIDTH * (9 if scale == 3 else 4))
        if scale == 4:
            self.upconv2 = conv(WIDTH, WIDTH * 4)
        self.conv_hr, self.conv_last = conv(WIDTH, WIDTH), conv(WIDTH, 3)

    def forward(self, x):
        leaky = lambda x: functional.leaky_relu(x, 0.1)  # noqa: E731
        y = self.body(leaky(self.conv_first(x)))
        y = leaky(functional.pixel_shuffle(self.upconv1(y), 3 if self.scale == 3 else 2))
        if self.scale == 4:
            y = leaky(functional.pixel_shuffle(self.upconv2(y), 2))
        base = functional.interpolate(x, scale_factor=self.scale, mode="bilinear", align_corners=False)
        return self.conv_last(leaky(self.conv_hr(y))) + base


NETWORKS = {
    "srgan5": SRGAN5,
    "srgan5 since 2019": lambda: SRGAN5(norm=True),
    "lornatang": Lornatang,
    "eriklindernoren": EriklindernorenGenerator,
    "basicsr-msrresnet": lambda: BasicSRMSRResNet(4),
    "basicsr-msrresnet x2": lambda: BasicSRMSRResNet(2),
    "basicsr-msrresnet x3": lambda: BasicSRMSRResNet(3),
}


def _network(name):
    """Returns a network with random slopes and statistics, as default values could hide an error."""
    torch.manual_seed(0)
    network = NETWORKS[name]().eval()
    for key, value in network.state_dict().items():
        if "running_var" in key:
            value.uniform_(0.5, 2.0)
        elif "running_mean" in key or value.ndim == 1:
            value.add_(0.2 * torch.randn_like(value))
    return network


@pytest.mark.parametrize("name", NETWORKS)
def test_imported_generator_equals_pytorch(name, tmp_path):
    network = _network(name)
    torch.save({"params": network.state_dict()}, tmp_path / "theirs.pth")
    ours, provenance = importers.import_with_provenance(tmp_path / "theirs.pth")
    assert provenance["source"] == name.split()[0]
    assert (ours.architecture["blocks"], ours.architecture["width"]) == (BLOCKS, WIDTH)
    lr = np.random.default_rng(0).random((1, 12, 10, 3), np.float32)
    with torch.no_grad():
        theirs = network(torch.from_numpy(lr.transpose(0, 3, 1, 2))).numpy().transpose(0, 2, 3, 1)
    raw = ours.module().apply(ours.variables, lr)
    np.testing.assert_allclose(raw, theirs, atol=2e-5)
    srgan_jax.save(tmp_path / "ours.safetensors", ours)
    again = srgan_jax.load(tmp_path / "ours.safetensors")
    np.testing.assert_allclose(srgan_jax.upscale(again, lr), np.clip(theirs, 0, 1), atol=2e-5)


def test_missing_and_surplus_tensors_are_listed(tmp_path):
    state = _network("lornatang").state_dict()
    state.pop("trunk.1.rcb.3.weight")
    torch.save(state, tmp_path / "missing.pth")
    with pytest.raises(UserError, match=r"missing params/block_01_conv_2/kernel \(3, 3, 8, 8\)"):
        importers.import_generator(tmp_path / "missing.pth", "lornatang")
    state = _network("lornatang").state_dict() | {"extra.weight": torch.zeros(2, 3)}
    torch.save(state, tmp_path / "surplus.pth")
    with pytest.raises(UserError, match=r"surplus extra.weight \(2, 3\)"):
        importers.import_generator(tmp_path / "surplus.pth", "lornatang")
    with pytest.raises(UserError, match="missing conv_first.weight.*conv1.0.weight"):
        importers.import_generator(tmp_path / "surplus.pth", "basicsr-msrresnet")
    with pytest.raises(UserError, match="unknown source 'esrgan'; valid: basicsr-msrresnet, "):
        importers.import_generator(tmp_path / "surplus.pth", "esrgan")
    with pytest.raises(UserError, match="no such file"):
        importers.import_generator(tmp_path / "absent.pth", "srgan5")


def test_the_error_names_another_source_that_fits(tmp_path):
    safetensors_io.write_tensors(
        tmp_path / "a.safetensors", {name: value.numpy() for name, value in _network("srgan5").state_dict().items()}, {}
    )
    for other in ("lornatang", "eriklindernoren", "basicsr-msrresnet"):
        with pytest.raises(
            UserError, match=rf"a.safetensors is not laid out as {other} \(--from srgan5 fits\): missing"
        ):
            importers.import_generator(tmp_path / "a.safetensors", other)
    safetensors_io.write_tensors(tmp_path / "b.safetensors", {"blocks.0.weight": np.zeros((3, 3), np.float32)}, {})
    for source in importers.IMPORTERS:
        others = ", ".join(name for name in importers.IMPORTERS if name != source)
        with pytest.raises(UserError, match=rf"not laid out as {source} \(other sources: {others}\): "):
            importers.import_generator(tmp_path / "b.safetensors", source)


def test_errors_of_unreadable_files_give_no_unsafe_advice(tmp_path, photo):
    srgan_jax.write_image(tmp_path / "photo.jpg", photo)
    (tmp_path / "cut.pth").write_bytes(b"PK\x03\x04 and no more")
    (tmp_path / "text.pth").write_text("not a checkpoint")
    for name in ("photo.jpg", "cut.pth", "text.pth"):
        with pytest.raises(UserError, match=f"{name} can't be read safely: ") as caught:
            importers.import_generator(tmp_path / name, "srgan5")
        assert "weights_only" not in str(caught.value)


def test_pickles_are_not_executed(tmp_path):
    class MaliciousPickle:
        def __reduce__(self):
            return (open, (str(tmp_path / "executed"), "w"))

    torch.save({"conv1.0.weight": MaliciousPickle()}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="safely: expected only tensors"):
        importers.import_generator(tmp_path / "evil.pth", "srgan5")
    assert not (tmp_path / "executed").exists()


@pytest.fixture(scope="module")
def srgan5(shared_data):
    return importers.import_generator(shared_data / "checkpoints" / "srgan5_x4.pth", "srgan5")


def test_published_generator_gives_its_reference_outputs(srgan5, shared_data):
    with np.load(shared_data / "checkpoints" / "srgan5_x4_golden.npz") as golden:
        for name in ("butterfly", "woman"):
            lr = golden[f"{name}_lr_uint8"][None] / np.float32(255)
            raw = srgan5.module().apply(srgan5.variables, lr)[0]
            np.testing.assert_allclose(raw, golden[f"{name}_raw_output_hwc_f32"], atol=1e-4)


@pytest.mark.slow
def test_published_generator_has_its_published_scores(srgan5, shared_data):
    """Y-PSNR 30.701 dB, SSIM 0.8633 and 28.814 dB in RGB on Set5, computed by another program."""
    pairs = read_pairs(shared_data / "benchmarks" / "Set5", 4)
    results = scoring.upscale_all(lambda lr, size: inference.upscale_canvas(srgan5, lr, size), pairs)
    scores = scoring.mean(scoring.score(pairs, results, ("psnr_y", "ssim_y", "psnr_rgb")))
    assert {name: round(value, 4 if name == "ssim_y" else 3) for name, value in scores.items()} == {
        "psnr_y": 30.701,
        "ssim_y": 0.8633,
        "psnr_rgb": 28.814,
    }
