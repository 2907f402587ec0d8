"""The devices of this machine or job: meshes, memory, arrays laid out over them."""

import os
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import psutil
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from srgan_jax.runtime.errors import UserError, lookup
from srgan_jax.runtime.types import Device, PyTree

AXIS = "data"
DETERMINISTIC_FLAG = "--xla_gpu_deterministic_ops=true"


def make_deterministic() -> None:
    """Asks XLA for the same bits every time on GPUs; before JAX is used."""
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_gpu_deterministic_ops" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {DETERMINISTIC_FLAG}".strip()


def check_deterministic() -> None:
    """Raises UserError where `make_deterministic` came too late for the GPUs that are in use."""
    if jax.default_backend() == "gpu" and DETERMINISTIC_FLAG not in os.environ.get("XLA_FLAGS", ""):
        raise UserError(f"config.deterministic=True needs XLA_FLAGS={DETERMINISTIC_FLAG} before JAX is first used")


def make_mesh(devices: Sequence[Device] | None = None) -> Mesh:
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
    return psutil.virtual_memory().available  # what could be had without swapping: more than what is unused


def replicate(tree: PyTree, mesh: Mesh) -> PyTree:
    """Every array of `tree`, which all processes have alike, on every device of the mesh."""
    whole = NamedSharding(mesh, PartitionSpec())
    if jax.process_count() == 1:
        return jax.device_put(tree, whole)
    # device_put would send each array to all processes, to compare them
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(whole, np.asarray(x)), tree)


def as_global(tree: PyTree, mesh: Mesh) -> PyTree:
    """Replicated arrays of all processes, from what `map_update` returned: pmap's belong to their process alone."""
    leaves = jax.tree.leaves(tree)
    if jax.process_count() == 1 or not leaves[0].is_fully_addressable:
        return tree
    return multihost_utils.host_local_array_to_global_array(tree, mesh, PartitionSpec())


def local_slice(batch_size: int, micro_batches: int = 1) -> slice:
    """This process's part of the global batch.

    Raises:
      UserError: the batch can't be divided by the devices, each device's part by `micro_batches`.
    """
    if micro_batches < 1:
        raise UserError(f"config.micro_batches={micro_batches}: expected 1 or more")
    divisor = jax.device_count() * micro_batches
    if batch_size % divisor:
        nearest = max(divisor, round(batch_size / divisor) * divisor)
        by = f"{jax.device_count()} devices" + f" x {micro_batches} micro-batches" * (micro_batches > 1)
        raise UserError(f"config.data.batch_size={batch_size} can't be divided by {by}; {nearest} can")
    per_process = batch_size // jax.process_count()
    return slice(jax.process_index() * per_process, (jax.process_index() + 1) * per_process)


def shard(tree: PyTree, mesh: Mesh, mapping: str) -> PyTree:
    """This process's part of a batch, laid over its devices.

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


def must_block() -> bool:
    """Whether to wait for each update: many queued ones dead-lock XLA's CPU collectives on several virtual devices."""
    return jax.default_backend() == "cpu" and jax.device_count() > 1


def host_memory_bytes() -> int:
    """Physical memory of this machine."""
    return psutil.virtual_memory().total
