"""The bands of a run's images, and whether generator and metrics fit them."""

import dataclasses
from collections.abc import Sequence
from types import MappingProxyType

from srgan_jax import models
from srgan_jax.config.schema import DataConfig, Options, RunConfig, ValidationConfig
from srgan_jax.evaluation import metrics
from srgan_jax.images import Bands
from srgan_jax.runtime.errors import UserError
from srgan_jax.training.network_fields import find_generator

DEFAULTS = ValidationConfig()


def bands_of(data: DataConfig) -> Bands:
    """Returns the bands of the images; where the config leaves them open, those of 8-bit RGB."""
    return Bands(data.channels or 3, data.bits or 8)


def fit(run: RunConfig) -> RunConfig:
    """Returns the config with the bands of its data where it leaves them open: generator and default metrics."""
    count, validation = bands_of(run.data).count, run.validation
    if count != 3 and (validation.metrics, validation.best) == (DEFAULTS.metrics, DEFAULTS.best):
        names = metrics.usual(count)
        validation = dataclasses.replace(validation, metrics=names, best=names[0])
    return dataclasses.replace(run, generator=_with_channels(run.generator, count), validation=validation)


def _with_channels(generator: Options, channels: int) -> Options:
    """Returns a generator's section with the channels of the data, unless it has them, or they are those of RGB."""
    able = "channels" in models.fields_of(find_generator(str(generator["name"])))
    if channels == 3 or "channels" in generator or not able:
        return generator
    return MappingProxyType({**generator, "channels": channels})


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
