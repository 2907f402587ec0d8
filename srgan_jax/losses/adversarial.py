"""Adversarial losses: each takes D's logits on real and on generated images, of any shape: one an image, or a map."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import nn

from srgan_jax.runtime.errors import UserError


# Each takes the discriminator's logits on real and on generated pictures, of any shape: one a picture, or a map.
def bce_discriminator(real_logits: jax.Array, fake_logits: jax.Array, real_label: float = 1.0) -> jax.Array:
    """`-log D(real) - log(1 - D(fake))` on logits, mean over everything: a scalar (SRGAN, equation 2)."""
    real = optax.sigmoid_binary_cross_entropy(real_logits, jnp.full_like(real_logits, real_label))
    fake = optax.sigmoid_binary_cross_entropy(fake_logits, jnp.zeros_like(fake_logits))
    return real.mean() + fake.mean()


def bce_generator(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """The non-saturating `-log D(fake)` on logits, mean over everything: a scalar (SRGAN, equation 6)."""
    del real_logits  # relativistic losses need it
    return optax.sigmoid_binary_cross_entropy(fake_logits, jnp.ones_like(fake_logits)).mean()


def lsgan_discriminator(real_logits: jax.Array, fake_logits: jax.Array, real_label: float = 1.0) -> jax.Array:
    """`((D(real) - 1)^2 + D(fake)^2) / 2` with a linear output: a scalar (Mao et al., arXiv 1611.04076, equation 9)."""
    return (jnp.square(real_logits - real_label).mean() + jnp.square(fake_logits).mean()) / 2


def lsgan_generator(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """`(D(fake) - 1)^2` with a linear output: a scalar. As implementations have it, without the paper's half."""
    del real_logits
    return jnp.square(fake_logits - 1.0).mean()


def probability_lsgan_discriminator(
    real_logits: jax.Array, fake_logits: jax.Array, real_label: float = 1.0
) -> jax.Array:
    """Least squares on the probabilities `sigmoid(logits)`: a scalar."""
    return lsgan_discriminator(nn.sigmoid(real_logits), nn.sigmoid(fake_logits), real_label)


def wgan_discriminator(real_logits: jax.Array, fake_logits: jax.Array, real_label: float = 1.0) -> jax.Array:
    """`D(fake) - D(real)`: a scalar (arXiv 1701.07875); wants a gradient penalty (arXiv 1704.00028)."""
    _reject_label_smoothing(real_label)
    return fake_logits.mean() - real_logits.mean()


def wgan_generator(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """`-D(fake)`: a scalar."""
    del real_logits
    return -fake_logits.mean()


def hinge_discriminator(real_logits: jax.Array, fake_logits: jax.Array, real_label: float = 1.0) -> jax.Array:
    """`max(0, 1 - D(real)) + max(0, 1 + D(fake))`: a scalar (Lim & Ye, arXiv 1705.02894)."""
    _reject_label_smoothing(real_label)
    return nn.relu(1.0 - real_logits).mean() + nn.relu(1.0 + fake_logits).mean()


def _relative_logits(real_logits: jax.Array, fake_logits: jax.Array) -> tuple[jax.Array, jax.Array]:
    return real_logits - fake_logits.mean(), fake_logits - real_logits.mean()


def relativistic_discriminator(real_logits: jax.Array, fake_logits: jax.Array, real_label: float = 1.0) -> jax.Array:
    """Relativistic average GAN: BCE on each logit minus the mean of the others (arXiv 1807.00734; ESRGAN, equation 1).

    A scalar. Under pmap the means are those of a device's share of the batch.
    """
    real, fake = _relative_logits(real_logits, fake_logits)
    return bce_discriminator(real, fake, real_label)


def relativistic_generator(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """The same with the labels exchanged (ESRGAN, arXiv 1809.00219, equation 2): a scalar."""
    real, fake = _relative_logits(real_logits, fake_logits)
    return bce_discriminator(fake, real)


def _reject_label_smoothing(real_label: float) -> None:
    if real_label != 1.0:
        raise UserError("this adversarial loss has no labels to smooth; set label_smoothing to 0, or use bce or lsgan")


def _subtract_half(real_logits: jax.Array, fake_logits: jax.Array) -> tuple[jax.Array, jax.Array]:
    return real_logits - 0.5, fake_logits - 0.5


Decision = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


class Adversarial(NamedTuple):
    """An adversarial loss.

    Attributes:
      discriminator: `(real_logits, fake_logits, real_label) -> scalar`.
      generator: `(real_logits, fake_logits) -> scalar`.
      decision: `(real_logits, fake_logits)` to the same, positive where the discriminator takes an image for real.
    """

    discriminator: Callable[..., jax.Array]
    generator: Callable[[jax.Array, jax.Array], jax.Array]
    decision: Decision = lambda real_logits, fake_logits: (real_logits, fake_logits)


ADVERSARIAL = {
    "bce": Adversarial(bce_discriminator, bce_generator),
    "lsgan": Adversarial(lsgan_discriminator, lsgan_generator, _subtract_half),
    "probability_lsgan": Adversarial(probability_lsgan_discriminator, bce_generator),
    "hinge": Adversarial(hinge_discriminator, wgan_generator),
    "wgan": Adversarial(wgan_discriminator, wgan_generator, _relative_logits),
    "relativistic": Adversarial(relativistic_discriminator, relativistic_generator, _relative_logits),
}
