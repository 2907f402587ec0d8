import jax
import jax.numpy as jnp
import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from srgan_jax import losses
from srgan_jax.losses import adversarial, penalties, pixel
from srgan_jax.ops import color

KEY = jax.random.key(0)


@pytest.mark.parametrize("name", losses.PIXEL)
def test_pixel_losses_are_distances(name):
    x, y = jax.random.normal(KEY, (2, 3, 4, 5, 3))
    value = losses.PIXEL[name](x, y)
    assert value.shape == (x.shape[:1] if name == "psnr" else x.shape)  # a value for each sample, for each element
    np.testing.assert_allclose(value, losses.PIXEL[name](y, x))
    lowest = losses.PIXEL[name](x, x)
    assert (value > lowest).all() and lowest.max() <= 1e-3
    gradient = jax.grad(lambda x: losses.PIXEL[name](x, y).sum())(x)
    assert (jnp.sign(gradient) == jnp.sign(x - y)).all()  # pulls towards the target everywhere


@pytest.mark.parametrize("name", losses.PIXEL)
def test_pixel_losses_refuse_to_broadcast(name):
    with pytest.raises(ValueError, match=r"got \(4,\) and \(4, 1\)"):
        losses.PIXEL[name](jnp.zeros(4), jnp.zeros((4, 1)))


def test_pixel_losses_by_hand():
    x, y = jnp.array([3.0]), jnp.array([1.0])
    assert pixel.mse(x, y) == 4.0 and pixel.l1(x, y) == 2.0
    assert pixel.charbonnier(x, y, 1.5)[0] == pytest.approx(2.5)  # sqrt(4 + 2.25)


def test_psnr_loss_is_minus_the_metric():
    hr = jax.random.uniform(KEY, (2, 24, 24, 3))
    sr = hr + jnp.array([0.01, 0.1]).reshape(2, 1, 1, 1) * jax.random.normal(jax.random.key(1), hr.shape)
    value = pixel.psnr(color.to_signed(sr), color.to_signed(hr), 1e-6)
    for index, expected in enumerate((40.0, 20.0)):
        theirs = peak_signal_noise_ratio(np.asarray(hr[index]), np.asarray(sr[index]), data_range=1)
        assert theirs == pytest.approx(expected, abs=0.5)
        assert value[index] == pytest.approx(-theirs, abs=0.012)  # epsilon is .25 % of 40 dB's squared error: .011 dB
    same = pixel.psnr(hr, hr)
    assert same == pytest.approx([-36.02, -36.02], abs=0.01)  # 10 log10(1e-3 / 4)
    assert (jax.grad(lambda x: pixel.psnr(x, hr).sum())(hr) == 0).all()


def test_psnr_loss_weighs_images_by_their_mse():
    """Errors of 0.02 and 0.2 are 40 and 20 dB at a peak of 2; the weights of their squares are as 1/.0014 to 1/.041."""
    hr = jnp.zeros((2, 4, 4, 3))
    slope = jax.grad(lambda x: pixel.psnr(x, hr).sum())(hr + jnp.array([0.02, 0.2]).reshape(2, 1, 1, 1))
    weights = slope[:, 0, 0, 0] / jnp.array([0.02, 0.2])
    assert weights[0] / weights[1] == pytest.approx(0.041 / 0.0014, rel=1e-4)  # 29.3


def test_total_variation_by_hand():
    image = jnp.array([[0.0, 4.0], [3.0, 9.0]]).reshape(1, 2, 2, 1)
    value = penalties.total_variation(image)
    assert value.shape == (1, 1, 1, 1) and value[0, 0, 0, 0] == pytest.approx(5.0)  # 3 down, 4 right
    flat = jax.grad(lambda x: penalties.total_variation(x).sum())(jnp.ones((1, 4, 4, 3)))
    assert jnp.isfinite(flat).all()


