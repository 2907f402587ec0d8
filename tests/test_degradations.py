import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage, special

from srgan_jax.degradations import DEGRADATIONS, filters
from srgan_jax.degradations import photo as photo_
from srgan_jax.degradations.jpeg import jpeg, jpeg_unaligned
from srgan_jax.degradations.second_order import add_noise, random_factor
from srgan_jax.ops import color, resize

KEYS = jax.random.split(jax.random.key(7), 4)
RANDOM = ("photo", "second_order")


@pytest.fixture(scope="module")
def hr(photo):  # `photo` is the fixture, not the degradation
    return color.from_integers(photo[40:168, 60:188])


@pytest.fixture(scope="module")
def results(hr):
    """LR images of one HR image by each degradation with four keys."""
    return {
        name: np.asarray(jax.jit(jax.vmap(lambda key, d=d: d.degrade(key, hr, scale=4)))(KEYS))
        for name, d in DEGRADATIONS.items()
    }


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_degradations_give_eight_bit_lr(name, hr, results):
    lr = results[name]
    assert lr.shape == (4, 32, 32, 3) and lr.min() >= 0 and lr.max() <= 1
    np.testing.assert_allclose(lr * 255, np.round(lr * 255), atol=1e-3)
    smooth = np.asarray(hr).reshape(32, 4, 32, 4, 3).mean(axis=(1, 3))
    assert np.abs(lr - smooth).mean() < 0.1


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_randomness_comes_from_the_key_alone(name, hr, results):
    lr = results[name]
    again = jax.jit(lambda key: DEGRADATIONS[name].degrade(key, hr, scale=4))(KEYS[1])
    assert np.abs(again - lr[1]).mean() < 1e-4  # vmap gives each sample its own key
    assert all((lr[0] != other).any() == (name in RANDOM) for other in lr[1:])


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_pixels_beyond_the_margin_do_not_change_the_lr_crop(name, photo):
    """Whatever lies further away than `radius_px` of a crop doesn't change the crop's LR image."""
    degrade, radius_px = DEGRADATIONS[name].degrade, DEGRADATIONS[name].radius_px
    margin, far, crop = -(-radius_px(scale=4) // 4) * 4, 16, 32
    side = crop + 2 * (margin + far)
    image = np.resize(np.asarray(color.from_integers(photo)), (300, 448, 3))
    image = np.pad(image, ((0, 60), (0, 0), (0, 0)), mode="reflect")[:side, :side]
    other = np.ones_like(image) * 0.5
    other[far:-far, far:-far] = image[far:-far, far:-far]
    keys = KEYS if name == "photo" else KEYS[:1]  # each key has other offsets of JPEG's blocks
    degrade_all = jax.jit(jax.vmap(jax.vmap(lambda key, hr: degrade(key, hr, scale=4), (0, None)), (None, 0)))
    lr = degrade_all(keys, jnp.stack([image, other]))
    inside = slice((margin + far) // 4, (margin + far + crop) // 4)
    assert (lr[0] != lr[1]).any()
    difference = np.abs(lr[0] - lr[1])[:, inside, inside]
    assert difference.mean() < 0.5 / 255 if name == "second_order" else not difference.any()


def test_gaussian_blur_equals_opencv(hr):
    """A 5-tap Gaussian of sigma 4, then bilinear at the centre of each 4 x 4: the mean of its inner 2 x 2."""
    taps = np.exp(-0.5 * np.arange(-2, 3) ** 2 / 16)
    blurred = np.asarray(hr, np.float64)
    for axis in (0, 1):
        blurred = ndimage.correlate1d(blurred, taps / taps.sum(), axis=axis, mode="nearest")
    expected = blurred.reshape(32, 4, 32, 4, 3)[:, 1:3, :, 1:3].mean(axis=(1, 3))
    lr = DEGRADATIONS["gaussian_blur"].degrade(KEYS[0], hr, scale=4)
    assert np.abs(lr - expected)[1:-1, 1:-1].max() < 0.51 / 255


@pytest.mark.parametrize("quality", [30, 75, 95])
@pytest.mark.parametrize("subsampling", [True, False])
def test_jpeg_is_close_to_pillow(photo, quality, subsampling):
    image = photo[20:131, 30:205]  # sides are no multiples of a block
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality, subsampling=2 if subsampling else 0)
    theirs = np.asarray(Image.open(file)).astype(float)
    ours = np.asarray(jax.jit(jpeg, static_argnames="subsampling")(image / 255, quality, subsampling=subsampling)) * 255
    difference = np.abs(ours - theirs)
    assert np.abs(image - theirs).mean() > 4 * difference.mean()  # JPEG's error is far larger than our difference
    assert difference.mean() < 0.5 and np.quantile(difference, 0.999) <= 9  # of 255


@pytest.mark.parametrize("subsampling", [True, False])
def test_jpeg_rounds_the_ties_of_flat_tiles_as_libjpeg(subsampling):
    """At quality 5 luma's first step is 160: a tile's coefficient is 8 (v - 128), and 80, 240, ... are ties."""
    tiles = np.kron(np.arange(256, dtype=np.uint8).reshape(16, 16), np.ones((16, 16), np.uint8))
    image = np.repeat(tiles[..., None], 3, axis=-1)
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=5, subsampling=2 if subsampling else 0)
    ours = np.asarray(jax.jit(jpeg, static_argnames="subsampling")(image / 255, 5, subsampling=subsampling)) * 255
    np.testing.assert_allclose(ours, np.asarray(Image.open(file)), atol=0.01)


