import jax
import jax.numpy as jnp
import numpy as np
import pytest

from srgan_jax import losses

KEY = jax.random.key(0)


@pytest.mark.parametrize("name", losses.PIXEL)
def test_pixel_losses_are_elementwise_distances(name):
    x, y = jax.random.normal(KEY, (2, 3, 4, 5, 3))
    value = losses.PIXEL[name](x, y)
    assert value.shape == x.shape
    np.testing.assert_allclose(value, losses.PIXEL[name](y, x))
    assert value.min() >= 0 and losses.PIXEL[name](x, x).max() <= 1e-3
    gradient = jax.grad(lambda x: losses.PIXEL[name](x, y).sum())(x)
    assert (jnp.sign(gradient) == jnp.sign(x - y)).all()  # pulls towards the target everywhere


@pytest.mark.parametrize("name", losses.PIXEL)
def test_pixel_losses_refuse_to_broadcast(name):
    with pytest.raises(ValueError, match=r"got \(4,\) and \(4, 1\)"):
        losses.PIXEL[name](jnp.zeros(4), jnp.zeros((4, 1)))


def test_pixel_losses_by_hand():
    x, y = jnp.array([3.0]), jnp.array([1.0])
    assert losses.mse(x, y) == 4.0 and losses.l1(x, y) == 2.0
    assert losses.charbonnier(x, y, 1.5)[0] == pytest.approx(2.5)  # sqrt(4 + 2.25)


def test_total_variation_by_hand():
    image = jnp.array([[0.0, 4.0], [3.0, 9.0]]).reshape(1, 2, 2, 1)
    value = losses.total_variation(image)
    assert value.shape == (1, 1, 1, 1) and value[0, 0, 0, 0] == pytest.approx(5.0)  # 3 down, 4 right
    flat = jax.grad(lambda x: losses.total_variation(x).sum())(jnp.ones((1, 4, 4, 3)))
    assert jnp.isfinite(flat).all()


@pytest.mark.parametrize("name", losses.ADVERSARIAL)
def test_adversarial_losses_pull_the_right_way(name):
    loss_d, loss_g, _ = losses.ADVERSARIAL[name]
    real, fake = jnp.array([[0.3], [-0.2]]), jnp.array([[0.1], [-0.4]])
    assert loss_d(real, fake).shape == loss_g(real, fake).shape == ()
    to_real, to_fake = jax.grad(loss_d, argnums=(0, 1))(real, fake)
    assert (to_real < 0).all() and (to_fake > 0).all()  # D raises real logits, lowers generated ones
    assert (jax.grad(loss_g, argnums=1)(real, fake) < 0).all()  # G raises them


def test_bce_by_hand():
    zero = jnp.zeros((2, 1))
    assert losses.bce_discriminator(zero, zero) == pytest.approx(2 * np.log(2))  # -log 1/2 - log 1/2
    logit = jnp.full((2, 1), np.log(3.0))  # D = 3/4
    assert losses.bce_generator(zero, logit) == pytest.approx(-np.log(0.75))
    # Non-saturating: the gradient at a confidently rejected picture stays near -1.
    assert jax.grad(lambda x: losses.bce_generator(zero, x))(jnp.full((1, 1), -20.0))[0, 0] == pytest.approx(-1.0)
