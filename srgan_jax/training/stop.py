"""Stopping a run by a signal, at the same update in all processes."""

import contextlib
import signal
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from srgan_jax.runtime import peers
from srgan_jax.runtime.devices import AXIS
from srgan_jax.runtime.messages import report

Handler = Callable[[int, FrameType | None], object] | int | None  # as signal.getsignal returns it
POLL_CALLS = 4  # update calls between two exchanges of signals; all processes stop within twice as many calls


SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name))


class StopRequest(contextlib.AbstractContextManager):
    """Records SIGTERM, SIGHUP and Ctrl-C instead of ending the process, so that the loop can save.

    A second signal ends the process. Before `listen` there is nothing to save, so the first signal ends it. A signal
    that the process ignores, such as SIGHUP under `nohup`, is still ignored.
    """

    def __init__(self):
        self._received = 0
        self._previous_handlers: dict[int, Handler] = {}
        self._agreed: AgreedStop | None = None

    def __enter__(self) -> "StopRequest":
        self._previous_handlers = {number: signal.getsignal(number) for number in SIGNALS}
        try:
            for number, handler in self._previous_handlers.items():
                if handler != signal.SIG_IGN:
                    signal.signal(number, self._handle_signal)
        except ValueError:  # not in the main thread, where the caller handles signals
            self._previous_handlers = {}
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous_handlers.items():
            signal.signal(number, handler or signal.SIG_DFL)  # None: a handler of JAX, in multi-process runs

    def _handle_signal(self, number: int, frame: FrameType | None) -> None:
        self._received = self._received or number
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        name = "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
        if self._agreed is None:
            report(f"{name}: stopped before training began", everywhere=True)
            raise SystemExit(128 + number)
        report(f"{name}: saving after the update in progress; a second one stops without saving", everywhere=True)

    def listen(self, mesh: Mesh) -> None:
        """Prepares the exchange with the other processes, whose devices are in `mesh`."""
        self._agreed = AgreedStop(mesh)

    def received(self) -> int:
        """Returns the number of the signal that this process has received, else 0."""
        return self._received

    def agreed(self) -> int:
        """Returns the number of the signal at which all processes stop now, else 0. Call it after each update."""
        number = self._agreed(self._received) if self._agreed else self._received
        if number:
            peers.stopping()
        return number


def stop_run(stage: str, step: int, saved: int, number: int) -> NoReturn:
    """Reports the last saved update of a stage that stopped after update `step`; exits with status 128 + `number`."""
    outcome = f"saved after update {step}" if saved == step else f"NOT saved after update {step}"
    report(f"{stage}: {outcome}; the same command, or --workdir alone, resumes at update {saved}")
    raise SystemExit(128 + number)


class AgreedStop:
    """Exchanges received signals, so that all processes stop at the same update, without waiting for a device."""

    def __init__(self, mesh: Mesh):
        self._sharding = NamedSharding(mesh, PartitionSpec(AXIS))
        self._largest = jax.jit(jnp.max, out_shardings=NamedSharding(mesh, PartitionSpec()))
        self._calls, self._pending = 0, None

    def __call__(self, wanted: int) -> int:
        """Returns the largest `wanted` (the number of a signal, 0 for none) of all processes."""
        if jax.process_count() == 1:
            return wanted
        self._calls += 1
        if self._calls % POLL_CALLS:
            return 0
        agreed = 0 if self._pending is None else int(self._pending)
        local = np.full(jax.local_device_count(), wanted, np.int32)
        self._pending = self._largest(jax.make_array_from_process_local_data(self._sharding, local))
        return agreed
