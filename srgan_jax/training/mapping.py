"""Mapping of an update over devices (`jit` or `pmap`), several updates in a call, and microbatches."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from srgan_jax.runtime import devices
from srgan_jax.runtime.devices import AXIS
from srgan_jax.runtime.errors import lookup
from srgan_jax.runtime.types import PyTree

MAPPINGS = {"jit": None, "pmap": AXIS}  # name -> axis over which an update averages explicitly


def repeat_update(update: Callable, count: int, latest: Sequence[str] = (), *, scan: bool = False) -> Callable:
    """Returns a function that makes `count` updates and returns the means of their metrics.

    The step in the state decides the samples of each update, so all updates get the same other arguments.

    Args:
      update: `(state, frozen, sharded) -> (state, metrics)`.
      count: number of updates.
      latest: names of the metrics whose values at the last update are returned, instead of means.
      scan: whether to compile one update in a loop instead of `count` updates; False on CPUs, where XLA runs the
        convolutions inside a loop on one thread.
    """
    if count == 1:
        return update

    def updates(state, frozen, sharded):
        if scan:
            step = lambda state, _: update(state, frozen, sharded)  # noqa: E731
            state, metrics = jax.lax.scan(step, state, length=count)
        else:
            found = []
            for _ in range(count):
                state, metrics = update(state, frozen, sharded)
                found.append(metrics)
            metrics = jax.tree.map(lambda *values: jnp.stack(values), *found)
        return state, {name: _last_or_mean(values, name in latest) for name, values in metrics.items()}

    return updates


def _last_or_mean(values: jax.Array, is_latest: bool) -> jax.Array:
    """Returns the last value, or the mean of the finite ones: NaN without any."""
    return values[-1] if is_latest else jnp.mean(values, where=jnp.isfinite(values))


def mean_over_microbatches(
    function: Callable[[PyTree], PyTree], batch: PyTree, count: int, *, scan: bool = False
) -> PyTree:
    """Returns the mean of `function(microbatch)`; microbatches are computed one after the other, in the memory of one.

    Args:
      function: pure, to a pytree of floating-point arrays.
      batch: pytree of arrays `[N, ...]`.
      count: number of microbatches. Sample i belongs to microbatch i % count, so that each device holds an equal
        fraction of every microbatch.
      scan: as in `repeat_update`.
    """
    if count == 1:
        return function(batch)
    split = jax.tree.map(lambda x: x.reshape(len(x) // count, count, *x.shape[1:]), batch)

    def select(index):
        return jax.tree.map(lambda x: x[:, index], split)

    def add(total, index):
        # The barrier makes each microbatch wait for the one before it.
        total, microbatch = jax.lax.optimization_barrier((total, select(index)))
        return jax.tree.map(jnp.add, total, function(microbatch)), None

    if scan:
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(function, select(0)))
        total, _ = jax.lax.scan(add, zeros, jnp.arange(count))
    else:
        total = function(select(0))
        for index in range(1, count):
            total, _ = add(total, index)
    return jax.tree.map(lambda x: x / count, total)


def map_update(update: Callable, mesh: Mesh, mapping: str) -> Callable:
    """Returns `update(state, frozen, sharded) -> (state, metrics)`, compiled for all devices of `mesh`.

    With "jit", arrays are global: XLA inserts the collectives, and batch statistics are those of the global batch. With
    "pmap", each device runs a program of its own, and `update` averages over the axis that `MAPPINGS` names. In both,
    `state` and `frozen` are replicated arrays, and `sharded` comes from `devices.shard`. `state` is donated: it can't
    be read after the call.
    """
    lookup(MAPPINGS, mapping, "config.devices.mapping")
    if mapping == "pmap":
        options = {"axis_name": AXIS, "in_axes": (None, None, 0), "out_axes": None, "donate_argnums": 0}
        return jax.pmap(update, devices=list(mesh.devices.flat), **options)

    def update_of_mesh(*args):
        token = devices.batch_mesh.set(mesh)
        try:
            return update(*args)
        finally:
            devices.batch_mesh.reset(token)

    replicated, split = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(AXIS))
    in_shardings = (replicated, replicated, split)
    options = {"in_shardings": in_shardings, "out_shardings": (replicated, replicated), "donate_argnums": 0}
    if devices.is_cpu(mesh):  # on CPUs XLA removes barriers, and would then merge the rematerialised passes
        options["compiler_options"] = {"xla_disable_hlo_passes": "cse_barrier_expander"}
    return jax.jit(update_of_mesh, **options)
