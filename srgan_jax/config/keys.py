"""The editable config that config files change: `get_config`, made of the dataclasses in `schema`."""

import dataclasses
from collections.abc import Mapping

from ml_collections import ConfigDict

from srgan_jax.config.schema import RunConfig
from srgan_jax.runtime.types import PyTree


def get_config() -> ConfigDict:
    """Returns every key with the paper's value: SRResNet-MSE, then SRGAN-VGG54.

    A config file calls it and assigns what differs. What each key means, and its range, stands in `config/schema.py`.
    """
    config = ConfigDict(as_dict(RunConfig()))
    stages: PyTree = config.stages
    gan = stages.gan
    gan.discriminator_losses.d_loss.term = gan.losses.adversarial.get_ref("term")  # both players play one game
    return config


def as_dict(value: object) -> PyTree:
    """Returns a section, and all below it, as plain dicts: what a run records as `config.json`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_dict(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return {name: as_dict(item) for name, item in value.items()} if isinstance(value, Mapping) else value
