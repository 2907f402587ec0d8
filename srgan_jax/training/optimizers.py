"""Optimisers and learning rate schedules.

A new one of either is one function and one line in `OPTIMIZERS` or `SCHEDULES`.
"""

import jax
import optax
import optax.contrib

from srgan_jax.config.schema import StageConfig
from srgan_jax.runtime.errors import lookup
from srgan_jax.runtime.types import PyTree


def constant_schedule(learning_rate: float, total_steps: int, **_: object) -> optax.Schedule:
    """The same learning rate throughout."""
    return optax.constant_schedule(learning_rate)


def piecewise_schedule(
    learning_rate: float, total_steps: int, *, drops: tuple[float, ...], drop_factor: float = 0.1, **_: object
) -> optax.Schedule:
    """`drop_factor` of the learning rate after each of `drops`, given as fractions of `total_steps` (SRGAN: 0.5)."""
    return optax.piecewise_constant_schedule(learning_rate, {round(drop * total_steps): drop_factor for drop in drops})


def cosine_schedule(learning_rate: float, total_steps: int, *, warmup_steps: int, **_: object) -> optax.Schedule:
    """A linear rise over `warmup_steps`, then half a cosine down to 0 at `total_steps`."""
    if not warmup_steps:
        return optax.cosine_decay_schedule(learning_rate, total_steps)
    return optax.warmup_cosine_decay_schedule(0.0, learning_rate, warmup_steps, max(total_steps, warmup_steps + 1))


SCHEDULES = {"constant": constant_schedule, "piecewise": piecewise_schedule, "cosine": cosine_schedule}


def adam(schedule: optax.Schedule, *, b1: float, b2: float, weight_decay: float) -> optax.GradientTransformation:
    """Adam (Kingma & Ba, arXiv 1412.6980); with weight decay AdamW (Loshchilov & Hutter, arXiv 1711.05101).

    Always the chain of AdamW, so that the state has one structure: weight decay can change when a run resumes.
    """
    return optax.adamw(schedule, b1=b1, b2=b2, weight_decay=weight_decay, mask=_are_kernels)


def muon(schedule: optax.Schedule, *, b1: float, b2: float, weight_decay: float) -> optax.GradientTransformation:
    """Muon (Jordan, 2024) for the kernels of convolutions and dense layers, Adam for all else.

    A kernel is a matrix to it, of all inputs by outputs: its momentum (0.95) is made nearly orthogonal, so that the
    update is as large in every direction. The size is Adam's usual one (Liu et al., arXiv 2502.16982), a root mean
    square of about 0.2 learning rates; the best rate of the compact generator is twice Adam's. Adam has `b1` and `b2`,
    and Nesterov's momentum (Dozat, 2016).
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


def create_optimizer(stage: StageConfig, learning_rate: float) -> optax.GradientTransformation:
    """Returns the optimiser and schedule that a stage names, from optax.

    Kernels shrink by `weight_decay` learning rates of themselves at each update, beside what the gradient does.
    """
    make_schedule = lookup(SCHEDULES, stage.schedule, "learning rate schedule")
    schedule = make_schedule(
        learning_rate,
        stage.total_steps,
        drops=stage.drops,
        drop_factor=stage.drop_factor,
        warmup_steps=stage.warmup_steps,
    )
    make = lookup(OPTIMIZERS, stage.optimizer, "optimizer")
    return make(schedule, b1=stage.b1, b2=stage.b2, weight_decay=stage.weight_decay)
