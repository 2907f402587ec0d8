"""Decoding in processes of their own: what crashes, hangs or takes too much memory there costs one file.

`call` is for images, `run` and `stream` for videos.
"""

import atexit
import contextlib
import dataclasses
import functools
import io
import os
import pickle
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from srgan_jax.images import isolation_process
from srgan_jax.images.errors import ImageError
from srgan_jax.images.files import is_open
from srgan_jax.images.limits import MAX_MEMORY_BYTES, MAX_PIXELS, load_per_processor, with_timeout
from srgan_jax.images.picture import Frames
from srgan_jax.images.pillow import kind_of_path

T = TypeVar("T")
SCRIPT = Path(__file__).with_name("isolation_process.py")
FRAMES_FACTOR = 3  # times the limit of an animation's first decoding: its frames are decoded twice, and sent
STALLED = 4  # a process that waits, perhaps for a disk, is ended after so many times the limit of processor time

_lock = threading.Lock()
_blocks = 0  # `isolated_decoding` blocks that are entered
_idle: list["_Process"] = []  # processes that wait for a file


@contextlib.contextmanager
def isolated_decoding() -> Iterator[None]:
    """Makes images and videos be read in other processes, inside the `with` block, in all threads.

    The first process is started at once, further ones as files are decoded at the same time. They don't import JAX, are
    ready after about 0.2 seconds, and end with this process. The system limits the memory and processor time of each
    file.
    """
    global _blocks
    with _lock:
        _blocks += 1
        if not _idle:
            _idle.append(_Process())
    try:
        yield
    finally:
        with _lock:
            _blocks -= 1


def call(seconds: float, max_pixels: int, function: Callable[..., Any], file: Any, *args: Any) -> Any:
    """Returns `function(file, *args)`, computed in another process inside `isolated_decoding`, else in a thread.

    Open files are read in a thread. Animations that are decoded frame by frame come from a process, too.

    Args:
      seconds: longest time: of the processor in a process, of the clock in a thread.
      max_pixels: limit of the image; above `MAX_PIXELS` the limit of memory grows in proportion.
      function: a function of a module.
      file: path or open file.
      *args: further arguments of `function`.

    Raises:
      ImageError: not an image; too much time or memory; or the process crashed. Also what `function` raises.
    """
    if _blocks and not is_open(file):
        kind_of_path(file)  # what is no image reaches no decoder
        request = _memory(max_pixels), function, (os.path.abspath(file), *args)
        with _borrowed() as process:
            found = process.call(seconds, *request)
        if isinstance(layout := getattr(found, "frames", None), tuple) and isinstance(layout[0], int):
            longest = FRAMES_FACTOR * seconds
            frames = functools.partial(_answers, longest, *request, mode=isolation_process.FRAMES)
            found = dataclasses.replace(found, frames=Frames(frames, *layout))
        return found
    return with_timeout(seconds, lambda: function(file, *args))


def run(seconds: float, max_pixels: int, function: Callable[..., T], *args: Any) -> T:
    """Returns `function(*args)`, computed in another process inside `isolated_decoding`, else here, without limits.

    Args:
      seconds: longest processor time.
      max_pixels: above `MAX_PIXELS` the limit of memory grows in proportion.
      function: a function of a module.
      *args: its arguments; paths must be absolute, because the process keeps the folder in which it started.

    Raises:
      ImageError: too much time or memory; or the process crashed. Also what `function` raises.
    """
    if not _blocks:
        return function(*args)
    with _borrowed() as process:
        return process.call(seconds, _memory(max_pixels), function, args)


def stream(seconds: float, max_pixels: int, function: Callable[..., Iterator[T]], *args: Any) -> Iterator[T]:
    """Yields the items of `function(*args)`, none of which may be None, computed as by `run`; `seconds` limits each."""
    if not _blocks:
        yield from function(*args)
        return
    yield from _answers(seconds, _memory(max_pixels), function, args, mode=isolation_process.ITEMS)


def _memory(max_pixels: int) -> int:
    return round(MAX_MEMORY_BYTES * max(1.0, max_pixels / MAX_PIXELS))


@contextlib.contextmanager
def _borrowed() -> Iterator["_Process"]:
    """Gives a process that has no request; it is ended if the block is left while it may still answer one."""
    with _lock:
        process = _idle.pop() if _idle else None
    process = process or _Process()
    try:
        yield process
    finally:
        if process.busy:
            process.end()
        else:
            with _lock:
                _idle.append(process)


