"""Ends every process of a job when one has ended: killed, by an error, or with its machine.

Each process writes a sign of life to the key-value store of JAX's coordination service, which process 0 runs, and reads
those of the others. A process that ends by an error says so there. Without this, the others would wait in a collective
for a process that is gone: for ever, or until the service ends them by an abort and a C++ stack.
"""

import atexit
import contextlib
import ctypes
import json
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from srgan_jax.runtime import storage

LOST = 75  # EX_TEMPFAIL: another process was lost, and the same command resumes; launchers start the job again
BEAT_SECONDS = 1.0
HEARTBEAT_VARIABLE, HEARTBEAT_SECONDS = "SRGAN_JAX_HEARTBEAT_SECONDS", 30.0  # without a sign of life it is lost
GRACE_SECONDS = 4.0  # for the main thread to end by itself, with a message of its own
STOPPED = (129, 130, 143)  # exit statuses of a run that a signal stopped
PREFIX = "srgan_jax"
FATAL = b"Terminating process because the JAX distributed service"
LOG_LINE = re.compile(rb"[IWEF]\d{4} [\d:.]+ +\d+ (coordination_service|preemption_sync_manager|client\.h|service\.)")
CONTINUED = re.compile(rb"Additional GRPC|:UNKNOWN:|\*\*\* Check failure| +@ +0x")
# Errors of collectives when another process is gone: of Gloo, NCCL, TPU, gRPC and JAX's service
FROM_A_PEER = re.compile("gloo|nccl|connection|socket|peer|unavailable|deadline|coordination|barrier", re.IGNORECASE)


class _Peers:
    """The signs of life of the processes of this job."""

    def __init__(self, client: Any, index: int, count: int):
        self.client, self.index, self.count = client, index, count
        self.heartbeat = float(os.environ.get(HEARTBEAT_VARIABLE) or HEARTBEAT_SECONDS)
        self.resume: Callable[[], str] = lambda: "the same command resumes"
        self._leaving, self._answered = threading.Event(), time.monotonic()
        self.stopping = False  # all processes have agreed to stop by a signal
        self._ends: dict[int, tuple[int, str]] = {}
        self._once = threading.Lock()
        self._stderr = _NativeMessages(self.lost) if hasattr(signal, "SIGABRT") and os.name == "posix" else None
        for loop in (self._exchange, self._check_exchange):
            threading.Thread(target=loop, daemon=True, name="peers").start()

    def _exchange(self) -> None:
        """Writes this process's sign of life, and reads those of the others."""
        seen: dict[int, tuple[str, float]] = {}
        for beat in range(1 << 62):
            try:
                self.client.key_value_set(f"{PREFIX}/beat/{self.index}", str(beat), allow_overwrite=True)
                beats = self._read("beat")
                self._ends = {process: tuple(json.loads(text)) for process, text in self._read("end").items()}
            except Exception as error:  # an exception of jaxlib without a class of its own
                if not self._leaving.wait(BEAT_SECONDS):
                    self.lost(f"process 0 of {self.count} can't be reached: {str(error).splitlines()[0]}")
                return
            now = self._answered = time.monotonic()
            for process in range(self.count):
                if process not in seen or seen[process][0] != beats.get(process, ""):
                    seen[process] = beats.get(process, ""), now
                elif now - seen[process][1] > self.heartbeat and process not in self._ends:
                    self.lost(f"process {process} of {self.count} has given no sign of life for {self.heartbeat:g} s")
            self._end_with_others()
            time.sleep(BEAT_SECONDS)

    def _read(self, kind: str) -> dict[int, str]:
        return {int(key.rpartition("/")[2]): text for key, text in self.client.key_value_dir_get(f"{PREFIX}/{kind}/")}

    def _check_exchange(self) -> None:
        while time.monotonic() - self._answered < self.heartbeat:
            time.sleep(BEAT_SECONDS)
        if not self._leaving.is_set():
            self.lost(f"process 0 of {self.count} hasn't answered for {self.heartbeat:g} s")

    def _end_with_others(self) -> None:
        """Ends this process if another one ended by an error, unless the main thread does so itself."""
        expected = STOPPED if self.stopping else ()
        failed = {process: end for process, end in self._ends.items() if end[0] and end[0] not in expected}
        failed.pop(self.index, None)
        if not failed or self._leaving.wait(GRACE_SECONDS):
            return
        process, (status, text) = min(failed.items())
        if status == LOST:
            self.lost(text)
        self._end(status, f"process {process} of {self.count} has ended: {text}")

    def lost(self, reason: str) -> None:
        """Ends this process because another one is gone."""
        with contextlib.suppress(Exception):
            reason = f"{reason}; {self.resume()}"
        self._end(LOST, reason)

    def _end(self, status: int, line: str) -> NoReturn:
        self._once.acquire()  # never released: the first line is the only one
        self._publish(status, line)
        line = storage.with_addresses(line).replace("\n", " ")
        self.exit(status, f"error: {line}\n")

    def leave(self, status: int, text: str) -> None:
        """Tells the others that this process ends; for an error it ends here, once they know."""
        self._leaving.set()
        self._publish(status, text)
        if not status:
            return
        until = time.monotonic() + 2 * GRACE_SECONDS
        while time.monotonic() < until:  # the store ends with process 0
            with contextlib.suppress(Exception):
                if len(self._read("end")) == self.count:
                    break
            time.sleep(BEAT_SECONDS / 4)
        time.sleep(BEAT_SECONDS / 2 if self.index == 0 else 0)
        self.exit(status)

    def _publish(self, status: int, text: str) -> None:
        """Tells the others that this process ends; gives up after a second, as calls hang when process 0 is gone."""

        def write():
            with contextlib.suppress(Exception):
                content = json.dumps([status, text])
                self.client.key_value_set(f"{PREFIX}/end/{self.index}", content, allow_overwrite=True)

        thread = threading.Thread(target=write, daemon=True)
        thread.start()
        thread.join(1.0)

    def exit(self, status: int, text: str = "") -> NoReturn:
        """Ends this process at once: JAX would wait at its exit for the others."""
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        if self._stderr:
            self._stderr.close(text)
        else:
            os.write(2, text.encode())
        os._exit(status)


