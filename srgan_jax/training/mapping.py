"""One update mapped over all devices: `jit` or `pmap`, repeated in a call, in microbatches."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from srgan_jax.runtime.devices import AXIS
from srgan_jax.runtime.errors import lookup
from srgan_jax.runtime.types import PyTree

MAPPINGS = {"jit": None, "pmap": AXIS}  # the name of the axis that an update averages over


def repeat_update(update: Callable, count: int) -> Callable:
    """`count` updates in one, with the metrics of the last; all on the samples that the state itself addresses."""
    if count == 1:
        return update

    def updates(state, frozen, sharded):
        if jax.default_backend() != "cpu":
            step = lambda state, _: update(state, frozen, sharded)  # noqa: E731
            state, metrics = jax.lax.scan(step, state, length=count)
            return state, jax.tree.map(lambda values: values[-1], metrics)
        for _ in range(count - 1):  # inside a scan, XLA's convolutions run on one thread of a CPU
            state, _ = update(state, frozen, sharded)
        return update(state, frozen, sharded)

    return updates


def mean_over_microbatches(function: Callable[[PyTree], PyTree], batch: PyTree, parts: int) -> PyTree:
    """The mean of `function(part)` over the parts of a batch, computed one after the other in the memory of one.

    Args:
      function: pure, to a pytree of floating-point arrays.
      batch: pytree of arrays `[N, ...]`.
      parts: how many; sample i belongs to part i % parts, so that each device has its share of every part.
    """
    if parts == 1:
        return function(batch)
    split = jax.tree.map(lambda x: x.reshape(len(x) // parts, parts, *x.shape[1:]), batch)

    def part(index):
        return jax.tree.map(lambda x: x[:, index], split)

    def added(total, index):
        total, own = jax.lax.optimization_barrier((total, part(index)))  # not before the one before it
        return jax.tree.map(jnp.add, total, function(own)), None

    if jax.default_backend() == "cpu":  # inside a scan, XLA's convolutions run on one thread of a CPU
        total = function(part(0))
        for index in range(1, parts):
            total, _ = added(total, index)
    else:
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(function, part(0)))
        total, _ = jax.lax.scan(added, zeros, jnp.arange(parts))
    return jax.tree.map(lambda x: x / parts, total)


def map_update(update: Callable, mesh: Mesh, mapping: str) -> Callable:
    """`update(state, frozen, sharded) -> (state, metrics)` over all devices.

    "jit": global arrays; XLA inserts the collectives, batch statistics are the global batch's. "pmap": one program a
    device; `update` averages over the axis that `MAPPINGS` names. In both, `state` and `frozen` are ordinary
    replicated arrays and `sharded` comes from `shard`. The memory of `state` is used
    again: it can't be read afterwards.
    """
    lookup(MAPPINGS, mapping, "config.devices.mapping")
    if mapping == "pmap":
        options = {"axis_name": AXIS, "in_axes": (None, None, 0), "out_axes": None, "donate_argnums": 0}
        return jax.pmap(update, devices=list(mesh.devices.flat), **options)
    whole, parts = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(AXIS))
    options = {"in_shardings": (whole, whole, parts), "out_shardings": (whole, whole), "donate_argnums": 0}
    if jax.default_backend() == "cpu":  # where XLA drops barriers, and then undoes what was computed twice for memory
        options["compiler_options"] = {"xla_disable_hlo_passes": "cse_barrier_expander"}
    return jax.jit(update, **options)
