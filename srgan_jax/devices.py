"""How an update runs on the devices at hand; besides this file only `models.convolution` asks which there are."""

import json
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import psutil
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from srgan_jax.errors import UserError, lookup

T = TypeVar("T")

AXIS = "data"
MAPPINGS = {"jit": None, "pmap": AXIS}  # the name of the axis that an update averages over
DETERMINISTIC_FLAG = "--xla_gpu_deterministic_ops=true"
POLL_CALLS = 4  # between two questions of whether a process was told to stop; so all stop within twice as many


# ---------------------------------------------------------------------------------------------- processes


def start_cluster(coordinator: str = "", num_processes: int | None = None, process_id: int | None = None) -> None:
    """Joins the processes of a job into one, before JAX is used; does nothing on a machine of its own.

    SLURM, TPU pods, GKE, Open MPI and Kubernetes (with the `kubernetes` package) are detected by JAX itself.

    Args:
      coordinator: "host:port" of process 0, where no cluster is detected; "none" detects none.
      num_processes: of the whole job.
      process_id: of this one, from 0.

    Raises:
      UserError: an incomplete description, or the processes don't find each other.
    """
    described = (bool(coordinator), num_processes is not None, process_id is not None)
    if coordinator == "none" or jax.distributed.is_initialized():
        return
    if any(described) and not all(described):
        raise UserError("--coordinator HOST:PORT, --num_processes and --process_id belong together; or none of them")
    if any(described) and not (":" in coordinator and 0 <= process_id < num_processes):
        raise UserError(
            f"expected --coordinator HOST:PORT and 0 <= --process_id < --num_processes, got {coordinator!r}, "
            f"{process_id} and {num_processes}"
        )
    try:
        jax.distributed.initialize(coordinator or None, num_processes, process_id)
    except (RuntimeError, ValueError) as error:
        # What JAX says at once where it detects no cluster, and where a caller of ours used it already.
        harmless = ("coordinator_address should be defined", "must be called before")
        if not any(described) and any(text in str(error) for text in harmless):
            return
        raise UserError(
            f"the processes of this job could not be joined ({str(error).splitlines()[0]}); "
            "--coordinator=none trains with this process alone"
        ) from None


def gather(value: T) -> list[T]:
    """`value` of every process, in their order, in every process; anything that JSON can hold."""
    if jax.process_count() == 1:
        return [value]
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.array([text.size]))[:, 0]
    padded = np.pad(text, (0, sizes.max() - text.size))
    return [json.loads(bytes(row[:size])) for row, size in zip(multihost_utils.process_allgather(padded), sizes,
                                                               strict=True)]  # fmt: skip


def on_first(function: Callable[[], T]) -> T:
    """What `function` returns in process 0, which alone calls it; in every process. So are its errors.

    Raises:
      UserError: `function` raised one, or an OSError.
    """
    if jax.process_count() == 1:
        return function()
    result, error = None, ""
    if jax.process_index() == 0:
        try:
            result = function()
        except (UserError, OSError) as raised:
            error = str(raised)
    result, error = gather([result, error])[0]
    if error:
        raise UserError(error)
    return result


def process_share(items: Sequence[T]) -> list[T]:
    """This process's share of a list that all processes know: every n-th of n processes."""
    return list(items[jax.process_index() :: jax.process_count()])


def merge_shares(rows: Sequence[T]) -> list[T]:
    """The rows that all processes made of their `process_share`, in the order of the whole list, in every process."""
    shares = gather(list(rows))
    return [share[place] for place in range(len(shares[0])) for share in shares if place < len(share)]


class AgreedStop:
    """Whether any process was told to stop, known to all of them at the same update, without waiting for a device."""

    def __init__(self, mesh: Mesh):
        self._parts = NamedSharding(mesh, PartitionSpec(AXIS))
        self._largest = jax.jit(jnp.max, out_shardings=NamedSharding(mesh, PartitionSpec()))
        self._calls, self._asked = 0, None

    def __call__(self, wanted: int) -> int:
        """To be called after each update: the largest `wanted` (a signal's number, 0 for none) of all processes."""
        if jax.process_count() == 1:
            return wanted
        self._calls += 1
        if self._calls % POLL_CALLS:
            return 0
        agreed = 0 if self._asked is None else int(self._asked)
        here = np.full(jax.local_device_count(), wanted, np.int32)
        self._asked = self._largest(jax.make_array_from_process_local_data(self._parts, here))
        return agreed


# ---------------------------------------------------------------------------------------------- devices


def make_deterministic() -> None:
    """Asks XLA for the same bits every time on GPUs; before JAX is used."""
    flags = os.environ.get("XLA_FLAGS", "")
    if "xla_gpu_deterministic_ops" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} {DETERMINISTIC_FLAG}".strip()


def check_deterministic() -> None:
    """Raises UserError where `make_deterministic` came too late for the GPUs that are in use."""
    if jax.default_backend() == "gpu" and DETERMINISTIC_FLAG not in os.environ.get("XLA_FLAGS", ""):
        raise UserError(f"config.deterministic=True needs XLA_FLAGS={DETERMINISTIC_FLAG} before JAX is first used")


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
    return psutil.virtual_memory().available  # what could be had without swapping: more than what is unused


def replicate(tree: Any, mesh: Mesh) -> Any:
    """Every array of `tree`, which all processes have alike, on every device of the mesh."""
    whole = NamedSharding(mesh, PartitionSpec())
    if jax.process_count() == 1:
        return jax.device_put(tree, whole)
    # device_put would send each array to all processes, to compare them
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(whole, np.asarray(x)), tree)


def as_global(tree: Any, mesh: Mesh) -> Any:
    """Replicated arrays of all processes, from what `map_update` returned: pmap's belong to their process alone."""
    leaves = jax.tree.leaves(tree)
    if jax.process_count() == 1 or not leaves[0].is_fully_addressable:
        return tree
    return multihost_utils.host_local_array_to_global_array(tree, mesh, PartitionSpec())


def local_slice(batch_size: int, micro_batches: int = 1) -> slice:
    """This process's share of the global batch.

    Raises:
      UserError: the batch can't be divided by the devices, each device's share by `micro_batches`.
    """
    if micro_batches < 1:
        raise UserError(f"config.micro_batches={micro_batches}: expected 1 or more")
    divisor = jax.device_count() * micro_batches
    if batch_size % divisor:
        nearest = max(divisor, round(batch_size / divisor) * divisor)
        by = f"{jax.device_count()} devices" + f" x {micro_batches} micro-batches" * (micro_batches > 1)
        raise UserError(f"config.data.batch_size={batch_size} can't be divided by {by}; {nearest} can")
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


def repeated(update: Callable, count: int) -> Callable:
    """`count` updates in one, with the metrics of the last; all on the samples that the state itself addresses."""
    if count == 1:
        return update

    def updates(state, frozen, sharded):
        if jax.default_backend() != "cpu":
            step = lambda state, _: update(state, frozen, sharded)  # noqa: E731
            state, metrics = jax.lax.scan(step, state, length=count)
            return state, jax.tree.map(lambda values: values[-1], metrics)
        for _ in range(count):  # inside a scan, XLA's convolutions run on one thread of a CPU
            state, metrics = update(state, frozen, sharded)
        return state, metrics

    return updates


def mean_of_parts(function: Callable[[Any], Any], batch: Any, parts: int) -> Any:
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


def must_block() -> bool:
    """Whether to wait for each update: many queued ones dead-lock XLA's CPU collectives on several virtual devices."""
    return jax.default_backend() == "cpu" and jax.device_count() > 1
