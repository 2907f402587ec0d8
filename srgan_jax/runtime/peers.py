"""Ends every process of a job when one has ended: because it was killed, by an error, or with its machine.

Each process writes a heartbeat to the key-value store of JAX's coordination service, which process 0 runs, and reads
the heartbeats of the others. A process that ends by an error writes its exit status and message there. Without this,
the others would wait in a collective for a process that has ended: for ever, or until the service aborts them, which
prints a C++ stack.
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
HEARTBEAT_VARIABLE, HEARTBEAT_SECONDS = "SRGAN_JAX_HEARTBEAT_SECONDS", 30.0  # without one for this time it is lost
GRACE_SECONDS = 4.0  # within which the main thread may end by itself, with its own message
STOPPED = (129, 130, 143)  # exit statuses of a run that a signal stopped
PREFIX = "srgan_jax"
FATAL = b"Terminating process because the JAX distributed service"
LOG_LINE = re.compile(rb"[IWEF]\d{4} [\d:.]+ +\d+ (coordination_service|preemption_sync_manager|client\.h|service\.)")
CONTINUED = re.compile(rb"Additional GRPC|:UNKNOWN:|\*\*\* Check failure| +@ +0x")
# Errors of collectives when another process is gone: of Gloo, NCCL, TPU, gRPC and JAX's service
FROM_A_PEER = re.compile("gloo|nccl|connection|socket|peer|unavailable|deadline|coordination|barrier", re.IGNORECASE)


class _Peers:
    """The heartbeats of the processes of this job."""

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
        """Writes the heartbeat of this process and reads those of the others, once a second."""
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
                    self.lost(f"process {process} of {self.count} has sent no heartbeat for {self.heartbeat:g} s")
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
        """Publishes that this process ends. With a status other than 0 it also exits, once the others end too."""
        self._leaving.set()
        self._publish(status, text)
        if not status:
            return
        until = time.monotonic() + 2 * GRACE_SECONDS
        while time.monotonic() < until:
            with contextlib.suppress(Exception):
                if len(self._read("end")) == self.count:
                    break
            time.sleep(BEAT_SECONDS / 4)
        time.sleep(BEAT_SECONDS / 2 if self.index == 0 else 0)  # process 0, which runs the store, exits last
        self.exit(status)

    def _publish(self, status: int, text: str) -> None:
        """Publishes status and message of this process; gives up after a second: calls hang if process 0 has ended."""

        def write():
            with contextlib.suppress(Exception):
                content = json.dumps([status, text])
                self.client.key_value_set(f"{PREFIX}/end/{self.index}", content, allow_overwrite=True)

        thread = threading.Thread(target=write, daemon=True)
        thread.start()
        thread.join(1.0)

    def exit(self, status: int, text: str = "") -> NoReturn:
        """Ends this process at once; at a normal exit JAX would wait for the other processes."""
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        if self._stderr:
            self._stderr.close(text)
        else:
            os.write(2, text.encode())
        os._exit(status)


class _NativeMessages:
    """Copies standard error, except the messages of the coordination service about a lost process.

    When process 0 has ended, the service's client writes a message (`FATAL`) and aborts this process. The handler of
    the abort waits for that message, and then calls `lost`. JAX's own callback for this can't be used from Python.
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
        self._library.signal(number, None)  # the default handler, as another library has aborted

    def close(self, text: str) -> None:
        """Writes the rest of the output, then `text`, and stops copying."""
        os.dup2(self._real, 2)  # ends the pipe
        self._thread.join(1.0)
        with contextlib.suppress(OSError):
            os.write(self._real, text.encode())


_peers: _Peers | None = None


def start(client: Any, index: int, count: int) -> None:
    """Begins to exchange heartbeats with the other processes of a job.

    Args:
      client: client of JAX's coordination service.
      index: index of this process, from 0.
      count: number of processes.
    """
    global _peers
    _peers = _Peers(client, index, count)


def how_to_resume(describe: Callable[[], str]) -> None:
    """Sets the function that returns the end of the message about a lost process: last checkpoint and command."""
    if _peers:
        _peers.resume = describe


def stopping() -> None:
    """Records that all processes have agreed to stop by a signal.

    From then on, a process that ends with such a status doesn't end the others, which may still be saving.
    """
    if _peers:
        _peers.stopping = True


def leave(status: int, text: str = "") -> None:
    """Publishes to the other processes of a job, if there are any, that this one ends.

    Returns for status 0, and where there are no other processes; otherwise it ends this process.

    Args:
      status: exit status of this process.
      text: message of the error.
    """
    if _peers:
        _peers.leave(status, text)


def leave_by(error: BaseException) -> None:
    """Prints an exception, publishes it to the other processes of a job, and ends this process.

    Does nothing if there are no other processes. A SystemExit is not printed, and returns for status 0. An error of a
    collective is mostly caused by another process that has ended: the function first waits for the exchange to report
    that process.
    """
    if _peers is None:
        return
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
        return _peers.leave(status, f"stopped with status {status}")
    if FROM_A_PEER.search(str(error)):
        time.sleep(_peers.heartbeat + GRACE_SECONDS)  # meanwhile the exchange ends this process
    traceback.print_exception(error)
    _peers.leave(1, f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}")
