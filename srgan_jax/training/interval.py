"""`IntervalMeans`: the means of all metrics over the updates since the last logged one, summed on the device."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from srgan_jax.losses.terms import Metrics

LATEST = ("skipped", "alarm")  # not averaged: counters and flags of the latest update
Sums = dict[str, tuple[float, float]]  # name -> sum and number of the finite values


@jax.jit
def _add(sums: dict[str, jax.Array], metrics: Metrics) -> dict[str, jax.Array]:
    """Returns the sums `[2]` (of finite values, and their number) with those of an update added."""
    finite = {name: jnp.isfinite(metrics[name]) for name in sums}
    return {
        name: total + jnp.stack([jnp.where(finite[name], metrics[name], 0.0), finite[name]]).astype(jnp.float32)
        for name, total in sums.items()
    }


class IntervalMeans:
    """Sums metrics without waiting for the device. Values that are not finite are left out."""

    def __init__(self, sums: Mapping[str, tuple[float, float]] | None = None):
        """Continues with the sums from a checkpoint, see `sums`; None begins a new interval."""
        self._sums: dict[str, jax.Array] = {}
        self._restored = dict(sums or {})
        self._latest: Metrics = {}

    def add(self, metrics: Metrics) -> None:
        """Adds the metrics of an update, on the devices."""
        self._latest = metrics
        if not self._sums:
            zeros = {name: self._restored.get(name, (0.0, 0.0)) for name in metrics if name not in LATEST}
            self._sums = {name: jnp.asarray(values, jnp.float32) for name, values in zeros.items()}
        self._sums = _add(self._sums, {name: metrics[name] for name in self._sums})

    def take(self) -> dict[str, float]:
        """Returns the mean of each metric, NaN without a finite value, and begins the next interval."""
        sums, latest = jax.device_get((self._sums, {name: self._latest[name] for name in LATEST}))
        self._sums, self._restored = {}, {}
        means = {name: float(total / count) if count else float("nan") for name, (total, count) in sums.items()}
        return means | {name: float(np.asarray(value)) for name, value in latest.items()}

    def sums(self) -> Sums:
        """Returns the sums of the interval so far, for a checkpoint; waits for the device."""
        if not self._sums:
            return self._restored
        return {name: (float(total), float(count)) for name, (total, count) in jax.device_get(self._sums).items()}
