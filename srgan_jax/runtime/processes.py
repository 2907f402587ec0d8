"""Multi-process jobs: initialisation, and exchange of values between processes."""

import json
import multiprocessing
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from srgan_jax.runtime.errors import UserError

T = TypeVar("T")


def start_cluster(coordinator: str = "", num_processes: int | None = None, process_id: int | None = None) -> None:
    """Initialises `jax.distributed` in a multi-process job, before JAX is used; does nothing for a single process.

    JAX detects SLURM, TPU pods, GKE, Open MPI and Kubernetes (with the `kubernetes` package).

    Args:
      coordinator: "host:port" of process 0, for clusters that JAX doesn't detect; "none" disables the detection.
      num_processes: number of processes of the job.
      process_id: index of this process, from 0.

    Raises:
      UserError: only some of the arguments are given, or the processes can't connect.
    """
    described = (bool(coordinator), num_processes is not None, process_id is not None)
    if coordinator == "none" or jax.distributed.is_initialized():
        return
    if any(described) and not all(described):
        raise UserError("expected all of --coordinator HOST:PORT, --num_processes and --process_id, or none of them")
    if (
        num_processes is not None
        and process_id is not None
        and not (":" in coordinator and 0 <= process_id < num_processes)
    ):
        raise UserError(
            f"expected --coordinator HOST:PORT and 0 <= --process_id < --num_processes, got {coordinator!r}, "
            f"{process_id} and {num_processes}"
        )
    try:
        jax.distributed.initialize(coordinator or None, num_processes, process_id)
    except (RuntimeError, ValueError) as error:
        # The messages of JAX if it detects no cluster, and if the caller has used JAX already.
        harmless = ("coordinator_address should be defined", "must be called before")
        if not any(described) and any(text in str(error) for text in harmless):
            return
        raise UserError(
            f"the processes of this job could not be connected ({str(error).splitlines()[0]}); "
            "--coordinator=none uses this process only"
        ) from None


def check_semaphores() -> None:
    """Checks that the system has semaphores, which libraries that read data and checkpoints use.

    Raises:
      UserError: it has none; on Linux they are files in /dev/shm.
    """
    try:
        multiprocessing.get_context("spawn").Lock()
    except OSError as error:
        raise UserError(
            f"no semaphore can be made ({error.strerror}); training needs a writable /dev/shm: mount a tmpfs there, in "
            "a container with --shm-size=64m or --tmpfs /dev/shm"
        ) from None


def gather(value: T) -> list[T]:
    """Returns the list of the values of all processes, in their order, on every process; values must be valid JSON."""
    if jax.process_count() == 1:
        return [value]
    text = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.array([text.size]))[:, 0]
    padded = np.pad(text, (0, sizes.max() - text.size))
    return [json.loads(bytes(row[:size])) for row, size in zip(multihost_utils.process_allgather(padded), sizes,
                                                               strict=True)]  # fmt: skip


def on_first_process(function: Callable[[], T]) -> T:
    """Calls `function` on process 0 only; returns its result, or raises its error, on every process.

    Raises:
      UserError: `function` raised a UserError or an OSError.
    """
    if jax.process_count() == 1:
        return function()
    result, error = None, ""
    if jax.process_index() == 0:
        try:
            result = function()
        except (UserError, OSError) as raised:
            error = str(raised)
    outcome: list[Any] = [result, error]
    result, error = gather(outcome)[0]
    if error:
        raise UserError(error)
    return result


def process_slice(items: Sequence[T]) -> list[T]:
    """Returns this process's items of a list that all processes have: every n-th item of n processes."""
    return list(items[jax.process_index() :: jax.process_count()])


def merge_slices(rows: Sequence[T]) -> list[T]:
    """Returns on every process the rows of all processes, in the order of the list that `process_slice` divided."""
    slices = gather(list(rows))
    return [part[index] for index in range(len(slices[0])) for part in slices if index < len(part)]
