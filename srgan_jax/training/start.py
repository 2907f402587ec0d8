"""The initial generator of a stage, and its averaged generator at the end."""

from collections.abc import Mapping
from types import MappingProxyType

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from srgan_jax import models, weights
from srgan_jax.config.schema import Options
from srgan_jax.runtime import devices, messages, trees
from srgan_jax.runtime.errors import UserError
from srgan_jax.runtime.types import PyTree
from srgan_jax.training.stage import Stage
from srgan_jax.training.state import TrainState


def architecture_differences(
    first: Mapping[str, object], second: Mapping[str, object]
) -> list[tuple[str, object, object]]:
    """Returns the fields in which two architectures differ, with both values; only the name if the names differ."""
    found = [(key, first.get(key), value) for key, value in second.items() if first.get(key) != value]
    return [field for field in found if field[0] == "name"] or found


def generator_from(start: weights.Weights | None, name: str) -> Options:
    """Returns the architecture of the weights `name`, which replaces config.generator."""
    if start is None:
        raise UserError(
            "config.generator_of_init_from=True: expected weights in config.init_from; write --config.init_from=NAME"
        )
    listed = ", ".join(f"{key} {value}" for key, value in start.architecture.items())
    messages.report(f"the generator is that of {name} ({listed}); config.generator is not used")
    return MappingProxyType(dict(start.architecture))


def discriminator_from(start: weights.DiscriminatorWeights, name: str, crop_px: int) -> Options:
    """Returns the architecture of the discriminator `name`, which replaces config.discriminator.

    Raises:
      UserError: it takes crops of another side than `crop_px`, that of the run.
    """
    side = start.architecture.get("crop_px", crop_px)
    if side != crop_px:
        raise UserError(
            f"config.data.crop_px={crop_px}: expected {side}, the side of the crops that the discriminator {name} "
            f"takes; write --config.data.crop_px={side}"
        )
    listed = ", ".join(f"{key} {value}" for key, value in start.architecture.items())
    messages.report(f"the discriminator is that of {name} ({listed}); config.discriminator is not used")
    return MappingProxyType(dict(start.architecture))


def initial_variables(start: weights.Weights | None, generator: nn.Module) -> PyTree:
    """Returns the variables of `start`; None if `start` is None.

    The architecture must be that of `generator`, with two exceptions: `start` may have fewer blocks (see
    `weights.deepen`), or another scale. With another scale, the tensors that fit are taken, and the others initialised.

    Raises:
      UserError: the architectures differ otherwise.
    """
    if start is None:
        return None
    wanted = models.architecture_of(models.GENERATORS, generator)
    differences = architecture_differences(start.architecture, wanted)
    have, blocks = start.architecture.get("blocks", 0), wanted.get("blocks", 0)
    if [key for key, _, _ in differences] == ["blocks"] and blocks > have:
        messages.report(
            f"initial weights have {have} blocks; the {blocks - have} blocks after them are new and zero-initialised"
        )
        return weights.deepen(start, blocks).variables
    if [key for key, _, _ in differences] == ["scale"]:
        return _of_another_scale(start, generator)
    if differences:
        listed = ", ".join(f"{key} {found} instead of {wanted}" for key, found, wanted in differences)
        folded = ("norm", "none", "batch") in differences
        raise UserError(
            f"the initial weights are of another architecture than config.generator: {listed}"
            + ("; to save weights for training, load them with srgan_jax.load(..., fold=False)" if folded else "")
        )
    return start.variables


def _of_another_scale(start: weights.Weights, generator: nn.Module) -> PyTree:
    """Returns new variables of `generator`, with the tensors of `start` that have the same name and shape."""
    lr = jnp.zeros((1, 8, 8, getattr(generator, "channels", 3)))
    new, given = trees.flatten(generator.init(jax.random.key(0), lr)), trees.flatten(start.variables)
    taken = {name: given[name] for name, leaf in new.items() if name in given and given[name].shape == leaf.shape}
    listed = ", ".join(sorted(new.keys() - taken.keys()))
    messages.report(
        f"initial weights are of scale {start.scale}: {len(taken)} of {len(new)} tensors are taken"
        + (f"; new are: {listed}" if listed else "")
    )
    return trees.unflatten(new | taken)


def averaged_generator(state: TrainState, generator: nn.Module) -> weights.Weights:
    """Returns the averaged generator as `Weights`, on the host."""
    variables = jax.device_get(dict(state.ema))
    return weights.make_weights(variables, models.architecture_of(models.GENERATORS, generator))


def initial_state(stage: Stage, start: weights.Weights | None, mesh: Mesh) -> TrainState:
    """Returns the state before the first update of a stage, on all devices."""
    variables = initial_variables(start, stage.generator)
    return devices.replicate(jax.jit(stage.init)(variables, stage.discriminator_variables), mesh)
