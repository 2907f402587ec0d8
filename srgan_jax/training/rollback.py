"""`Rollback`: returns a diverged run to its last healthy checkpoint, with a new order of samples."""

import functools
from collections.abc import Callable

from jax.sharding import Mesh

from srgan_jax.config.schema import GuardConfig
from srgan_jax.runtime import devices, messages
from srgan_jax.runtime.errors import UserError
from srgan_jax.training import nonfinite
from srgan_jax.training.checkpoints import Checkpoints
from srgan_jax.training.state import TrainState
from srgan_jax.training.workdir import DIVERGENCE_ADVICE


class Rollback:
    """A function from a state whose alarm is set to the state from which training continues."""

    def __init__(self, saver: Checkpoints, begin: Callable[[], TrainState], mesh: Mesh, limits: GuardConfig, name: str):
        """Prepares rollbacks of one stage.

        Args:
          saver: checkpoints of the stage.
          begin: returns the state before the first update.
          mesh: mesh of all devices.
          limits: number of rollbacks allowed, and the limits that set the alarm.
          name: name of the stage.
        """
        self._saver, self._begin, self._mesh, self._limits, self._name = saver, begin, mesh, limits, name

    def __call__(self, state: TrainState) -> TrainState:
        """Returns the last healthy state, with the sample order reseeded.

        Raises:
          UserError: the stage was rolled back `limits.max_rollbacks` times already.
        """
        state, limits = devices.as_global(state, self._mesh), self._limits
        rollbacks, reason = int(state.health.rollbacks) + 1, self._reason(state)
        if rollbacks > limits.max_rollbacks:
            raise UserError(
                f"{self._name}: {reason}, after {rollbacks - 1} rollbacks (config.guard.max_rollbacks="
                f"{limits.max_rollbacks}); {DIVERGENCE_ADVICE.format(self._name)}"
            )
        is_healthy = functools.partial(nonfinite.is_healthy, d_wins_steps=limits.d_wins_steps)
        restored = self._saver.restore(state, is_healthy)
        restored = nonfinite.reset_health(self._begin() if restored is None else restored, rollbacks)
        messages.report(
            f"WARNING: {self._name}: {reason}; rolled back to update {int(restored.step)}, with a new order of samples "
            f"({rollbacks} of {limits.max_rollbacks})"
        )
        return restored

    def _reason(self, state: TrainState) -> str:
        step, health, limits = int(state.step), state.health, self._limits
        if limits.d_wins_steps and int(health.d_wins) >= limits.d_wins_steps:
            return (
                f"the discriminator classified every image correctly in the {int(health.d_wins)} updates up to {step}"
            )
        return f"{limits.max_skips} or more consecutive updates up to {step} were not finite"
