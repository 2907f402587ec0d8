"""Weights of generators, feature extractors and metrics: `Weights`, files, imported and ported weights."""

from srgan_jax.weights.discriminators import DiscriminatorWeights, save_discriminator
from srgan_jax.weights.networks import load_extractor, save_extractor
from srgan_jax.weights.safetensors_io import WeightsError
from srgan_jax.weights.storage import (
    digest,
    load,
    load_any_with_provenance,
    load_blended,
    load_discriminator,
    load_with_provenance,
    read_header,
    read_provenance,
    save,
)
from srgan_jax.weights.transform import blend, deepen, fold_norms
from srgan_jax.weights.weights import Weights, make_weights

__all__ = [
    "DiscriminatorWeights",
    "Weights",
    "WeightsError",
    "blend",
    "deepen",
    "digest",
    "fold_norms",
    "load",
    "load_any_with_provenance",
    "load_blended",
    "load_discriminator",
    "load_extractor",
    "load_with_provenance",
    "make_weights",
    "read_header",
    "read_provenance",
    "save",
    "save_discriminator",
    "save_extractor",
]
