"""Adversarial losses of the discriminator's logits on real and on generated images.

Logits have any shape: one logit for each image, or a map. D is the discriminator.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import nn

from srgan_jax.runtime.errors import UserError


def bce_discriminator(real_logits: jax.Array, fake_logits: jax.Array, real_label: float = 1.0) -> jax.Array:
    """Returns the mean of `-log D(real) - log(1 - D(fake))` on logits: a scalar (SRGAN, equation 2)."""
    real = optax.sigmoid_binary_cross_entropy(real_logits, jnp.full_like(real_logits, real_label))
    fake = optax.sigmoid_binary_cross_entropy(fake_logits, jnp.zeros_like(fake_logits))
    return real.mean() + fake.mean()


def bce_generator(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """Returns the mean of the non-saturating loss `-log D(fake)` on logits: a scalar (SRGAN, equation 6)."""
    del real_logits  # only relativistic losses use it
    return optax.sigmoid_binary_cross_entropy(fake_logits, jnp.ones_like(fake_logits)).mean()


def lsgan_discriminator(real_logits: jax.Array, fake_logits: jax.Array, real_label: float = 1.0) -> jax.Array:
    """Returns the mean of `((D(real) - 1)^2 + D(fake)^2) / 2` with a linear output: a scalar.

    Mao et al., arXiv 1611.04076, equation 9.
    """
    return (jnp.square(real_logits - real_label).mean() + jnp.square(fake_logits).mean()) / 2


def lsgan_generator(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """Returns the mean of `(D(fake) - 1)^2` with a linear output: a scalar.

    The paper's factor 1/2 is left out, as in common implementations.
    """
    del real_logits
    return jnp.square(fake_logits - 1.0).mean()


def probability_lsgan_discriminator(
    real_logits: jax.Array, fake_logits: jax.Array, real_label: float = 1.0
) -> jax.Array:
    """Returns the least squares loss of the probabilities `sigmoid(logits)`: a scalar."""
    return lsgan_discriminator(nn.sigmoid(real_logits), nn.sigmoid(fake_logits), real_label)


def wgan_discriminator(real_logits: jax.Array, fake_logits: jax.Array, real_label: float = 1.0) -> jax.Array:
    """Returns the mean of `D(fake) - D(real)`: a scalar (arXiv 1701.07875).

    Use it with a gradient penalty (arXiv 1704.00028).
    """
    _reject_label_smoothing(real_label)
    return fake_logits.mean() - real_logits.mean()


def wgan_generator(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """Returns the mean of `-D(fake)`: a scalar."""
    del real_logits
    return -fake_logits.mean()


def hinge_discriminator(real_logits: jax.Array, fake_logits: jax.Array, real_label: float = 1.0) -> jax.Array:
    """Returns the mean of `max(0, 1 - D(real)) + max(0, 1 + D(fake))`: a scalar (Lim & Ye, arXiv 1705.02894)."""
    _reject_label_smoothing(real_label)
    return nn.relu(1.0 - real_logits).mean() + nn.relu(1.0 + fake_logits).mean()


def _relative_logits(real_logits: jax.Array, fake_logits: jax.Array) -> tuple[jax.Array, jax.Array]:
    return real_logits - fake_logits.mean(), fake_logits - real_logits.mean()


def relativistic_discriminator(real_logits: jax.Array, fake_logits: jax.Array, real_label: float = 1.0) -> jax.Array:
    """Returns the loss of the relativistic average GAN: a scalar (arXiv 1807.00734; ESRGAN, equation 1).

    The loss is BCE on each logit minus the mean logit of the other class of images. Under pmap each device computes
    the mean over its own part of the batch.
    """
    real, fake = _relative_logits(real_logits, fake_logits)
    return bce_discriminator(real, fake, real_label)


def relativistic_generator(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """Returns the same loss with real and fake labels exchanged: a scalar (ESRGAN, arXiv 1809.00219, equation 2)."""
    real, fake = _relative_logits(real_logits, fake_logits)
    return bce_discriminator(fake, real)


def _reject_label_smoothing(real_label: float) -> None:
    if real_label != 1.0:
        raise UserError(
            f"label_smoothing={1.0 - real_label:g}: expected 0, as this adversarial loss has no labels to smooth; "
            "write 0, or use bce, lsgan, probability_lsgan or relativistic"
        )


def _subtract_half(real_logits: jax.Array, fake_logits: jax.Array) -> tuple[jax.Array, jax.Array]:
    return real_logits - 0.5, fake_logits - 0.5


Decision = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


class Adversarial(NamedTuple):
    """An adversarial loss.

    Attributes:
      discriminator: `(real_logits, fake_logits, real_label) -> scalar`.
      generator: `(real_logits, fake_logits) -> scalar`.
      decision: `(real_logits, fake_logits) -> (real, fake)` of the same shapes, positive where the discriminator
        classifies an image as real.
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