class _NativeMessages:
    """Passes on what is written to standard error, but the messages of the coordination service about a lost process.

    When process 0 is gone, the service's client aborts this process at once. The handler of the abort is told by its
    message, and ends the process in our way. JAX's own callback for this can't be called from Python.
    """

    def __init__(self, lost: Callable[[str], object]):
        self._lost, self._real = lost, os.dup(2)
        self._fatal = threading.Event()
        reader, writer = os.pipe()
        os.dup2(writer, 2)
        os.close(writer)
        self._thread = threading.Thread(target=self._copy, args=(reader,), daemon=True, name="stderr")
        self._thread.start()
        atexit.register(self.close, "")
        self._library = ctypes.CDLL(None)
        self._handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(self._aborted)  # kept: the system holds its address
        self._library.signal(int(signal.SIGABRT), self._handler)

    def _copy(self, reader: int) -> None:
        waiting, dropped = b"", False
        while part := os.read(reader, 1 << 16):
            *lines, waiting = (waiting + part).split(b"\n")
            for line in lines:
                dropped = bool(LOG_LINE.match(line)) or (dropped and bool(CONTINUED.match(line)))
                if FATAL in line:
                    self._fatal.set()
                if not dropped and not self._fatal.is_set():
                    os.write(self._real, line + b"\n")
            if waiting and not re.match(rb"[IWEF]\d", waiting) and not self._fatal.is_set():  # of a progress bar
                os.write(self._real, waiting)
                waiting = b""

    def _aborted(self, number: int) -> None:
        if self._fatal.wait(1.0):
            self._lost("process 0, which the others depend on, has ended")
        self._library.signal(number, None)  # the default: another library has aborted

    def close(self, text: str) -> None:
        """Writes what is left, and `text`."""
        os.dup2(self._real, 2)  # ends the pipe
        self._thread.join(1.0)
        with contextlib.suppress(OSError):
            os.write(self._real, text.encode())


_peers: _Peers | None = None


def start(client: Any, index: int, count: int) -> None:
    """Begins to exchange signs of life with the other processes of a job.

    Args:
      client: of JAX's coordination service.
      index: number of this process.
      count: of processes.
    """
    global _peers
    _peers = _Peers(client, index, count)


def how_to_resume(describe: Callable[[], str]) -> None:
    """Sets the end of the message when another process is lost: the last checkpoint, and the command."""
    if _peers:
        _peers.resume = describe


def stopping() -> None:
    """Says that all processes have agreed to stop by a signal: one that has ended so ends no other, which may save."""
    if _peers:
        _peers.stopping = True


def leave(status: int, text: str = "") -> None:
    """Tells the other processes of a job, if there are any, that this one ends; returns only for status 0.

    Args:
      status: of the exit.
      text: the message of the error.
    """
    if _peers:
        _peers.leave(status, text)


def leave_by(error: BaseException) -> None:
    """Tells the other processes of a job, if there are any, that this one ends by an exception, which is printed here.

    An error of a collective is mostly that of another process; then its end is waited for, and reported.
    """
    if _peers is None:
        return
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
        return _peers.leave(status, f"stopped with status {status}")
    if FROM_A_PEER.search(str(error)):
        time.sleep(_peers.heartbeat + GRACE_SECONDS)  # the exchange ends this process
    traceback.print_exception(error)
    _peers.leave(1, f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}")
