"""Updates that aren't finite are not applied, on the device, without the host's knowing.

The host looks at `Health.alarm` with the numbers of a log line, and rolls back to a checkpoint where it is set.
optax.apply_if_finite looks at the gradients alone, has a state of its own in each optimiser, and knows no rollback.
"""

from collections.abc import Callable, Mapping

import flax.struct
import jax
import jax.numpy as jnp

from srgan_jax.runtime.types import PyTree


class Health(flax.struct.PyTreeNode):
    """How a stage has fared: a part of its state, so a resumed run knows it too.

    Attributes:
      skipped: updates that were not applied, int32.
      in_a_row: of these, the latest ones without an applied update between them.
      d_wins: updates in a row in which the discriminator judged every image correctly.
      alarm: whether a limit was passed since the stage began or went back last.
      rollbacks: how often the stage went back to an earlier checkpoint; each changes the order of its samples.
    """

    skipped: jax.Array
    in_a_row: jax.Array
    d_wins: jax.Array
    alarm: jax.Array
    rollbacks: jax.Array


def initial_health() -> Health:
    """Of a stage that begins."""
    zeros = [jnp.zeros((), jnp.int32) for _ in range(4)]  # four arrays: each is donated
    return Health(*zeros[:3], alarm=jnp.zeros((), bool), rollbacks=zeros[3])


def all_finite(tree: PyTree) -> jax.Array:
    """Whether every floating-point number of a pytree is finite: a bool scalar."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    finite = jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves])
    # Without the barrier XLA makes a chain of them, and copies it to every use: of a state's leaves by its leaves.
    return jax.lax.optimization_barrier(finite).all()


def is_healthy(state: PyTree, d_wins_steps: int = 0) -> bool:
    """Whether training can go back to `state`: its last update was applied, and D's series of wins was young."""
    health = state.health
    winning = d_wins_steps > 0 and 2 * int(health.d_wins) >= d_wins_steps
    return not (int(health.in_a_row) or winning or bool(health.alarm))


def reset_health(state: PyTree, rollbacks: int) -> PyTree:
    """`state` with clean counters, and so many rollbacks, which give a new order of samples."""
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
    update: Callable[..., tuple[PyTree, dict[str, jax.Array]]], *, max_skips: int, d_wins_steps: int = 0
) -> Callable[..., tuple[PyTree, dict[str, jax.Array]]]:
    """`update` that leaves everything but the step and the counters as it was where a result is not finite.

    Gradients that aren't finite show in the moments of Adam, so the new state and the metrics tell all. Both are
    checked after the reduction over devices: every device decides alike.

    Args:
      update: `(state, ...) -> (state, metrics)`, pure; the state has `step` and `health`.
      max_skips: updates in a row that may be left out before `Health.alarm` is set.
      d_wins_steps: updates in a row in which the discriminator may judge everything correctly; 0: any number.

    Returns:
      The same function, with "skipped" (how many so far) and "alarm" among the metrics.
    """

    def checked_update(state, *args):
        new, metrics = update(state, *args)
        finite = all_finite((new, metrics))
        kept = jax.tree.map(lambda ours, before: jnp.where(finite, ours, before), new, state)
        health = _next_health(state.health, finite, metrics, (max_skips, d_wins_steps))
        return kept.replace(step=new.step, health=health), metrics | {"skipped": health.skipped, "alarm": health.alarm}

    return checked_update


class SkippedUpdates:
    """Counts the updates that were left out, for the log."""

    def __init__(self, skipped: int):
        self._known = skipped

    def line(self, metrics: Mapping[str, float]) -> str | None:
        """Returns what to say after a logged update; None where no more were left out."""
        before, self._known = self._known, int(metrics["skipped"])
        if self._known <= before:
            return None
        return f"{self._known - before} updates were not finite and left out, {self._known} in all"