def test_jpeg_passes_gradients(hr):
    image = hr[:32, :32] * 0.8 + 0.1
    gradient = jax.jit(jax.grad(lambda x: jpeg(x, 50.0).sum()))(image)
    # Colour conversion, DCT and subsampling keep sums, and rounding has the gradient of the identity.
    np.testing.assert_allclose(gradient.sum(), image.size, rtol=0.02)
    poor, good = (jax.jit(jpeg)(image, jnp.float32(quality)) for quality in (20.0, 90.0))
    assert jnp.abs(poor - image).mean() > jnp.abs(good - image).mean()


def test_jpeg_blocks_start_at_random_offsets(hr):
    shifted = jax.jit(lambda key: jpeg_unaligned(key, hr[:24, :20], 30.0))
    different = {np.asarray(shifted(key)).tobytes() for key in jax.random.split(KEYS[0], 12)}
    assert len(different) > 8


def test_blur_equals_scipy(hr):
    kernel = filters.gaussian_kernel(9, 2.0, 0.8, 0.5)
    ours = filters.blur(hr, kernel)
    theirs = [ndimage.correlate(np.asarray(hr[..., c], np.float64), kernel, mode="nearest") for c in range(3)]
    np.testing.assert_allclose(ours, np.stack(theirs, axis=-1), atol=1e-5)


def test_kernels_by_hand():
    y, x = np.mgrid[-3:4, -3:4]
    turned_x, turned_y = np.cos(0.3) * x + np.sin(0.3) * y, np.cos(0.3) * y - np.sin(0.3) * x
    power = ((turned_x / 2) ** 2 + turned_y**2) ** 0.7
    for plateau, expected in ((0.0, np.exp(-0.5 * power)), (1.0, 1 / (1 + power))):
        ours = filters.gaussian_kernel(7, 2.0, 1.0, 0.3, beta=0.7, plateau=plateau)
        np.testing.assert_allclose(ours, expected / expected.sum(), atol=1e-6)
    radius = np.hypot(x, y) + (x == 0) * (y == 0)
    sinc = np.where((x == 0) & (y == 0), 1.2**2 / (4 * np.pi), 1.2 * special.j1(1.2 * radius) / (2 * np.pi * radius))
    np.testing.assert_allclose(filters.sinc_kernel(7, 1.2), sinc / sinc.sum(), atol=1e-6)
    still = filters.gaussian_kernel(5, 0.0, 0.0)
    assert still[2, 2] == pytest.approx(1.0)


@pytest.mark.parametrize("kernel", ["bicubic", "bilinear"])
@pytest.mark.parametrize(("before", "after"), [(40, 10), (12, 30)])
def test_resizing_by_a_traced_factor_equals_the_matrices_of_matlab(kernel, before, after):
    ours = jax.jit(filters.resize_matrix, static_argnums=(0, 1, 2))(kernel, before, after, after / before)
    inner = slice(6, -6) if after > before else slice(3, -3)
    np.testing.assert_allclose(ours[inner], resize.weight_matrix(before, after, kernel)[inner], atol=1e-6)


def test_area_is_the_mean():
    np.testing.assert_allclose(filters.resize_matrix("area", 12, 3, 0.25), np.repeat(np.eye(3), 4, axis=1) / 4)


