"""Compares NIQE, LPIPS and VGG54 with random weights with NumPy, SciPy and PyTorch."""

import jax.numpy as jnp
import numpy as np
import pytest

from srgan_jax import cli, models, weights
from srgan_jax.evaluation import metrics
from srgan_jax.evaluation.metrics.niqe import niqe_of_luma
from srgan_jax.models.extractors import lpips
from srgan_jax.ops import color
from srgan_jax.runtime.errors import UserError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder in which the metrics look for weights."""
    monkeypatch.setenv("SRGAN_JAX_WEIGHTS", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", ["niqe", "lpips_alex", "lpips_vgg", "vgg54"])
def test_missing_weights_are_reported_with_the_command(folder, name):
    image = jnp.zeros((100, 100, 3))
    with pytest.raises(UserError, match=r"no \w+ weights at .*; get them with: .*srgan-jax port (niqe|lpips|vgg19) "):
        metrics.METRICS[name](image, image)


# ------------------------------------------------------------------------------------------------ NIQE


def _niqe_in_numpy(y, niqe_parameters):
    """Computes NIQE by the published algorithm, block by block."""
    from scipy.ndimage import convolve
    from scipy.special import gamma

    def fit(block):
        gammas = np.arange(0.2, 10.001, 0.001)
        table = gamma(2 / gammas) ** 2 / (gamma(1 / gammas) * gamma(3 / gammas))
        left = np.sqrt(np.mean(block[block < 0] ** 2))
        right = np.sqrt(np.mean(block[block > 0] ** 2))
        ratio = left / right
        target = np.mean(np.abs(block)) ** 2 / np.mean(block**2)
        target *= (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
        alpha = gammas[np.argmin((table - target) ** 2)]
        scale = np.sqrt(gamma(1 / alpha) / gamma(3 / alpha))
        return alpha, left * scale, right * scale

    features = []
    y = y[: y.shape[0] // 96 * 96, : y.shape[1] // 96 * 96].astype(np.float64)
    for side in (96, 48):
        mean = convolve(y, niqe_parameters["gaussian_window"], mode="nearest")
        spread = np.sqrt(np.abs(convolve(y * y, niqe_parameters["gaussian_window"], mode="nearest") - mean**2))
        normal = (y - mean) / (spread + 1)
        rows = []
        for i in range(0, y.shape[0], side):
            for j in range(0, y.shape[1], side):
                block = normal[i : i + side, j : j + side]
                alpha, left, right = fit(block)
                row = [alpha, (left + right) / 2]
                for shift in ((0, 1), (1, 0), (1, 1), (1, -1)):
                    alpha, left, right = fit(block * np.roll(block, shift, axis=(0, 1)))
                    row += [alpha, (right - left) * gamma(2 / alpha) / gamma(1 / alpha), left, right]
                rows.append(row)
        features.append(rows)
        from srgan_jax.ops.resize import weight_matrix

        halves = [weight_matrix(size, size // 2, border="symmetric") for size in y.shape]
        y = halves[0] @ y @ halves[1].T
    features = np.concatenate(features, axis=1)
    inverse = np.linalg.pinv((niqe_parameters["cov_pris_param"] + np.cov(features, rowvar=False)) / 2)
    difference = (niqe_parameters["mu_pris_param"] - features.mean(axis=0)).ravel()
    return np.sqrt(difference @ inverse @ difference)


@pytest.fixture
def niqe_parameters():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(36, 36)) / 6
    window = np.exp(-((np.arange(7) - 3) ** 2) / (2 * (7 / 6) ** 2))
    window = np.outer(window, window) / window.sum() ** 2
    return {"mu_pris_param": rng.normal(size=(1, 36)), "cov_pris_param": root @ root.T, "gaussian_window": window}


def test_niqe_equals_a_numpy_implementation(folder, niqe_parameters, photo):
    np.savez(folder / "public.npz", **niqe_parameters)
    assert cli.main(["port", "niqe", str(folder / "public.npz"), "--out", str(folder / "niqe.safetensors")]) == 0
    image = color.from_integers(photo)
    y = np.round(np.asarray(color.rgb_to_y(image), np.float64)[4:-4, 4:-4, 0] * 255)
    expected = _niqe_in_numpy(y, niqe_parameters)
    assert metrics.METRICS["niqe"](image, image, border=4) == pytest.approx(expected, rel=1e-6)
    flat = image.at[..., 1:].set(image[::-1, :, 1:])  # every channel counts, for gray files too
    assert metrics.METRICS["niqe"](flat, flat, border=4, channel="gray") != pytest.approx(expected, rel=1e-2)
    canvas = jnp.pad(image, ((0, 9), (0, 30), (0, 0)))
    assert metrics.METRICS["niqe"](canvas, canvas, border=4, size=(300, 448)) == pytest.approx(expected, rel=1e-6)
    with pytest.raises(UserError, match="NIQE .* 192 x 96 px .*got 92 x 192"):
        metrics.METRICS["niqe"](image[:200, :100], image[:200, :100], border=4)


def test_niqe_of_flat_areas_is_that_of_float64(niqe_parameters):
    """Gray rectangles, as in slides: their variances are 0, and in float32 differences of large squares."""
    rng = np.random.default_rng(0)
    y = np.full((192, 288), 235.0)
    for row, column in np.ndindex(12, 18):
        y[16 * row + 2 : 16 * row + 9, 16 * column + 3 : 16 * column + 12] = rng.integers(16, 236)
    assert niqe_of_luma(y, niqe_parameters) == pytest.approx(_niqe_in_numpy(y, niqe_parameters), abs=1e-4)


def test_wrong_niqe_parameters_are_reported(tmp_path, niqe_parameters, capsys):
    np.savez(tmp_path / "bad.npz", **(niqe_parameters | {"cov_pris_param": np.zeros((3, 3))}))
    assert cli.main(["port", "niqe", str(tmp_path / "bad.npz")]) == 2
    assert "cov_pris_param: expected (36, 36), found (3, 3)" in capsys.readouterr().err
    assert cli.main(["port", "niqe", str(tmp_path / "absent.npz")]) == 2


# ------------------------------------------------------------------------------------------------ LPIPS


def _torch_backbone(torch, name):
    nn = torch.nn
    if name == "alex":
        layers = [
            nn.Conv2d(3, 64, 11, 4, 2),
            nn.ReLU(),
            nn.MaxPool2d(3, 2),
            nn.Conv2d(64, 192, 5, padding=2),
            nn.ReLU(),
        ]
        layers += [nn.MaxPool2d(3, 2), nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 256, 3, padding=1)]
        layers += [nn.ReLU(), nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)]
        return nn.Sequential(*layers), (1, 4, 7, 9, 11)
    layers, channels = [], 3
    for width, count in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(count):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        layers += [nn.MaxPool2d(2)]
    return nn.Sequential(*layers), (3, 8, 15, 22, 29)


@pytest.mark.parametrize("name", ["alex", "vgg"])
def test_lpips_equals_pytorch(folder, photo, name):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (scripts/test.sh --torch)")
    torch.manual_seed(0)
    network = torch.nn.Module()
    network.features, taps = _torch_backbone(torch, name)
    widths = [layer.out_channels for layer in network.features if hasattr(layer, "out_channels")]
    widths = {"alex": widths, "vgg": [64, 128, 256, 512, 512]}[name]
    heads = {f"lin{i}.model.1.weight": torch.rand(1, width, 1, 1) for i, width in enumerate(widths)}
    torch.save(network.state_dict(), folder / "network.pth")
    torch.save(heads, folder / "heads.pth")
    files = [str(folder / "network.pth"), str(folder / "heads.pth")]
    out = str(folder / f"lpips_{name}.safetensors")
    assert cli.main(["port", "lpips", "--backbone", name, *files, "--out", out]) == 0
    rng = np.random.default_rng(0)
    hr = photo[:80, :96] / np.float32(255)
    sr = np.clip(hr + rng.normal(0, 0.1, hr.shape), 0, 1).astype(np.float32)

    def features(image):
        mean, std = (torch.tensor(v)[:, None, None] for v in ([-0.030, -0.088, -0.188], [0.458, 0.448, 0.450]))
        x = (torch.from_numpy(image.transpose(2, 0, 1)) * 2 - 1 - mean) / std
        found = []
        for index, layer in enumerate(network.features):
            x = layer(x)
            found += [x / (x.norm(dim=0, keepdim=True) + 1e-10)] if index in taps else []
        return found

    with torch.no_grad():
        pairs = zip(features(sr[4:-4, 4:-4]), features(hr[4:-4, 4:-4]), heads.values(), strict=True)
        expected = sum(((a - b) ** 2 * head[0]).sum(dim=0).mean() for a, b, head in pairs)
    measure = metrics.METRICS[f"lpips_{name}"]
    assert measure(sr, hr, border=4) == pytest.approx(float(expected), rel=1e-3)
    assert measure(hr, hr) == 0
    # The same files for the other backbone are refused.
    other = {"alex": "vgg", "vgg": "alex"}[name]
    assert cli.main(["port", "lpips", "--backbone", other, *files, "--out", out]) == 2


def test_lpips_layers_are_those_of_the_networks():
    assert len(lpips.layers_of("alex")) == 5 and len(lpips.layers_of("vgg")) == 13
    assert sum(layer.compared for layer in lpips.layers_of("vgg")) == 5
    with pytest.raises(UserError, match="unknown .*'squeeze'; valid: alex, vgg"):
        lpips.layers_of("squeeze")


# ------------------------------------------------------------------------------------------ VGG19's features


def test_vgg54_is_the_papers_content_loss(folder, vgg_file, photo):
    """With random weights; test_ports.py compares the extractor itself with reference features."""
    (folder / "vgg19.safetensors").write_bytes(vgg_file.read_bytes())
    sr, hr = (photo[top : top + 56, :72].astype(np.float32) / 255 for top in (0, 100))
    variables, _ = weights.load_extractor("vgg19", vgg_file)
    module = models.build(models.EXTRACTORS, {"name": "vgg19", "convention": "caffe"})
    inside = [module.apply(variables, image[None, 4:-4, 4:-4])["relu5_4"] / 12.75 for image in (sr, hr)]
    expected = np.square(np.asarray(inside[0], np.float64) - np.asarray(inside[1], np.float64)).mean()
    canvases = (np.pad(image, ((0, 9), (0, 5), (0, 0))) for image in (sr, hr))
    assert metrics.METRICS["vgg54"](*canvases, border=4, size=(56, 72)) == pytest.approx(expected, rel=1e-4)
    assert expected > 0 and metrics.METRICS["vgg54"](hr, hr) == 0.0
