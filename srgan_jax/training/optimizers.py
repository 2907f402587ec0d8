"""`OPTIMIZERS` and `SCHEDULES`: optimisers and learning rate schedules by name.

A new optimiser or schedule is one function and one entry in its table.
"""

import jax
import jax.numpy as jnp
import optax
import optax.contrib

from srgan_jax.config.schema import StageConfig
from srgan_jax.runtime.errors import lookup
from srgan_jax.runtime.types import PyTree


def constant_schedule(learning_rate: float, total_steps: int, **_: object) -> optax.Schedule:
    """Returns a constant learning rate."""
    return optax.constant_schedule(learning_rate)


def piecewise_schedule(
    learning_rate: float, total_steps: int, *, drops: tuple[float, ...], drop_factor: float = 0.1, **_: object
) -> optax.Schedule:
    """Returns a rate multiplied by `drop_factor` at each of `drops`, as fractions of `total_steps` (SRGAN: 0.5)."""
    return optax.piecewise_constant_schedule(learning_rate, {round(drop * total_steps): drop_factor for drop in drops})


def cosine_schedule(learning_rate: float, total_steps: int, *, warmup_steps: int, **_: object) -> optax.Schedule:
    """Returns a rate that rises linearly over `warmup_steps`, then decays as half a cosine to 0 at `total_steps`."""
    if not warmup_steps:
        return optax.cosine_decay_schedule(learning_rate, total_steps)
    return optax.warmup_cosine_decay_schedule(0.0, learning_rate, warmup_steps, max(total_steps, warmup_steps + 1))


SCHEDULES = {"constant": constant_schedule, "piecewise": piecewise_schedule, "cosine": cosine_schedule}


def adam(schedule: optax.Schedule, *, b1: float, b2: float, weight_decay: float) -> optax.GradientTransformation:
    """Returns Adam (Kingma & Ba, arXiv 1412.6980), or AdamW with weight decay (Loshchilov & Hutter, arXiv 1711.05101).

    The state always has the structure of AdamW, so that weight decay can be changed when a run resumes.
    """
    return optax.adamw(schedule, b1=b1, b2=b2, weight_decay=weight_decay, mask=_are_kernels)


def muon(schedule: optax.Schedule, *, b1: float, b2: float, weight_decay: float) -> optax.GradientTransformation:
    """Returns Muon (Jordan, 2024) for the kernels of convolutions and dense layers, and Adam for all other parameters.

    Muon treats a kernel as a matrix, all inputs by outputs. It makes the momentum (0.95) nearly orthogonal, so that the
    update has the same size in every direction. The root mean square of an update is about 0.2 learning rates, as is
    usual for Adam (Liu et al., arXiv 2502.16982). The best learning rate of the compact generator is twice that of
    Adam. Adam uses `b1`, `b2` and Nesterov's momentum (Dozat, 2016).
    """
    return optax.contrib.muon(
        schedule, adam_b1=b1, adam_b2=b2, consistent_rms=0.2, weight_decay=weight_decay,
        muon_weight_dimension_numbers=_kernels_as_matrices,
    )  # fmt: skip


def _are_kernels(params: PyTree) -> PyTree:
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1] == jax.tree_util.DictKey("kernel"), params)


def _kernels_as_matrices(params: PyTree) -> PyTree:
    def axes(leaf: jax.Array, is_kernel: bool) -> optax.contrib.MuonDimensionNumbers | None:
        return optax.contrib.MuonDimensionNumbers(tuple(range(leaf.ndim - 1)), leaf.ndim - 1) if is_kernel else None

    return jax.tree.map(axes, params, _are_kernels(params))


OPTIMIZERS = {"adam": adam, "muon": muon}


def create_schedule(stage: StageConfig, learning_rate: float) -> optax.Schedule:
    """Returns the learning rate as a function of the number of updates so far, its linear warmup from 0 included."""
    make_schedule = lookup(SCHEDULES, stage.schedule, "learning rate schedule")
    schedule = make_schedule(
        learning_rate,
        stage.total_steps,
        drops=stage.drops,
        drop_factor=stage.drop_factor,
        warmup_steps=stage.warmup_steps,
    )
    if not stage.warmup_steps or stage.schedule == "cosine":  # which has its own, and decays from its end
        return schedule
    return lambda count: schedule(count) * jnp.minimum(1.0, count / stage.warmup_steps)


def create_optimizer(stage: StageConfig, learning_rate: float) -> optax.GradientTransformation:
    """Returns the optimiser with the schedule that a stage names, as a transformation of optax.

    Weight decay applies to kernels only: each update also subtracts `learning_rate * weight_decay * kernel`.
    """
    schedule = create_schedule(stage, learning_rate)
    make = lookup(OPTIMIZERS, stage.optimizer, "optimizer")
    return make(schedule, b1=stage.b1, b2=stage.b2, weight_decay=stage.weight_decay)
