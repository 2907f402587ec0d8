import jax.numpy as jnp
import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from srgan_jax.evaluation import metrics
from srgan_jax.ops import color


@pytest.fixture(scope="module")
def pair(photo):
    noise = np.random.default_rng(0).normal(0, 12, photo.shape)
    noisy = np.clip(photo + noise, 0, 255).astype(np.uint8)
    return color.from_integers(noisy)[:100, :120], color.from_integers(photo)[:100, :120]


@pytest.fixture(scope="module")
def large(photo):
    noise = np.random.default_rng(1).normal(0, 12, photo.shape)
    noisy = np.clip(photo + noise, 0, 255).astype(np.uint8)
    return color.from_integers(noisy)[50:250, 100:320], color.from_integers(photo)[50:250, 100:320]


def test_psnr_by_hand():
    hr = jnp.zeros((20, 20, 3))
    assert metrics.psnr(hr + 0.1, hr, channel="rgb") == pytest.approx(20.0, abs=1e-4)  # -10 log10(0.01)
    # Y shrinks differences of gray by 219/255: -20 log10(0.1 * 219 / 255) = 21.3221
    assert metrics.psnr(hr + 0.1, hr, channel="y") == pytest.approx(21.3221, abs=1e-3)
    assert metrics.psnr(hr, hr) == float("inf")


def test_border_is_left_out():
    hr = jnp.zeros((20, 30, 3))
    sr = jnp.full_like(hr, 0.5).at[4:-4, 4:-4].set(0.1)
    assert metrics.psnr(sr, hr, border=4, channel="rgb") == pytest.approx(20.0, abs=1e-4)
    assert metrics.psnr(sr, hr, border=3, channel="rgb") < 19.0


@pytest.mark.parametrize("border", [0, 4])
def test_psnr_and_ssim_equal_scikit_image(pair, border):
    sr, hr = (np.asarray(color.rgb_to_y(image), np.float64)[..., 0] for image in pair)
    inner = (slice(border, 100 - border), slice(border, 120 - border))
    expected = peak_signal_noise_ratio(hr[inner], sr[inner], data_range=1.0)
    assert metrics.psnr(*pair, border=border) == pytest.approx(expected, abs=1e-4)
    _, full = structural_similarity(
        sr[inner], hr[inner], gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0, full=True
    )
    assert metrics.ssim(*pair, border=border) == pytest.approx(full[5:-5, 5:-5].mean(), abs=1e-5)


NEED_WEIGHTS = {"niqe", "lpips_alex", "lpips_vgg", "vgg54", "v34"}


@pytest.mark.parametrize("name", [name for name in metrics.METRICS if name not in NEED_WEIGHTS])
def test_padding_to_a_canvas_does_not_change_the_score(large, name):
    measure = metrics.METRICS[name]
    canvas = [jnp.pad(image, ((0, 30), (0, 7), (0, 0)), mode="edge") for image in large]
    value = np.asarray(measure(*large, border=4))
    assert np.isfinite(value).all() or name == "flat"  # NaN: this image has no flat blocks
    np.testing.assert_allclose(measure(*canvas, border=4, size=(200, 220)), value, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in metrics.METRICS if name not in NEED_WEIGHTS])
def test_shapes_are_checked(name):
    with pytest.raises(ValueError, match="the same shape"):
        metrics.METRICS[name](jnp.zeros((20, 20, 3)), jnp.zeros((20, 21, 3)))


def test_channels():
    rgb = jnp.array([[[0.2, 0.4, 0.6]]])
    # 65.481 * .2 + 128.553 * .4 + 24.966 * .6 + 16 = 95.497; rounded 95
    assert float(metrics.CHANNELS["y"](rgb)[0, 0, 0]) * 255 == pytest.approx(95.497, abs=1e-3)
    assert float(metrics.CHANNELS["y8"](rgb)[0, 0, 0]) * 255 == pytest.approx(95.0, abs=1e-4)
    assert metrics.CHANNELS["gray"](jnp.full((1, 1, 3), 0.3))[0, 0, 0] == pytest.approx(0.3)


