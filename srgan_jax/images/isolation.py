"""Decoding in processes of their own: what crashes, hangs or takes too much memory there costs one file."""

import atexit
import contextlib
import io
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from srgan_jax.images.errors import ImageError
from srgan_jax.images.files import is_open
from srgan_jax.images.limits import MAX_MEMORY_BYTES, MAX_PIXELS, load_per_processor, with_timeout
from srgan_jax.images.pillow import kind_of_path

SCRIPT = Path(__file__).with_name("isolation_process.py")
STALLED = 4  # a process that waits, perhaps for a disk, is ended after so many times the limit of processor time

_lock = threading.Lock()
_blocks = 0  # `isolated_decoding` blocks that are entered
_idle: list["_Process"] = []  # processes that wait for a file


@contextlib.contextmanager
def isolated_decoding() -> Iterator[None]:
    """Makes `decode_image` and `image_size` read files in other processes, inside the `with` block, in all threads.

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

    Open files are read in a thread. So are animations that are decoded frame by frame, after the process has read all
    of their frames.

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
        memory = round(MAX_MEMORY_BYTES * max(1.0, max_pixels / MAX_PIXELS))
        found = _in_process(seconds, memory, function, os.path.abspath(file), *args)
        if found is not None:
            return found
    return with_timeout(seconds, lambda: function(file, *args))


def _in_process(seconds: float, memory: int, function: Callable[..., Any], *args: Any) -> Any:
    """Returns the result of a function; None if it is of a kind that can't be sent."""
    with _lock:
        process = _idle.pop() if _idle else None
    process = process or _Process()
    try:
        succeeded, result = process.call(seconds, memory, function, args)
    except BaseException:
        process.end()
        raise
    with _lock:
        _idle.append(process)
    if not succeeded:
        raise result
    return result


class _Process:
    """A process that runs `isolation_process.py`."""

    def __init__(self) -> None:
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-I", str(SCRIPT)],  # -I: the current folder is not on its path
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment,
        )  # fmt: skip
        assert self._process.stdin and isinstance(self._process.stdout, io.BufferedReader)
        self._requests, self._results = self._process.stdin, self._process.stdout
        self._send(sys.path)

    def _send(self, message: Any) -> None:
        with contextlib.suppress(OSError):  # the process has ended, which reading its result will show
            pickle.dump(message, self._requests)
            self._requests.flush()

    def call(self, seconds: float, memory: int, function: Callable[..., Any], args: tuple) -> tuple[bool, Any]:
        """Returns whether `function` succeeded, and its result or exception; raises ImageError if the process ends."""
        stalled, longest = threading.Event(), STALLED * seconds * load_per_processor()
        watch = threading.Timer(longest, lambda: (stalled.set(), self._process.kill()))
        watch.daemon = True
        watch.start()
        try:
            self._send((seconds, memory, function, args))
            content, sizes = pickle.load(self._results)
            buffers = [np.empty(size, np.uint8).data for size in sizes]
            if any(self._results.readinto(buffer) < buffer.nbytes for buffer in buffers):
                raise EOFError
            return pickle.loads(content, buffers=buffers)
        except (EOFError, pickle.UnpicklingError):
            if stalled.is_set():
                raise ImageError(f"not decoded within {longest:.3g} seconds of waiting") from None
            raise ImageError(_cause(self._process.wait(), seconds)) from None
        finally:
            watch.cancel()

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