def _answers(seconds: float, *request: Any, mode: str) -> Iterator[Any]:
    """Yields the frames of the result of a request, or the items that its function yields."""
    with _borrowed() as process:
        process.send(seconds, *request, mode=mode)
        while (answer := process.receive()) is not None:
            yield answer
        process.busy = False


class _Forked:
    """A copy of this process, as `subprocess.Popen`: what was imported needs not be imported again."""

    def __init__(self) -> None:
        (requests, write), (read, results) = os.pipe(), os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of NumPy's threads, which OpenBLAS starts again
            self.pid = os.fork()
        if not self.pid:
            try:
                os.close(write)  # else the copy would wait for itself when this process has ended
                isolation_process.run_copy(requests, results)
            finally:
                os._exit(1)
        os.close(requests)
        os.close(results)
        self.stdin, self.stdout = os.fdopen(write, "wb"), os.fdopen(read, "rb")
        self._status: int | None = None

    def kill(self) -> None:
        if self._status is None:
            os.kill(self.pid, signal.SIGKILL)

    def wait(self) -> int:
        if self._status is None:
            self._status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._status


def _spawn() -> subprocess.Popen:
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-I", str(SCRIPT)],  # -I: the current folder is not on its path
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment,
    )  # fmt: skip


class _Process:
    """A process that runs `isolation_process.py`."""

    def __init__(self) -> None:
        # A copy is ready at once, but only possible before JAX has started its threads; macOS' libraries forbid it.
        copied = sys.platform == "linux" and "jax" not in sys.modules and threading.active_count() == 1
        self._process = _Forked() if copied else _spawn()
        assert self._process.stdin and isinstance(self._process.stdout, io.BufferedReader)
        self._requests, self._results = self._process.stdin, self._process.stdout
        self.busy = False
        self._seconds = 0.0
        if not copied:
            self._write(sys.path)

    def _write(self, message: Any) -> None:
        with contextlib.suppress(OSError):  # the process has ended, which reading its result will show
            pickle.dump(message, self._requests)
            self._requests.flush()

    def call(self, seconds: float, memory: int, function: Callable[..., Any], args: tuple) -> Any:
        """Returns or raises what `function` does; raises ImageError if the process ends."""
        self.send(seconds, memory, function, args)
        found = self.receive()
        self.busy = False
        return found

    def send(
        self,
        seconds: float,
        memory: int,
        function: Callable[..., Any],
        args: tuple,
        mode: str = isolation_process.RESULT,
    ) -> None:
        """Asks for the result of a function, for the frames of its result, or for the items that it yields."""
        self.busy, self._seconds = True, seconds
        self._write((seconds, memory, function, args, mode))

    def receive(self) -> Any:
        """Returns the next answer; raises the function's exception, or ImageError if the process ends."""
        stalled, longest = threading.Event(), STALLED * self._seconds * load_per_processor()
        watch = threading.Timer(longest, lambda: (stalled.set(), self._process.kill()))
        watch.daemon = True
        watch.start()
        try:
            content, sizes = pickle.load(self._results)
            buffers = [np.empty(size, np.uint8).data for size in sizes]
            if any(self._results.readinto(buffer) < buffer.nbytes for buffer in buffers):
                raise EOFError
            succeeded, result = pickle.loads(content, buffers=buffers)
        except (EOFError, pickle.UnpicklingError):
            if stalled.is_set():
                raise ImageError(f"not decoded within {longest:.3g} seconds of waiting") from None
            raise ImageError(_cause(self._process.wait(), self._seconds)) from None
        finally:
            watch.cancel()
        if not succeeded:
            self.busy = False
            raise result
        return result

    def end(self) -> None:
        """Ends the process, whatever it does."""
        self._process.kill()
        self._process.wait()
        self._results.close()
        with contextlib.suppress(OSError):  # a request that it didn't read
            self._requests.close()


def _cause(status: int, seconds: float) -> str:
    """Returns why a process ended, by its exit status."""
    if hasattr(signal, "SIGXCPU") and status == -signal.SIGXCPU:
        return f"not decoded within {seconds:.3g} seconds of processor time; --max-seconds sets this limit"
    ended = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    return f"the library that decodes it crashed ({ended}); the file is damaged, or made to do this"


@atexit.register
def _end_all() -> None:
    with _lock:
        while _idle:
            _idle.pop().end()
