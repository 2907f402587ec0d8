"""Skipping updates whose results are not finite. This happens on the device, without synchronising with the host.

The host reads `Health.alarm` with the metrics of a log line, and rolls back to a checkpoint if it is set.
optax.apply_if_finite isn't used: it checks the gradients only, keeps a state in each optimiser, and has no rollback.
"""

from collections.abc import Callable, Mapping

import flax.struct
import jax
import jax.numpy as jnp

from srgan_jax.runtime.types import PyTree
from srgan_jax.training import together


class Health(flax.struct.PyTreeNode):
    """Counters of skipped updates. They are a part of the training state, so that a resumed run keeps them.

    Attributes:
      skipped: number of skipped updates, int32.
      in_a_row: number of consecutive skipped updates up to the latest update, int32.
      d_wins: number of consecutive updates in which the discriminator classified every image correctly, int32.
      alarm: whether a limit was reached since the stage began or was last rolled back, bool.
      rollbacks: number of rollbacks to an earlier checkpoint, int32; each changes the order of the samples.
    """

    skipped: jax.Array
    in_a_row: jax.Array
    d_wins: jax.Array
    alarm: jax.Array
    rollbacks: jax.Array


def initial_health() -> Health:
    """Returns the counters of a stage at its start."""
    zeros = [jnp.zeros((), jnp.int32) for _ in range(4)]  # four arrays, because each is donated
    return Health(*zeros[:3], alarm=jnp.zeros((), bool), rollbacks=zeros[3])


def all_finite(tree: PyTree) -> jax.Array:
    """Returns whether every floating-point value of a pytree is finite: a bool scalar."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves])
    # Without the barrier XLA copies this chain of operations into every use: the program grows with leaves squared.
    return jax.lax.optimization_barrier(finite).all()


def small_part(state: PyTree) -> PyTree:
    """Returns the parts of a state that can be non-finite with finite gradients: batch statistics, adaptive weight."""
    networks = [network for network in (state.generator, state.discriminator) if network is not None]
    return [network.batch_stats for network in networks], state.grad_scale


def is_healthy(state: PyTree, d_wins_steps: int = 0) -> bool:
    """Returns whether training can be rolled back to `state`.

    It can if the last update was applied, no alarm is set, and `d_wins` is below half of `d_wins_steps`.
    """
    health = state.health
    winning = d_wins_steps > 0 and 2 * int(health.d_wins) >= d_wins_steps
    return not (int(health.in_a_row) or winning or bool(health.alarm))


def reset_health(state: PyTree, rollbacks: int) -> PyTree:
    """Returns `state` with counters reset, except `skipped`, and with `rollbacks`, which reseeds the sample order."""
    health = initial_health().replace(skipped=state.health.skipped, rollbacks=jnp.int32(rollbacks))
    return state.replace(health=jax.tree.map(lambda new, old: jax.device_put(new, old.sharding), health, state.health))


def _next_health(old: Health, finite: jax.Array, metrics: Mapping[str, jax.Array], limits: tuple[int, int]) -> Health:
    max_skips, d_wins_steps = limits
    in_a_row = jnp.where(finite, 0, old.in_a_row + 1)
    accuracies = [metrics[name] for name in ("d_accuracy_real", "d_accuracy_fake") if name in metrics]
    won = jnp.stack(accuracies).min() >= 1.0 if accuracies else jnp.zeros((), bool)
    d_wins = jnp.where(finite, jnp.where(won, old.d_wins + 1, 0), old.d_wins)
    alarm = old.alarm | (in_a_row >= max_skips)
    if d_wins_steps:
        alarm |= d_wins >= d_wins_steps
    return Health(old.skipped + ~finite, in_a_row, d_wins, alarm, old.rollbacks)


def skip_nonfinite(
    update: Callable[..., tuple[PyTree, dict[str, jax.Array]]],
    *,
    max_skips: int,
    d_wins_steps: int = 0,
    by_norms: bool = False,
) -> Callable[..., tuple[PyTree, dict[str, jax.Array]]]:
    """Returns `update`, changed to skip an update whose new state or metrics are not finite.

    A skipped update changes only the step and the counters. Only the new state and the metrics are checked, because
    non-finite gradients make the moments of Adam non-finite. The check follows the reduction over devices, so all
    devices make the same decision.

    Args:
      update: `(state, ...) -> (state, metrics)`, pure; the state has `step` and `health`.
      max_skips: number of consecutive skipped updates at which `Health.alarm` is set.
      d_wins_steps: number of consecutive updates with every image classified correctly by the discriminator at which
        `Health.alarm` is set; 0 means never.
      by_norms: check only the metrics and `small_part` of the state. The metrics must contain the norms of all
        gradients, and the optimiser must give finite results if these norms are finite: see `Stage.norms_suffice`. On a
        GPU a third of all kernels belonged to the check of each array.

    Returns:
      A function like `update`, with "skipped" (number so far) and "alarm" added to the metrics.
    """

    def checked_update(state, *args):
        new, metrics = update(state, *args)
        finite = together.all_finite((small_part(new), metrics)) if by_norms else all_finite((new, metrics))
        select = lambda updated, previous: jnp.where(finite, updated, previous)  # noqa: E731
        kept = jax.tree.map(select, new, state)
        health = _next_health(state.health, finite, metrics, (max_skips, d_wins_steps))
        return kept.replace(step=new.step, health=health), metrics | {"skipped": health.skipped, "alarm": health.alarm}

    return checked_update


class SkippedUpdates:
    """Makes the warning about updates that were skipped since the last logged one."""

    def __init__(self, skipped: int):
        self._known = skipped

    def line(self, metrics: Mapping[str, float]) -> str | None:
        """Returns the warning at a logged update; None if no update was skipped since the last one."""
        before, self._known = self._known, int(metrics["skipped"])
        if self._known <= before:
            return None
        return f"{self._known - before} updates were not finite and were skipped, {self._known} in all"
