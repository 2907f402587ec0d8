"""Whether generator, metrics and data of a run have the same channels."""

from collections.abc import Sequence
from types import MappingProxyType

from srgan_jax import models
from srgan_jax.config.schema import DataConfig, Options
from srgan_jax.evaluation import metrics
from srgan_jax.runtime.errors import UserError
from srgan_jax.training.network_fields import find_generator


def with_channels(generator: Options, channels: int) -> Options:
    """Returns a generator's section with the channels of the data, unless it has them, or they are those of RGB."""
    able = "channels" in models.fields_of(find_generator(str(generator["name"])))
    if channels == 3 or "channels" in generator or not able:
        return generator
    return MappingProxyType({**generator, "channels": channels})


def check_bands(data: DataConfig, generator: Options, metrics_used: Sequence[str]) -> None:
    """Raises UserError if generator or metrics don't fit images of `data.channels` bands."""
    bands, name = data.channels or 3, str(generator["name"])
    able = [other for other, kind in models.GENERATORS.items() if "channels" in models.fields_of(kind)]
    if bands != 3 and name not in able:
        raise UserError(
            f"config.generator.name={name} takes RGB, but the data has {bands} bands; expected one of {able}"
        )
    if generator.get("channels", 3) != bands:
        raise UserError(
            f"the generator has {generator.get('channels', 3)} channels, but the data has {bands} bands; set "
            f"config.data.channels={generator.get('channels', 3)}, or start from other weights"
        )
    refused = [metric for metric in metrics_used if metrics.find(metric).rgb]
    if bands != 3 and refused:
        raise UserError(f"config.validation.metrics: {', '.join(refused)} need RGB, but the data has {bands} bands")