def test_other_adversarial_losses_by_hand():
    real, fake = jnp.array([[2.0], [0.0]]), jnp.array([[0.5], [-1.5]])
    # ((2 - 1)^2 + (0 - 1)^2) / 2 = 1 and (0.25 + 2.25) / 2 = 1.25, halved; (0.25 + 6.25) / 2
    assert adversarial.lsgan_discriminator(real, fake) == pytest.approx(1.125)
    assert adversarial.lsgan_generator(real, fake) == pytest.approx(3.25)
    assert adversarial.lsgan_discriminator(real, fake, 0.9) == pytest.approx((1.01 + 1.25) / 2)  # 1.1^2, 0.9^2
    assert adversarial.hinge_discriminator(real, fake) == pytest.approx(0.5 + 0.75)  # (0 + 1) / 2, (1.5 + 0) / 2
    assert adversarial.wgan_discriminator(real, fake) == pytest.approx(-0.5 - 1.0)
    assert adversarial.wgan_generator(real, fake) == pytest.approx(0.5)
    zero = jnp.zeros((2, 1))  # probabilities of a half
    assert adversarial.probability_lsgan_discriminator(zero, zero) == pytest.approx(0.25)
    # Relativistic: logits minus the mean of the others, 1 and -0.5: real 2.5 and 0.5, generated -0.5 and -2.5.
    softplus = lambda x: np.log1p(np.exp(x))  # noqa: E731
    expected = (softplus(-2.5) + softplus(-0.5)) / 2 + (softplus(-0.5) + softplus(-2.5)) / 2
    assert adversarial.relativistic_discriminator(real, fake) == pytest.approx(expected)
    expected = (softplus(2.5) + softplus(0.5)) / 2 + (softplus(0.5) + softplus(2.5)) / 2
    assert adversarial.relativistic_generator(real, fake) == pytest.approx(expected)


@pytest.mark.parametrize(("name", "threshold"), [("bce", 0.0), ("lsgan", 0.5), ("probability_lsgan", 0.0)])
def test_decision_threshold_of_losses_with_labels(name, threshold):
    logits = jnp.array([threshold - 0.1, threshold + 0.1])
    real, fake = losses.ADVERSARIAL[name].decision(logits, logits)
    assert (real > 0).tolist() == (fake > 0).tolist() == [False, True]


def test_decision_of_losses_without_labels_compares_with_the_other_mean():
    real, fake = losses.ADVERSARIAL["wgan"].decision(jnp.array([9.0, 8.0]), jnp.array([7.0, 8.6]))
    assert (real > 0).all() and (fake < 0).tolist() == [True, False]  # the means are 7.8 and 8.5


@pytest.mark.parametrize("name", losses.ADVERSARIAL)
def test_gradients_of_adversarial_losses_have_the_right_sign(name):
    loss_d, loss_g, _ = losses.ADVERSARIAL[name]
    real, fake = jnp.array([[0.3], [0.2]]), jnp.array([[0.1], [0.4]])  # between the labels
    assert loss_d(real, fake).shape == loss_g(real, fake).shape == ()
    to_real, to_fake = jax.grad(loss_d, argnums=(0, 1))(real, fake)
    assert (to_real < 0).all() and (to_fake > 0).all()  # D raises real logits, lowers generated ones
    assert (jax.grad(loss_g, argnums=1)(real, fake) < 0).all()  # G raises them


def test_bce_by_hand():
    zero = jnp.zeros((2, 1))
    assert adversarial.bce_discriminator(zero, zero) == pytest.approx(2 * np.log(2))  # -log 1/2 - log 1/2
    logit = jnp.full((2, 1), np.log(3.0))  # D = 3/4
    assert adversarial.bce_generator(zero, logit) == pytest.approx(-np.log(0.75))
    # Non-saturating: the gradient at a confidently rejected image stays near -1.
    assert jax.grad(lambda x: adversarial.bce_generator(zero, x))(jnp.full((1, 1), -20.0))[0, 0] == pytest.approx(-1.0)