def test_a_smaller_image_lies_in_the_middle_of_its_canvas():
    ramp = jnp.arange(20.0)
    shrunk = filters.resize_matrix("bilinear", 20, 20, 0.5) @ ramp  # ten samples, five more to each side
    np.testing.assert_allclose(shrunk[6:14], np.arange(20.0).reshape(10, 2).mean(axis=1)[1:9], rtol=1e-5)
    assert (shrunk[:5] == shrunk[0]).all() and (shrunk[-5:] == shrunk[-1]).all()


def test_photo_follows_its_ranges(hr):
    """Without blur and noise and with the best quality it only downscales; its noise has the requested std."""
    degrade_photo = jax.jit(photo_, static_argnames=("scale", "kernels"))  # of traced ranges
    still = {"blur_sigma_px": (0.0, 0.0), "noise": (0.0, 0.0), "jpeg_quality": (100.0, 100.0), "jpeg_share": 1.0}
    plain = degrade_photo(KEYS[0], hr, scale=4, kernels=("area",), **still)
    mean = np.asarray(hr).reshape(32, 4, 32, 4, 3).mean(axis=(1, 3))
    assert np.abs(plain - mean).mean() < 2.5 / 255  # chroma is subsampled nevertheless
    gray = jnp.full((128, 128, 3), 0.5)
    noisy = degrade_photo(KEYS[0], gray, scale=4, **still | {"noise": (5 / 255, 5 / 255)})
    luma = np.asarray(noisy) @ [0.299, 0.587, 0.114]
    assert luma.std() * 255 == pytest.approx(5 * np.sqrt(0.299**2 + 0.587**2 + 0.114**2), rel=0.1)
    soft = degrade_photo(KEYS[0], hr, scale=4, **still | {"blur_sigma_px": (1.5, 1.5)})
    sharp = degrade_photo(KEYS[0], hr, scale=4, **still)
    assert np.abs(np.diff(soft, axis=0)).mean() < np.abs(np.diff(sharp, axis=0)).mean()


def test_the_configured_fraction_of_photos_is_saved_as_jpeg(hr):
    still = {"blur_sigma_px": (0.0, 0.0), "noise": (0.0, 0.0), "kernels": ("area",)}
    small, mean = hr[:32, :32], np.asarray(hr[:32, :32]).reshape(8, 4, 8, 4, 3).mean(axis=(1, 3))
    keys = jax.random.split(KEYS[0], 400)
    degrade_all = lambda **more: jax.jit(jax.vmap(lambda key: photo_(key, small, scale=4, **still, **more)))(keys)  # noqa: E731
    lr = degrade_all()
    as_it_was = np.abs(np.asarray(lr) - mean).max(axis=(1, 2, 3)) <= 0.501 / 255
    assert as_it_was.mean() == pytest.approx(0.25, abs=0.07)  # the std of the fraction of 400 draws is .022
    same = degrade_all(jpeg_share=1.0)
    np.testing.assert_array_equal(lr[~as_it_was], same[~as_it_was])  # the JPEG images equal those of the same key


def test_resize_factors_of_second_order():
    keys = jax.random.split(KEYS[0], 3000)
    factors = jax.vmap(lambda key: random_factor(key, (0.2, 0.7, 0.1), (0.15, 1.5)))(keys)
    # Standard deviations over 3,000 draws: below .009 each.
    assert float((factors > 1).mean()) == pytest.approx(0.2, abs=0.03)
    assert float((factors == 1).mean()) == pytest.approx(0.1, abs=0.03)
    assert 0.15 <= factors.min() < 0.2 and 1.4 < factors.max() <= 1.5


def test_poisson_noise_grows_with_brightness():
    image = jnp.concatenate([jnp.full((64, 64, 3), 0.1), jnp.full((64, 64, 3), 0.9)])
    noise = jax.vmap(lambda key: add_noise(key, image, (0.0, 0.0), (2.0, 2.0), 0.0))(KEYS) - image
    poisson_noise = [n for n in np.asarray(noise) if n.any()]  # the other keys drew Gaussian noise, of std 0
    assert poisson_noise
    for found in poisson_noise:  # 2 * sqrt(value / 255)
        assert found[:64].std() == pytest.approx(2 * np.sqrt(0.1 / 255), rel=0.05)
        assert found[64:].std() == pytest.approx(2 * np.sqrt(0.9 / 255), rel=0.05)
