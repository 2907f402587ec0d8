"""The network that a section of the config names: its class, and the keys that are fields of it."""

from types import MappingProxyType

import flax.linen as nn

from srgan_jax import models
from srgan_jax.config.schema import Options
from srgan_jax.models.protocols import check_generator
from srgan_jax.runtime.errors import UserError, lookup


def find_generator(name: str) -> type[nn.Module]:
    """Returns the class of a generator, after checking that training, validation and tiling can use it."""
    kind = lookup(models.GENERATORS, name, "network")
    check_generator(name, kind)
    return kind


def select_keys(kind: type[nn.Module], section: Options, default: Options) -> Options:
    """Returns a network's section of the config without keys that belong to other networks.

    A key is dropped if the network has no such field and the value is the default. `--config.generator.name=compact`
    therefore works without further keys, although the other keys of the section are those of SRResNet.

    Args:
      kind: class of the network.
      section: section of the config.
      default: the same section of the default config.

    Raises:
      UserError: keys that the network lacks have other values than the default; the message lists all of them.
    """
    fields = {"name", *models.fields_of(kind)}
    kept = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in section.items()
        if name in fields or name not in default or value != default[name]
    }
    if foreign := sorted(name for name in kept if name not in fields):
        listed = ", ".join(f"{name!r}: {kept[name]!r}" for name in foreign)
        raise UserError(
            f"{section['name']} has no {listed}, which belong to another network; its fields: "
            f"{', '.join(sorted(fields - {'name'}))}. Set them back, or start from a recipe of {section['name']}"
        )
    return MappingProxyType(kept)
