"""Devices of this machine or job: determinism, meshes, memory, and arrays sharded or replicated over devices."""

import collections
import contextvars
import os
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import psutil
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from srgan_jax.runtime.errors import UserError, lookup
from srgan_jax.runtime.messages import report
from srgan_jax.runtime.types import Device, PyTree

AXIS = "data"
# The mesh over whose devices XLA divides the batch of the update that is being traced; None outside of `map_update`
batch_mesh: contextvars.ContextVar[Mesh | None] = contextvars.ContextVar("batch_mesh", default=None)
DETERMINISTIC_FLAG = "--xla_gpu_deterministic_ops=true"


def make_deterministic() -> None:
    """Makes XLA deterministic on GPUs: identical bits in every run. Call it before JAX is used."""
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_gpu_deterministic_ops" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {DETERMINISTIC_FLAG}".strip()


def check_deterministic() -> None:
    """Raises UserError if GPUs are in use and `make_deterministic` was called too late."""
    if jax.default_backend() == "gpu" and DETERMINISTIC_FLAG not in os.environ.get("XLA_FLAGS", ""):
        raise UserError(
            "config.deterministic=True was set after the first use of JAX; start Python with "
            f"XLA_FLAGS={DETERMINISTIC_FLAG}"
        )


def check_platform() -> None:
    """Raises UserError if JAX can't use the platform that `JAX_PLATFORMS` names, such as CUDA without a driver."""
    try:
        jax.devices()
    except Exception as error:  # JAX raises RuntimeError or AssertionError
        wanted = os.environ.get("JAX_PLATFORMS", "")
        reason = (str(error) or "no such device, or the package for it is not installed").splitlines()[0]
        raise UserError(
            f"JAX can't start with JAX_PLATFORMS={wanted}: {reason}; unset JAX_PLATFORMS to use the available devices"
        ) from None


def make_mesh(devices: Sequence[Device] | None = None) -> Mesh:
    """Returns a mesh of `devices` with one axis, "data"; by default of all devices of all processes."""
    devices = jax.devices() if devices is None else devices
    return jax.make_mesh((len(devices),), (AXIS,), axis_types=(AxisType.Auto,), devices=devices)


def is_cpu(mesh: Mesh) -> bool:
    """Returns whether the devices of a mesh are CPUs. They need not be present: see `jax.experimental.topologies`."""
    return mesh.devices.flat[0].platform == "cpu"


def compute_dtype(name: str, platform: str | None = None) -> Any:
    """Returns the dtype for "float32", "bfloat16", or "auto": bfloat16 on GPUs and TPUs, float32 on CPUs.

    Args:
      name: the name.
      platform: "cpu", "gpu" or "tpu"; None is the default backend.
    """
    names = {"float32": np.dtype("float32"), "bfloat16": jax.numpy.bfloat16}
    names["auto"] = names["float32" if (platform or jax.default_backend()) == "cpu" else "bfloat16"]
    return lookup(names, name, "compute_dtype")


def report_devices(dtype: str, mapping: str) -> None:
    """Reports the devices of the run, its dtype and its mapping."""
    name = np.dtype(compute_dtype(dtype)).name
    kind, count = jax.devices()[0].device_kind, jax.device_count()
    report(f"devices: {count} x {kind}, {jax.process_count()} processes, {name}, {mapping}")


def memory_bytes() -> int | None:
    """Returns the memory of one device in bytes; None if the device uses the host's memory."""
    stats = jax.local_devices()[0].memory_stats()
    return stats.get("bytes_limit") if stats else None


