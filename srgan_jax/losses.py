"""Losses. Those over images or features return elementwise values, and the caller reduces them.

A new loss is one function and one line in a table; the tests that run over the tables then cover it.
"""

import jax
import jax.numpy as jnp
import optax


def _check_same_shape(predictions: jax.Array, targets: jax.Array) -> None:
    if predictions.shape != targets.shape:  # broadcasting would hide the mistake
        raise ValueError(f"shape mismatch: got {predictions.shape} and {targets.shape}")


def mse(predictions: jax.Array, targets: jax.Array) -> jax.Array:
    """Squared error, same shape as both arguments."""
    _check_same_shape(predictions, targets)
    return jnp.square(predictions - targets)


def l1(predictions: jax.Array, targets: jax.Array) -> jax.Array:
    """Absolute error, same shape as both arguments."""
    _check_same_shape(predictions, targets)
    return jnp.abs(predictions - targets)


def charbonnier(predictions: jax.Array, targets: jax.Array, epsilon: float = 1e-3) -> jax.Array:
    """`sqrt(error^2 + epsilon^2)`, a smooth L1 (Lai et al., LapSRN, arXiv 1704.03915), same shape as both arguments."""
    _check_same_shape(predictions, targets)
    return jnp.sqrt(jnp.square(predictions - targets) + epsilon**2)


def total_variation(image: jax.Array) -> jax.Array:
    """Length of the forward-difference gradient at each pixel (SRGAN's regulariser, arXiv 1609.04802v2).

    Args:
      image: `[N, H, W, C]`.

    Returns:
      `[N, H - 1, W - 1, C]`.
    """
    down = image[:, 1:, :-1] - image[:, :-1, :-1]
    right = image[:, :-1, 1:] - image[:, :-1, :-1]
    return jnp.sqrt(jnp.square(down) + jnp.square(right) + 1e-12)  # the square root has no gradient at 0


def bce_discriminator(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """`-log D(real) - log(1 - D(fake))` on logits, mean over everything: a scalar (SRGAN, equation 2)."""
    real = optax.sigmoid_binary_cross_entropy(real_logits, jnp.ones_like(real_logits))
    fake = optax.sigmoid_binary_cross_entropy(fake_logits, jnp.zeros_like(fake_logits))
    return real.mean() + fake.mean()


def bce_generator(real_logits: jax.Array, fake_logits: jax.Array) -> jax.Array:
    """The non-saturating `-log D(fake)` on logits, mean over everything: a scalar (SRGAN, equation 6)."""
    del real_logits  # relativistic losses need it
    return optax.sigmoid_binary_cross_entropy(fake_logits, jnp.ones_like(fake_logits)).mean()


PIXEL = {"mse": mse, "l1": l1, "charbonnier": charbonnier}
ADVERSARIAL = {"bce": (bce_discriminator, bce_generator)}  # each: (real_logits, fake_logits) -> scalar
