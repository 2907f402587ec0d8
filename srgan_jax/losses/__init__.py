"""Loss terms of the generator and the discriminator, by name. Tests check every entry of the tables, also new ones."""

from srgan_jax.losses.adversarial import ADVERSARIAL, Adversarial
from srgan_jax.losses.pixel import PIXEL
from srgan_jax.losses.terms import DISCRIMINATOR_TERMS, TERMS, Term, WeightedTerm
from srgan_jax.losses.views import Views

__all__ = ["ADVERSARIAL", "DISCRIMINATOR_TERMS", "PIXEL", "TERMS", "Adversarial", "Term", "Views", "WeightedTerm"]
