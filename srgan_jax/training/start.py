"""The generator that a stage begins with, and the one it gives away."""

from collections.abc import Mapping
from typing import Any

import jax
from ml_collections import ConfigDict

from srgan_jax import models, weights
from srgan_jax.runtime import devices, messages
from srgan_jax.runtime.errors import UserError
from srgan_jax.training import setup
from srgan_jax.training.state import TrainState


def differing(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """The fields in which two architectures differ, with both values; where it is the name, that alone."""
    found = [(key, first.get(key), value) for key, value in second.items() if first.get(key) != value]
    return [field for field in found if field[0] == "name"] or found


def with_generator_of(start: weights.Weights | None, config: Any) -> Any:
    """The config with the architecture of `start` as its generator, where it asks for that."""
    if not config.generator_of_init_from:
        return config
    if start is None:
        raise UserError("config.generator_of_init_from=True takes the generator from the weights to start from; name "
                        "them by --config.init_from=")  # fmt: skip
    listed = ", ".join(f"{key} {value}" for key, value in start.architecture.items())
    messages.report(f"the generator is that of {config.init_from} ({listed}); config.generator is not looked at")
    config = config.copy_and_resolve_references()
    config.generator = ConfigDict(dict(start.architecture))
    return config


def starting_variables(start: weights.Weights | None, generator: Any) -> Any:
    """The variables of `start`, which must be of the architecture of `generator`; None where there is no start.

    It may have fewer blocks: see `weights.deepen`.
    """
    if start is None:
        return None
    differences = differing(start.architecture, models.architecture_of(models.GENERATORS, generator))
    if [(key, wanted > found) for key, found, wanted in differences] == [("blocks", True)]:
        have, blocks = start.architecture["blocks"], generator.blocks
        messages.report(
            f"starts from weights of {have} blocks; the {blocks - have} behind them are new, and begin as nothing"
        )
        return weights.deepen(start, blocks).variables
    if differences:
        listed = ", ".join(f"{key} {found} instead of {wanted}" for key, found, wanted in differences)
        raise UserError(
            f"the weights to start from are of another architecture: {listed}"
            + (
                "; weights saved after srgan_jax.load need load(..., fold=False)"
                if ("norm", "none", "batch") in differences
                else ""
            )
        )
    return start.variables


def averaged_generator(state: TrainState, generator: Any) -> weights.Weights:
    """The averaged generator as `Weights`, on the host."""
    variables = jax.device_get(dict(state.ema))
    return weights.make_weights(variables, models.architecture_of(models.GENERATORS, generator))


def begin_stage(stage: setup.Stage, start: weights.Weights | None, mesh: Any) -> TrainState:
    """The state before the first update of a stage, on all devices."""
    variables = starting_variables(start, stage.generator)
    return devices.replicate(jax.jit(stage.init)(variables), mesh)
