"""`resolve`, which checks the editable config and returns it as a frozen `RunConfig`; no other code uses ConfigDict."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeVar

from ml_collections import ConfigDict

from srgan_jax.config.networks import NETWORK_MINIMA
from srgan_jax.config.renamed import check_no_old_value, check_not_renamed, check_run_key_not_renamed
from srgan_jax.config.schema import GanStageConfig, LossConfig, RunConfig, StageConfig
from srgan_jax.runtime import storage
from srgan_jax.runtime.errors import UserError, did_you_mean
from srgan_jax.runtime.types import PyTree

S = TypeVar("S")
SCHEMES: Mapping[str, tuple[str, ...]] = {  # of the paths that need not be local
    "config.data.dataset": ("gs",),
    "config.data.folder": ("gs",),
    "config.validation.folder": ("gs",),
    "config.init_from": ("gs", "hf"),
    "config.discriminator_init_from": ("gs", "hf"),
    "config.extractor.weights": ("gs", "hf"),
    "config.compilation_cache": ("gs",),
}
OPEN = ("generator", "discriminator", "degradation")  # sections whose keys depend on the name in them


def resolve(config: ConfigDict | RunConfig) -> RunConfig:
    """Returns the checked config: each key is known, of its type, in its range, and consistent with the others.

    Raises:
      UserError: a key is wrong; the message states the key, its value, and what was expected.
    """
    if isinstance(config, RunConfig):
        return config
    values = config.to_dict()
    check_no_old_value(_mapping(values.get("data", {}), "config.data"))
    run = _section(RunConfig, values, "config")
    _check_intervals(run)
    for name, stage in run.stages.items():
        _check_stage(f"config.stages.{name}", stage)
    unknown = [name for name in run.stage_names if name not in run.stages]
    if unknown or not run.stage_names:
        found = f"config.stage_names: no stage {unknown[0]!r}" if unknown else "config.stage_names is empty"
        raise UserError(f"{found}; stages: {', '.join(sorted(run.stages))}")
    if run.validation.best not in run.validation.metrics:
        raise UserError(
            f"config.validation.best={run.validation.best!r} is not among config.validation.metrics: "
            f"{', '.join(run.validation.metrics)}"
        )
    if run.generator_of_init_from and not run.init_from:
        raise UserError(
            "config.generator_of_init_from=True needs initial weights, but config.init_from is empty; add "
            "--config.init_from=NAME"
        )
    return run


def _section(kind: type[S], values: Mapping[str, PyTree], path: str) -> S:
    """Returns the dataclass `kind` with the values of a section."""
    fields = {field.name: field for field in _fields_of(kind)}
    for name in _mapping(values, path):
        if name not in fields:
            if path.startswith("config.stages."):
                check_not_renamed(path.split(".")[2], name)
            if path == "config":
                check_run_key_not_renamed(name)
            raise UserError(f"{path}.{name}: no such key{did_you_mean(name, fields)}")
    found = {name: _value(field, values[name], f"{path}.{name}") for name, field in fields.items() if name in values}
    return kind(**found)


def _fields_of(kind: PyTree) -> tuple[dataclasses.Field, ...]:
    return dataclasses.fields(kind)


def _value(field: dataclasses.Field, value: PyTree, path: str) -> PyTree:
    factory: PyTree = field.default_factory
    default: PyTree = field.default if factory is dataclasses.MISSING else factory()
    known = list(default) if isinstance(default, Mapping) else []
    if dataclasses.is_dataclass(default):
        return _section(type(default), value, path)
    if isinstance(default, Mapping):
        value = _mapping(value, path)
    if field.name == "stages":
        return MappingProxyType({name: _stage(stage, f"{path}.{name}") for name, stage in value.items()})
    if field.name in ("losses", "discriminator_losses"):
        names = sorted(value, key=lambda name: (known.index(name) if name in known else len(known), name))
        return MappingProxyType({name: _section(LossConfig, value[name], f"{path}.{name}") for name in names})
    if isinstance(default, Mapping):
        if field.name in OPEN and "name" not in value:
            raise UserError(f"{path}: expected the key name, found {', '.join(value) or 'no keys'}")
        for name, lowest in NETWORK_MINIMA.items() if field.name in OPEN else ():
            if name in value and not (_is_number(value[name]) and value[name] >= lowest):
                raise UserError(f"{path}.{name}={value[name]!r:.80}: expected {lowest} or more")
        return MappingProxyType({name: _frozen(item) for name, item in value.items()})
    return _leaf(field, default, value, path)


def _mapping(value: PyTree, path: str) -> Mapping[str, PyTree]:
    """Returns a section; raises UserError if it is anything else."""
    if not isinstance(value, Mapping):
        raise UserError(f"{path}={value!r:.80}: expected a section of keys, such as {path}.KEY")
    return value


def _is_number(value: PyTree) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_exact(value: float, kind: type) -> bool:
    """Returns whether a number is one of `kind`, int or float."""
    try:
        return float(value) == kind(value)
    except (OverflowError, ValueError):  # infinity, NaN, or more digits than a float holds
        return False


def _check_items(value: PyTree, default: tuple, path: str) -> None:
    """Raises UserError if an item isn't of the type of the default's: a number, a string, or a tuple of these."""
    kinds = [int, float] if default and _is_number(default[0]) else [type(default[0])] if default else []
    for item in value:
        if isinstance(item, bool) or not isinstance(item, tuple(kinds) or (str, int, float, tuple, list)):
            example = f", for instance {default!r}" if default else " of numbers or names"
            raise UserError(f"{path}={value!r:.80}: expected a tuple{example}")


def _stage(values: Mapping[str, PyTree], path: str) -> StageConfig:
    return _section(GanStageConfig if "discriminator_losses" in _mapping(values, path) else StageConfig, values, path)


def _frozen(value: PyTree) -> PyTree:
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


def _leaf(field: dataclasses.Field, default: PyTree, value: PyTree, path: str) -> PyTree:
    kind = type(default)
    if kind is tuple:
        if not isinstance(value, tuple | list):
            raise UserError(f"{path}={value!r:.80}: expected a tuple, for instance {default!r}")
        _check_items(value, default, path)
        return _frozen(value)
    number = kind in (int, float) and _is_number(value)
    if not (number and _is_exact(value, kind)) and not (kind not in (int, float) and isinstance(value, kind)):
        raise UserError(f"{path}={value!r:.80}: expected {kind.__name__}, for instance {default!r}")
    if number:
        _check_range(path, value, field.metadata)
        return kind(value)
    if isinstance(value, str):
        storage.check(value, path, SCHEMES.get(path, ()))
    return value


def _check_range(path: str, value: float, limits: Mapping[str, float | None]) -> None:
    low, high, above, below = (limits[name] for name in ("low", "high", "above", "below"))
    in_bounds = (low is None or value >= low) and (high is None or value <= high)
    if in_bounds and (above is None or value > above) and (below is None or value < below):
        return
    expected = [f"{low:g} or more"] if low is not None else [f"more than {above:g}"] if above is not None else []
    expected += [f"at most {high:g}"] if high is not None else [f"less than {below:g}"] if below is not None else []
    raise UserError(f"{path}={value!r}: expected {' and '.join(expected)}")


def _check_stage(path: str, stage: StageConfig) -> None:
    if any(not 0 <= drop <= 1 for drop in stage.drops):
        largest = max(stage.drops)
        hint = f"; for a drop at update {largest:,} of {stage.total_steps:,} write ({largest / stage.total_steps:g},)"
        raise UserError(
            f"{path}.drops={stage.drops}: expected fractions of total_steps between 0 and 1"
            + (hint if 1 < largest <= stage.total_steps else "")
        )
    if stage.warmup_steps > stage.total_steps:
        raise UserError(
            f"{path}.warmup_steps={stage.warmup_steps}: expected at most total_steps={stage.total_steps}; "
            f"add --{path}.warmup_steps={stage.total_steps // 10}"
        )
    if not any(loss.weight for loss in stage.losses.values()):
        raise UserError(f"every weight of {path}.losses is 0; expected one term or more with a positive weight")
    if isinstance(stage, GanStageConfig) and stage.step != "gan_several_updates":
        for name, value in (
            ("discriminator_updates", stage.discriminator_updates != 1),
            ("fresh_batch", stage.fresh_batch),
        ):
            if value:
                raise UserError(f"{path}.{name}={getattr(stage, name)} needs {path}.step=gan_several_updates")


def _check_intervals(run: RunConfig) -> None:
    intervals = {name: getattr(run, name) for name in ("log_every_steps", "validate_every_steps", "save_every_steps")}
    intervals |= {f"stages.{name}.total_steps": run.stages[name].total_steps for name in run.stage_names
                  if name in run.stages}  # fmt: skip
    count = run.steps_per_call
    for name, value in intervals.items():
        if value % count:
            nearest = max(1, round(value / count)) * count
            raise UserError(
                f"config.{name}={value}: expected a multiple of config.steps_per_call={count}, for instance {nearest}"
            )
