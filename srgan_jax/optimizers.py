"""Adam and its learning rate schedules.

A new schedule is one function and one line in `SCHEDULES`.
"""

from typing import Any

import optax

from srgan_jax.errors import lookup


def constant_schedule(learning_rate: float, total_steps: int, **_: Any) -> optax.Schedule:
    """The same learning rate throughout."""
    return optax.constant_schedule(learning_rate)


def piecewise_schedule(
    learning_rate: float, total_steps: int, *, drops: tuple[float, ...], drop_factor: float = 0.1, **_: Any
) -> optax.Schedule:
    """`drop_factor` of the learning rate after each of `drops`, given as shares of `total_steps` (SRGAN: 0.5)."""
    return optax.piecewise_constant_schedule(learning_rate, {round(drop * total_steps): drop_factor for drop in drops})


def cosine_schedule(learning_rate: float, total_steps: int, *, warmup_steps: int, **_: Any) -> optax.Schedule:
    """A linear rise over `warmup_steps`, then half a cosine down to 0 at `total_steps`."""
    if not warmup_steps:
        return optax.cosine_decay_schedule(learning_rate, total_steps)
    return optax.warmup_cosine_decay_schedule(0.0, learning_rate, warmup_steps, max(total_steps, warmup_steps + 1))


SCHEDULES = {"constant": constant_schedule, "piecewise": piecewise_schedule, "cosine": cosine_schedule}


def create_optimizer(
    learning_rate: float,
    total_steps: int,
    *,
    schedule: str = "constant",
    drops: tuple[float, ...] = (0.5,),
    drop_factor: float = 0.1,
    warmup_steps: int = 0,
    b1: float = 0.9,
    b2: float = 0.999,
    clip_norm: float = 0.0,
) -> optax.GradientTransformation:
    """Adam with a schedule named in `SCHEDULES`; before it, gradients scaled down to a global norm of `clip_norm`."""
    make = lookup(SCHEDULES, schedule, "learning rate schedule")
    options = {"drops": drops, "drop_factor": drop_factor, "warmup_steps": warmup_steps}
    adam = optax.adam(make(learning_rate, total_steps, **options), b1=b1, b2=b2)
    return optax.chain(optax.clip_by_global_norm(clip_norm), adam) if clip_norm else adam
