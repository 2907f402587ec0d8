"""Multi-process jobs: initialisation, and exchange of values between processes."""

import itertools
import json
import multiprocessing
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
from jax._src import distributed  # the client of the coordination service, which has no public name

from srgan_jax.runtime import peers
from srgan_jax.runtime.errors import UserError

T = TypeVar("T")
KEYS = "srgan_jax/gathered"
WAIT_MS = 500  # between two moments at which Python can handle a signal
_gathered = itertools.count()


def start_cluster(coordinator: str = "", num_processes: int | None = None, process_id: int | None = None) -> None:
    """Initialises `jax.distributed` in a multi-process job, before JAX is used; does nothing for a single process.

    From then on, all processes end when one does, see `peers`. JAX detects SLURM, TPU pods, GKE, Open MPI and
    Kubernetes (with the `kubernetes` package).

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
    state = distributed.global_state
    if state.num_processes > 1:
        peers.start(state.client, state.process_id, state.num_processes)


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
    """Returns the list of the values of all processes, in their order, on every process; values must be valid JSON.

    They pass through JAX's coordination service, not through the devices, so that signals are handled while waiting.
    """
    if jax.process_count() == 1:
        return [value]
    client: Any = distributed.global_state.client
    number = next(_gathered)
    client.key_value_set(f"{KEYS}/{number}/{jax.process_index()}", json.dumps(value))
    found = [json.loads(_wait_for(client, f"{KEYS}/{number}/{index}")) for index in range(jax.process_count())]
    if number:  # all processes have read the values of the previous call
        client.key_value_delete(f"{KEYS}/{number - 1}/{jax.process_index()}")
    return found


def _wait_for(client: Any, key: str) -> str:
    """Returns the value of a key once another process has written it.

    It waits without a limit: if the other process has ended, `peers` ends this one.
    """
    while True:
        try:
            return client.blocking_key_value_get(key, WAIT_MS)
        except Exception as error:  # jaxlib's, which has no class of its own
            if "DEADLINE_EXCEEDED" not in str(error):
                raise


def on_first_process(function: Callable[[], T]) -> T:
    """Calls `function` on process 0 only; returns its result, or raises its error, on every process.

    Raises:
      UserError: `function` raised an error; process 0 raises any other than a UserError or an OSError as it is.
    """
    if jax.process_count() == 1:
        return function()
    result, error, raised = None, "", None
    if jax.process_index() == 0:
        try:
            result = function()
        except (UserError, OSError) as caught:
            error = str(caught)
        except Exception as caught:
            error, raised = f"process 0: {type(caught).__name__}: {caught}", caught
    outcome: list[Any] = [result, error]
    result, error = gather(outcome)[0]
    if raised:
        raise raised
    if error:
        raise UserError(error)
    return result


def process_slice(items: Sequence[T]) -> list[T]:
    """Returns this process's items of a list that all n processes have: every n-th item."""
    return list(items[jax.process_index() :: jax.process_count()])


def merge_slices(rows: Sequence[T]) -> list[T]:
    """Returns on every process the rows of all processes, in the order of the list that `process_slice` divided."""
    slices = gather(list(rows))
    return [part[index] for index in range(len(slices[0])) for part in slices if index < len(part)]