def free_bytes() -> int:
    """Returns the free memory of a device in bytes; that of the host if devices use the host's memory."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    return psutil.virtual_memory().available  # memory available without swapping


def replicate(tree: PyTree, mesh: Mesh) -> PyTree:
    """Replicates every array of `tree` to all devices of the mesh; all processes must pass the same values."""
    replicated = NamedSharding(mesh, PartitionSpec())
    if jax.process_count() == 1:
        return jax.device_put(tree, replicated)

    def place(array):
        if isinstance(array, jax.Array) and not array.is_fully_addressable:  # a result of `gather_rows`
            parts = [part.data for part in array.addressable_shards]
            return jax.make_array_from_single_device_arrays(array.shape, replicated, parts)
        # device_put would send each array to all processes, to compare their values
        return jax.make_array_from_process_local_data(replicated, np.asarray(array))

    return jax.tree.map(place, tree)


def gather_rows(rows: np.ndarray) -> Any:
    """Returns the rows of all processes, in their order, on every device, by one all-gather between the devices.

    Args:
      rows: the same number in each process, a multiple of the number of its devices. A single process gets them back.
    """
    if jax.process_count() == 1:
        return rows
    # Unlike that of `make_mesh`, this order keeps the devices of a process together.
    ordered = sorted(jax.devices(), key=lambda device: (device.process_index, device.id))
    mesh = Mesh(np.array(ordered), (AXIS,))
    split = jax.make_array_from_process_local_data(NamedSharding(mesh, PartitionSpec(AXIS)), rows)
    return jax.jit(lambda array: array, out_shardings=NamedSharding(mesh, PartitionSpec()))(split)


def as_global(tree: PyTree, mesh: Mesh) -> PyTree:
    """Converts the replicated arrays of one process, as pmap returns them, to global arrays of all processes."""
    leaves = jax.tree.leaves(tree)
    if jax.process_count() == 1 or not leaves[0].is_fully_addressable:
        return tree
    return multihost_utils.host_local_array_to_global_array(tree, mesh, PartitionSpec())


def local_slice(batch_size: int, micro_batches: int = 1) -> slice:
    """Returns the positions of this process's samples in the global batch.

    Raises:
      UserError: the batch size is not a multiple of the number of devices times `micro_batches`.
    """
    if micro_batches < 1:
        raise UserError(f"config.micro_batches={micro_batches}: expected 1 or more")
    divisor = jax.device_count() * micro_batches
    if batch_size % divisor:
        nearest = max(divisor, round(batch_size / divisor) * divisor)
        by = f"{jax.device_count()} devices" + f" x {micro_batches} microbatches" * (micro_batches > 1)
        raise UserError(
            f"config.data.batch_size={batch_size}: expected a multiple of {divisor} ({by}), for instance {nearest}"
        )
    per_process = batch_size // jax.process_count()
    return slice(jax.process_index() * per_process, (jax.process_index() + 1) * per_process)


def shard(tree: PyTree, mesh: Mesh, mapping: str) -> PyTree:
    """Shards this process's part of a batch over its devices.

    Args:
      tree: numpy arrays `[local batch, ...]`.
      mesh: from `make_mesh`.
      mapping: "jit" (returns global arrays) or "pmap" (returns arrays `[local devices, batch per device, ...]`).
    """
    if mapping == "pmap":
        local = len(mesh.local_devices)
        split = jax.tree.map(lambda x: x.reshape(local, len(x) // local, *x.shape[1:]), tree)
        local_mesh = Mesh(np.array(mesh.local_devices), (AXIS,))
        return jax.device_put(split, NamedSharding(local_mesh, PartitionSpec(AXIS)))
    return jax.make_array_from_process_local_data(NamedSharding(mesh, PartitionSpec(AXIS)), tree)


def must_block() -> bool:
    """Returns whether to block on each update: queued updates deadlock XLA's collectives on several CPU devices."""
    return jax.default_backend() == "cpu" and jax.device_count() > 1


class UpdateQueue:
    """Limits how many updates wait for the device.

    JAX returns before an update is computed. With a long queue, the progress bar would count updates that are not yet
    computed, and a signal would take effect late.
    """

    def __init__(self, limit: int = 2):
        self._limit = 0 if must_block() else limit
        self._results: collections.deque[PyTree] = collections.deque()

    def add(self, result: PyTree) -> None:
        """Waits until at most `limit` updates, of which `result` is from the newest, are not yet computed."""
        self._results.append(result)
        while len(self._results) > self._limit:
            jax.block_until_ready(self._results.popleft())


def host_memory_bytes() -> int:
    """Returns the physical memory of this machine in bytes."""
    return psutil.virtual_memory().total
