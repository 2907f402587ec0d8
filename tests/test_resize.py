import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from srgan_jax.ops import color, resize


def test_weights_of_halving_are_the_cubic_kernel_by_hand():
    # Distances of the 8 taps from the centre are 1/4, 3/4, 5/4, 7/4 of the widened kernel. Keys' kernel, a = -1/2:
    # k(1/4) = 1.5/64 - 2.5/16 + 1 = 111/128, k(3/4) = 29/128, k(5/4) = -9/128, k(7/4) = -3/128; halved they sum to 1.
    row = resize.weight_matrix(32, 16)[8]
    expected = np.array([-3, -9, 29, 111, 111, 29, -9, -3]) / 256
    np.testing.assert_allclose(row[13:21], expected, atol=1e-15)
    assert np.count_nonzero(row) == 8


@pytest.mark.parametrize("border", ["clamp", "symmetric"])
@pytest.mark.parametrize(("before", "after"), [(32, 8), (33, 11), (8, 32), (7, 3), (5, 50), (1, 4)])
def test_rows_sum_to_one(before, after, border):
    matrix = resize.weight_matrix(before, after, "bicubic", border)
    assert matrix.shape == (after, before)
    np.testing.assert_allclose(matrix.sum(axis=1), 1.0, atol=1e-12)


def test_border_weights_by_hand():
    # The first of two output samples: at x4 downscaling the kernel extends beyond both ends of the 8 samples. There
    # clamped borders repeat the end samples, mirrored ones give the samples in reverse order.
    clamp, mirrored = (resize.weight_matrix(8, 2, border=border)[0] for border in ("clamp", "symmetric"))
    # The kernel around 1.5 extends from -6 to 9. Clamped, weights of -6..-1 fall on sample 0; mirrored, sample -1 - i
    # is sample i.
    taps = np.arange(-6, 10)
    x = np.abs(taps - 1.5) / 4
    cubic = np.where(x <= 1, 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2) / 4
    assert clamp[0] == pytest.approx(cubic[taps <= 0].sum())
    assert mirrored[0] == pytest.approx(cubic[taps == 0].sum() + cubic[taps == -1].sum())


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
def test_equals_jax_away_from_borders(scale, photo):
    hr = color.from_integers(photo[: 24 * scale, : 32 * scale] if scale == 8 else photo[:240, :432])
    size = (hr.shape[0] // scale, hr.shape[1] // scale)
    theirs = jax.image.resize(hr, (*size, 3), method="cubic", precision="highest")
    ours = resize.downscale(hr, scale, convention="C")
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours[3:-3, 3:-3], theirs[3:-3, 3:-3], atol=2e-6)


@pytest.mark.parametrize("scale", [2, 4])
def test_equals_pillow_away_from_borders_within_one_rounding_step(scale, photo):
    hr = photo[:240, :432]
    theirs = np.asarray(Image.fromarray(hr).resize((432 // scale, 240 // scale), Image.Resampling.BICUBIC))
    ours = np.asarray(color.to_uint8(resize.downscale(color.from_integers(hr), scale)))
    assert np.abs(ours[3:-3, 3:-3].astype(int) - theirs[3:-3, 3:-3]).max() <= 1


def test_conventions_differ_as_described(photo):
    hr = color.from_integers(photo[:64, :64])
    a, b, c = (np.asarray(resize.downscale(hr, 4, convention=name)) for name in "ABC")
    assert (a[2:-2, 2:-2] == b[2:-2, 2:-2]).all() and (a != b).any()  # only borders
    assert 0 < np.abs(b - c).max() <= 1 / 255 + 1e-6  # only rounding
    for result in (a, b):
        np.testing.assert_allclose(result * 255, np.round(result * 255), atol=1e-4)


def test_batches_and_gradients(photo):
    hr = color.from_integers(photo[:32, :32])
    batch = resize.downscale(jnp.stack([hr, hr[::-1]]), 4)
    assert (batch[0] == resize.downscale(hr, 4)).all()
    assert jnp.abs(jax.grad(lambda x: resize.downscale(x, 4, convention="C").sum())(hr)).max() > 0


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="multiples of 4, got 10 x 12"):
        resize.downscale(jnp.zeros((10, 12, 3)), 4)
    with pytest.raises(ValueError, match="valid: A, B, C"):
        resize.resize(jnp.zeros((8, 8, 3)), (2, 2), convention="D")


def _read_images(folder):
    files = sorted(folder.glob("*.png"))
    assert files
    return [(file.name, np.asarray(Image.open(file).convert("RGB"))) for file in files]


@pytest.mark.parametrize(
    ("name", "hr", "lr", "convention", "count"),
    [
        ("Set5", "HR", "LRx4", "A", 5),
        pytest.param("Set14", "HR", "LRx4", "A", 14, marks=pytest.mark.slow),
        pytest.param("BSD100", "HR", "LRx4", "A", 100, marks=pytest.mark.slow),
        ("Set5", "HR", "LRx4_symmetric", "B", 5),
        ("Set5", "GTmod12", "GTmod12_LRx4_float", "C", 5),
    ],
)
def test_equals_matlab(shared_data, name, hr, lr, convention, count):
    theirs = dict(_read_images(shared_data / "benchmarks" / name / lr))
    assert len(theirs) == count
    for file, image in _read_images(shared_data / "benchmarks" / name / hr):
        exact = resize.downscale(color.from_integers(image), 4, convention=convention)
        wrong = np.asarray(color.to_uint8(exact)) != theirs[file]
        if convention != "C":
            assert not wrong.any(), file
            continue
        # The reference for C was itself made in float32: two of its 140,000 values differ from the float64 result, by
        # round-off of values within 2e-6 of the middle between two integers. Ours may differ only there.
        assert wrong.sum() <= 3
        fraction = np.asarray(exact, np.float64)[wrong] * 255 % 1
        np.testing.assert_allclose(fraction, 0.5, atol=5e-5)
