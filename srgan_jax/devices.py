"""How an update runs on the devices at hand: the only file that names devices."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from srgan_jax.errors import UserError, lookup

AXIS = "data"
MAPPINGS = {"jit": None, "pmap": AXIS}  # the name of the axis that an update averages over


def make_mesh(devices: Sequence[jax.Device] | None = None) -> Mesh:
    """`devices`, by default all of all processes, in one axis, "data"."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def compute_dtype(name: str) -> Any:
    """ "float32", "bfloat16", or "auto": bfloat16 on GPUs and TPUs, float32 on CPUs."""
    names = {"float32": np.dtype("float32"), "bfloat16": jax.numpy.bfloat16}
    names["auto"] = names["float32" if jax.default_backend() == "cpu" else "bfloat16"]
    return lookup(names, name, "compute_dtype")


def memory_bytes() -> int | None:
    """Memory of one device; None where it is the host's."""
    stats = jax.local_devices()[0].memory_stats()
    return stats.get("bytes_limit") if stats else None


def free_bytes() -> int:
    """Memory that a device has left; the host's where devices share it."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():  # what could be had without swapping: more than what is unused
        return int(meminfo.read_text().split("MemAvailable:")[1].split()[0]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Every array of `tree` on every device of the mesh."""
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def local_slice(batch_size: int) -> slice:
    """This process's share of the global batch.

    Raises:
      ValueError: the batch can't be divided by the devices.
    """
    devices = jax.device_count()
    if batch_size % devices:
        nearest = max(devices, round(batch_size / devices) * devices)
        raise UserError(f"config.data.batch_size={batch_size} can't be divided by {devices} devices; {nearest} can")
    share = batch_size // jax.process_count()
    return slice(jax.process_index() * share, (jax.process_index() + 1) * share)


def shard(tree: Any, mesh: Mesh, mapping: str) -> Any:
    """This process's share of a batch, laid over its devices.

    Args:
      tree: numpy arrays `[local batch, ...]`.
      mesh: from `make_mesh`.
      mapping: "jit" or "pmap".
    """
    if mapping == "pmap":
        local = len(mesh.local_devices)
        split = jax.tree.map(lambda x: x.reshape(local, len(x) // local, *x.shape[1:]), tree)
        here = Mesh(np.array(mesh.local_devices), (AXIS,))
        return jax.device_put(split, NamedSharding(here, PartitionSpec(AXIS)))
    return jax.make_array_from_process_local_data(NamedSharding(mesh, PartitionSpec(AXIS)), tree)


def map_update(update: Callable, mesh: Mesh, mapping: str) -> Callable:
    """`update(state, frozen, sharded) -> (state, metrics)` over all devices.

    "jit": global arrays; XLA inserts the collectives, batch statistics are the global batch's. "pmap": one program a
    device; `update` averages over the axis that `MAPPINGS` names. In both, `state` and `frozen` are ordinary
    replicated arrays and `sharded` comes from `shard`.
    """
    lookup(MAPPINGS, mapping, "config.devices.mapping")
    if mapping == "pmap":
        return jax.pmap(update, axis_name=AXIS, in_axes=(None, None, 0), out_axes=None, devices=list(mesh.devices.flat))
    whole, parts = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec(AXIS))
    return jax.jit(update, in_shardings=(whole, whole, parts), out_shardings=(whole, whole), donate_argnums=0)


def must_block() -> bool:
    """Whether to wait for each update: many queued ones dead-lock XLA's CPU collectives on several virtual devices."""
    return jax.default_backend() == "cpu" and jax.local_device_count() > 1