def test_ms_ssim_equals_a_numpy_implementation(large):
    """Computes the five scales in NumPy and SciPy, on MATLAB's luma."""
    from scipy.ndimage import correlate1d

    x, y = (np.asarray(color.rgb_to_y(image), np.float64)[..., 0] for image in large)
    taps = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    taps /= taps.sum()

    def blur(image):
        return correlate1d(correlate1d(image, taps, axis=0), taps, axis=1)[5:-5, 5:-5]

    result = 1.0
    for scale, weight in enumerate([0.0448, 0.2856, 0.3001, 0.2363, 0.1333]):
        mx, my = blur(x), blur(y)
        contrast = (2 * (blur(x * y) - mx * my) + 0.0009) / (blur(x * x) - mx**2 + blur(y * y) - my**2 + 0.0009)
        luminance = (2 * mx * my + 0.0001) / (mx**2 + my**2 + 0.0001)
        result *= (contrast * luminance if scale == 4 else contrast).mean() ** weight
        x, y = (i[: i.shape[0] // 2 * 2, : i.shape[1] // 2 * 2] for i in (x, y))
        x, y = ((i[::2, ::2] + i[1::2, ::2] + i[::2, 1::2] + i[1::2, 1::2]) / 4 for i in (x, y))
    assert metrics.ms_ssim(*large) == pytest.approx(result, abs=1e-4)
    assert np.isnan(metrics.ms_ssim(large[0][:150], large[1][:150]))  # 150 px leave less than a window at scale 5


def test_daala_ssim_equals_a_numpy_implementation(pair):
    """Computes dump_ssim's moments by loops over windows, on a small image."""
    from srgan_jax.evaluation.metrics.fidelity import daala_taps

    sr, hr = (image[:100, :20] for image in pair)
    x, y = (np.floor(np.asarray(color.rgb_to_y(image), np.float64)[..., 0] * 255 + 0.5) for image in (sr, hr))
    taps = daala_taps(24, 24).astype(np.float64)
    # sigma = 24 * 1.5 / 256 = 0.140625: a neighbour would weigh 256 / (sqrt(2 pi) sigma) exp(-25.3) = 7e-9, negligible.
    assert taps.tolist() == [256.0]
    big = daala_taps(256, 256)  # sigma 1.5
    assert big.sum() == 256 and len(big) == 9 and big[4] == big.max() and (big == big[::-1]).all()
    # 256 / (sqrt(2 pi) 1.5) = 68.087; times exp(-k^2 / 4.5): 54.52, 27.99, 9.21, 1.94
    assert big[5:].tolist() == [55, 28, 9, 2]
    total = weights = 0.0
    taps = daala_taps(100, 100).astype(np.float64)
    assert len(taps) == 5
    for i in range(100):
        for j in range(20):
            rows = [(k, taps[k - i + 2]) for k in range(max(i - 2, 0), min(i + 3, 100))]
            columns = [(k, taps[k - j + 2]) for k in range(max(j - 2, 0), min(j + 3, 20))]
            window = [(a * b, x[k, m], y[k, m]) for k, a in rows for m, b in columns]
            w, mx, my = (sum(v) for v in zip(*[(c, c * p, c * q) for c, p, q in window], strict=True))
            xx, yy, xy = (sum(v) for v in zip(*[(c * p * p, c * q * q, c * p * q) for c, p, q in window], strict=True))
            c1, c2 = (0.01 * 255) ** 2 * w * w, (0.03 * 255) ** 2 * w * w
            value = (2 * mx * my + c1) * (2 * (xy * w - mx * my) + c2)
            total += w * value / ((mx**2 + my**2 + c1) * (xx * w - mx**2 + yy * w - my**2 + c2))
            weights += w

    assert metrics.ssim_daala(sr, hr, channel="y8") == pytest.approx(total / weights, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Set5", {"psnr_y": 28.4318, "ssim_y": 0.8113, "ssim_daala": 0.8202, "psnr_rgb": 26.696}),
        ("Set14", {"psnr_y": 25.998, "ssim_daala": 0.7481}),  # the paper: 25.99 / .7486
        ("BSD100", {"ssim_daala": 0.6934}),  # the paper: .6935
    ],
)
def test_bicubic_has_its_published_scores(shared_data, name, expected):
    from srgan_jax.evaluation import scoring
    from srgan_jax.evaluation.pairs import read_pairs

    pairs = read_pairs(shared_data / "benchmarks" / name, 4)
    scores = scoring.mean(scoring.score(pairs, [scoring.bicubic(p.lr, 4) for p in pairs], tuple(expected)))
    for metric, value in expected.items():
        digits = len(str(value).split(".")[1])
        assert round(scores[metric], digits) == value, metric


def test_gray_files_and_rounding(shared_data):
    """Set14's "bridge" is gray: read as RGB it raises the mean by 0.094 dB. With Y rounded to 8 bits Set5 is 28.419."""
    from srgan_jax.evaluation import scoring
    from srgan_jax.evaluation.pairs import read_pairs

    def psnr(folder, keep_gray=True, **options):
        pairs = read_pairs(shared_data / "benchmarks" / folder, 4, keep_gray=keep_gray)
        results = [scoring.bicubic(pair.lr, 4) for pair in pairs]
        return scoring.mean(scoring.score(pairs, results, ("psnr_y",), **options))["psnr_y"]

    assert psnr("Set14", keep_gray=False) - psnr("Set14") == pytest.approx(0.094, abs=5e-4)
    assert psnr("Set5", round_y=True) == pytest.approx(28.419, abs=5e-4)
