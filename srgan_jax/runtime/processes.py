"""The processes of a job: started, and told what the others know."""

import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from srgan_jax.runtime.errors import UserError

T = TypeVar("T")


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


def on_first_process(function: Callable[[], T]) -> T:
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
    outcome: list[Any] = [result, error]
    result, error = gather(outcome)[0]
    if error:
        raise UserError(error)
    return result


def process_slice(items: Sequence[T]) -> list[T]:
    """This process's share of a list that all processes know: every n-th of n processes."""
    return list(items[jax.process_index() :: jax.process_count()])


def merge_slices(rows: Sequence[T]) -> list[T]:
    """The rows that all processes made of their `process_slice`, in the order of the whole list, in every process."""
    shares = gather(list(rows))
    return [share[place] for place in range(len(shares[0])) for share in shares if place < len(share)]
