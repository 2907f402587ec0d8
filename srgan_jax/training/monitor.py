"""`Monitor`: reads the metrics of a stage at logged updates, writes them to the log, and warns."""

import time
from collections.abc import Mapping

import jax
import numpy as np

from srgan_jax.config.schema import GanStageConfig
from srgan_jax.data.feed import Feed
from srgan_jax.losses.terms import Metrics
from srgan_jax.runtime.types import PyTree
from srgan_jax.training.balance import BalanceMonitor
from srgan_jax.training.interval import IntervalMeans, Sums
from srgan_jax.training.logs import StageLog, report_terms
from srgan_jax.training.nonfinite import SkippedUpdates
from srgan_jax.training.observed import memory_gb
from srgan_jax.training.optimizers import create_schedule
from srgan_jax.training.stage import Stage
from srgan_jax.training.state import NetworkState, TrainState

SHOWN = ("d_loss", "d_accuracy_real", "d_accuracy_fake")  # shown in the progress bar, besides the loss and its terms


class Monitor:
    """Logs the means of all metrics over the updates since the last logged one.

    Attributes:
      latest: the values of the last logged update; {} before the first.
    """

    def __init__(self, log: StageLog, stage: Stage, state: TrainState, sums: Mapping[str, tuple[float, float]]):
        """Begins after the update of `state`.

        Args:
          log: log of the stage.
          stage: the stage.
          state: the state, new or restored.
          sums: sums of the log interval in which the state was saved.
        """
        self._log, self._stage = log, stage
        self._balance = BalanceMonitor(getattr(stage.config, "balance_accuracy", 1.0))
        self._first = int(state.step) + stage.intervals.per_call
        self.latest: dict[str, float] = {}
        self._last: tuple[int, float] | None = None  # update and time of the last logged update of this process
        self.restart(state, sums)

    def restart(self, state: TrainState, sums: Mapping[str, tuple[float, float]]) -> None:
        """Continues after another update, to which training was rolled back."""
        self._means = IntervalMeans(sums)
        self._skipped = SkippedUpdates(int(state.health.skipped))
        self._last = None

    def sums(self) -> Sums:
        """Returns the sums of the log interval so far, for a checkpoint."""
        return self._means.sums()

    def update(self, step: int, state: TrainState, metrics: Metrics, feed: Feed | None) -> bool:
        """Adds the metrics of an update, and logs if it is due. Returns whether the alarm is set at a logged update.

        Args:
          step: the update.
          state: after the update.
          metrics: of the update, on the devices.
          feed: warns when training waits for data.
        """
        self._means.add(metrics)
        is_logged = self._stage.intervals.logs(step)  # the same updates whether or not the run was interrupted
        if step == self._first:
            values = {key: float(value) for key, value in jax.device_get(metrics).items()}
            report_terms(self._stage.name, step, values, self._stage.terms)
        if not is_logged:
            return False
        values = self._means.take()
        alarm = values.pop("alarm")
        values |= self._learning_rates(state) | self._throughput(step) | memory_gb()
        self.latest = values
        self._log.write(step, values, shown=("loss", *self._stage.terms, *SHOWN))
        self._log.warn(step, self._balance.line(values), self._skipped.line(values))
        self._log.warn(step, feed.line() if feed else None, everywhere=True)
        return bool(alarm)

    def _throughput(self, step: int) -> dict[str, float]:
        """Returns the images per second since the last logged update; {} at the first, which includes compilation."""
        last, self._last = self._last, (step, time.perf_counter())
        if last is None:
            return {}
        images = (step - last[0]) * self._stage.plan.batch_size
        return {"images_per_second": round(images / (self._last[1] - last[1]), 3)}

    def _learning_rates(self, state: TrainState) -> dict[str, float]:
        """Returns the learning rates of the latest update."""
        config = self._stage.config
        rates = {"learning_rate": (config.learning_rate, state.generator)}
        if isinstance(config, GanStageConfig) and state.discriminator is not None:
            rates["d_learning_rate"] = (config.discriminator_learning_rate, state.discriminator)
        counts = {name: _optimizer_steps(network) for name, (_, network) in rates.items()}
        schedules = {name: create_schedule(config, rate) for name, (rate, _) in rates.items()}
        return {name: np.asarray(schedules[name](max(0, count - 1))).item() for name, count in counts.items()}


def _optimizer_steps(network: NetworkState) -> int:
    """Returns how many steps the optimiser of a network has made: the largest of its counters."""

    def is_count(path: PyTree) -> bool:
        return jax.tree_util.keystr(path[-1:], simple=True) == "count"

    leaves = jax.tree_util.tree_leaves_with_path(network.opt_state)
    return max((int(leaf) for path, leaf in leaves if is_count(path)), default=0)
