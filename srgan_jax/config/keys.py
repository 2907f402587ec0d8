"""`get_config`, which makes the editable config for config files from the dataclasses in `schema`."""

import dataclasses
from collections.abc import Mapping
from typing import cast

from ml_collections import ConfigDict

from srgan_jax.config.schema import RunConfig
from srgan_jax.runtime.types import PyTree


def get_config() -> ConfigDict:
    """Returns the editable config with all keys; by default SRResNet-MSE, then SRGAN-VGG54, see `defaults`.

    A config file calls it and changes some keys. `config/schema.py` describes the keys and their ranges.
    """
    config = ConfigDict(as_dict(RunConfig()))
    link_adversarial(config)
    return config


def link_adversarial(config: ConfigDict) -> None:
    """Lets `d_loss.term` of each stage follow `losses.adversarial.term`, where the two are equal."""
    for stage in cast(PyTree, config).stages.values():
        terms = stage.get("discriminator_losses", {}).get("d_loss"), stage.losses.get("adversarial")
        if all(terms) and terms[0].term == terms[1].term:
            terms[0].term = terms[1].get_ref("term")


def as_dict(value: object) -> PyTree:
    """Returns a section and its sub-sections as plain dicts, as a run records them in `config.json`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_dict(getattr(value, field.name)) for field in dataclasses.fields(value)}
    return {name: as_dict(item) for name, item in value.items()} if isinstance(value, Mapping) else value
