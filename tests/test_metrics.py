import jax.numpy as jnp
import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from srgan_jax import color, metrics


@pytest.fixture(scope="module")
def pair(photo):
    noise = np.random.default_rng(0).normal(0, 12, photo.shape)
    noisy = np.clip(photo + noise, 0, 255).astype(np.uint8)
    return color.from_uint8(noisy)[:100, :120], color.from_uint8(photo)[:100, :120]


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
def test_equals_scikit_image(pair, border):
    sr, hr = (np.asarray(color.rgb_to_y(image), np.float64)[..., 0] for image in pair)
    inner = (slice(border, 100 - border), slice(border, 120 - border))
    expected = peak_signal_noise_ratio(hr[inner], sr[inner], data_range=1.0)
    assert metrics.psnr(*pair, border=border) == pytest.approx(expected, abs=1e-4)
    _, full = structural_similarity(
        sr[inner], hr[inner], gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=1.0, full=True
    )
    assert metrics.ssim(*pair, border=border) == pytest.approx(full[5:-5, 5:-5].mean(), abs=1e-5)


@pytest.mark.parametrize("name", metrics.METRICS)
def test_a_larger_canvas_changes_nothing(pair, name):
    measure = metrics.METRICS[name]
    canvas = [jnp.pad(image, ((0, 30), (0, 7), (0, 0)), mode="edge") for image in pair]
    assert measure(*canvas, border=4, size=(100, 120)) == pytest.approx(float(measure(*pair, border=4)), abs=1e-4)


@pytest.mark.parametrize("name", metrics.METRICS)
def test_shapes_are_checked(name):
    with pytest.raises(ValueError, match="one shape"):
        metrics.METRICS[name](jnp.zeros((20, 20, 3)), jnp.zeros((20, 21, 3)))
