"""Losses, by name. A new one is one function and one line in a table; the tests that run over the tables cover it."""

from srgan_jax.losses.adversarial import ADVERSARIAL, Adversarial
from srgan_jax.losses.pixel import PIXEL

__all__ = ["ADVERSARIAL", "PIXEL", "Adversarial"]
