"""The bands of a run's images, and whether generator and metrics fit them."""

import dataclasses
from collections.abc import Sequence
from types import MappingProxyType

from srgan_jax import models
from srgan_jax.config.schema import DataConfig, Options, ValidationConfig
from srgan_jax.evaluation import metrics
from srgan_jax.images import Bands
from srgan_jax.runtime.errors import UserError
from srgan_jax.training.network_fields import find_generator

DEFAULTS = ValidationConfig()


def bands_of(data: DataConfig) -> Bands:
    """Returns the bands of the images; values that the config doesn't set are those of 8-bit RGB."""
    return Bands(data.channels or 3, data.bits or 8)


def with_metrics(validation: ValidationConfig, data: DataConfig) -> ValidationConfig:
    """Returns the section of validation; default metrics are replaced by those for the bands of the data."""
    count, are_default = (
        bands_of(data).count,
        (validation.metrics, validation.best) == (DEFAULTS.metrics, DEFAULTS.best),
    )
    if count == 3 or not are_default:
        return validation
    return dataclasses.replace(validation, metrics=metrics.usual(count), best=metrics.usual(count)[0])


def with_channels(generator: Options, data: DataConfig) -> Options:
    """Returns a generator's section with the channels of the data, unless it states channels or the data is RGB."""
    count = bands_of(data).count
    able = "channels" in models.fields_of(find_generator(str(generator["name"])))
    if count == 3 or "channels" in generator or not able:
        return generator
    return MappingProxyType({**generator, "channels": count})


def check_bands(data: DataConfig, generator: Options, metrics_used: Sequence[str]) -> None:
    """Raises UserError if generator or metrics don't fit the bands of the data."""
    count, name = bands_of(data).count, str(generator["name"])
    able = [other for other, kind in models.GENERATORS.items() if "channels" in models.fields_of(kind)]
    if count != 3 and name not in able:
        raise UserError(
            f"config.generator.name={name} takes RGB, but the data has {count} bands; expected one of {able}"
        )
    if generator.get("channels", 3) != count:
        raise UserError(
            f"the generator has {generator.get('channels', 3)} channels, but the data has {count} bands; set "
            f"config.data.channels={generator.get('channels', 3)}, or start from other weights"
        )
    metrics.check_bands(metrics_used, count, "config.validation.metrics")
