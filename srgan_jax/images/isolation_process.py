"""The program of the processes in which `isolation.py` decodes files: it reads requests and writes results, as pickles.

It runs as a script, or in a copy of the command's process. A request is (seconds, bytes, function, arguments, mode).
By its mode it asks for the function's result, for the frames of that result, or for the items that the function yields.
An answer is the pickle of (content, sizes) and buffers of these sizes, which belong to the pickle `content` of (whether
the function succeeded, result). Frames and items are answers of their own, and None follows the last.
"""

import dataclasses
import importlib
import math
import os
import pickle
import signal
import sys
import time
import traceback
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

try:
    import resource
except ImportError:  # Windows: no limits
    resource = None

RESULT, FRAMES, ITEMS = "result", "frames", "items"  # modes
STATUS = Path("/proc/self/statm")  # Linux; its sixth number is the pages of data


def _skip_package_files() -> None:
    """Makes modules of `srgan_jax.images` importable without the packages' own files, which import JAX."""
    folder = Path(__file__).parent
    for name, path in (("srgan_jax", folder.parent), ("srgan_jax.images", folder)):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = [str(path)]


def _data_bytes() -> int:
    return int(STATUS.read_text().split()[5]) * os.sysconf("SC_PAGE_SIZE")


def _limit(seconds: float, largest: int) -> None:
    """Limits the processor time and the memory (Linux) of the next file or item."""
    if resource is None:
        return
    time_limit = max(1, math.ceil(time.process_time() + seconds))
    limits = {resource.RLIMIT_CPU: time_limit, resource.RLIMIT_CORE: 0}
    if STATUS.exists():
        limits[resource.RLIMIT_DATA] = largest
    for kind, value in limits.items():
        hard = resource.getrlimit(kind)[1]
        resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _outcomes(function: Callable[..., Any], arguments: tuple, largest: int, mode: str) -> Iterator[tuple[bool, Any]]:
    """Yields whether a function succeeded, and its result or exception.

    Frames that are decoded one at a time are replaced by their number, shape and dtype, unless `mode` asks for them.
    """
    from srgan_jax.images.errors import ImageError
    from srgan_jax.images.picture import Frames
    from srgan_jax.runtime.errors import UserError

    try:
        found = function(*arguments)
        if mode in (FRAMES, ITEMS):
            yield from ((True, item) for item in (found.frames if mode == FRAMES else found))
            yield True, None
        elif isinstance(all_frames := getattr(found, "frames", None), Frames):
            layout = len(all_frames), all_frames.shape, all_frames.dtype
            yield True, dataclasses.replace(found, frames=layout)
        else:
            yield True, found
    except MemoryError:
        yield False, ImageError(f"decoding needs more than {largest / 1e9:.3g} GB of memory, the limit")
    except Exception as error:
        if not isinstance(error, UserError | OSError):
            error.add_note("".join(traceback.format_exception(error)))  # of this process, for the log file
        yield False, error


def _answer(results: Any, outcome: tuple[bool, Any]) -> None:
    buffers: list[pickle.PickleBuffer] = []
    try:
        content = pickle.dumps(outcome, protocol=5, buffer_callback=buffers.append)
    except Exception as error:  # an exception that can't be pickled
        content = pickle.dumps((False, RuntimeError(f"{type(outcome[1]).__name__}: {outcome[1]} ({error})")))
        buffers.clear()
    views = [buffer.raw() for buffer in buffers]
    pickle.dump((content, [view.nbytes for view in views]), results)
    for view in views:
        results.write(view)
    results.flush()


def main() -> None:
    """Answers the requests of stdin, the first of which is the path of modules, on stdout."""
    requests, results = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints doesn't get between the answers
    sys.path[:] = pickle.load(requests)
    _skip_package_files()
    _serve(requests, results)


def run_copy(requests: int, results: int) -> None:
    """Answers the requests of a pipe in a copy of the command's process."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):  # the command's streams are not kept open
        os.dup2(nothing, stream)
    for name in ("SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    with open(requests, "rb") as asked, open(results, "wb") as answers:
        _serve(asked, answers)


def _serve(requests: BinaryIO, results: BinaryIO) -> None:
    """Answers requests until there are no more, or nobody reads the answers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command, which ends this process
    importlib.import_module("srgan_jax.images.decode")  # before the first file, while the command is busy otherwise
    start = _data_bytes() if STATUS.exists() else 0
    while True:
        try:
            seconds, largest, function, arguments, mode = pickle.load(requests)
            _limit(seconds, start + largest)
            for outcome in _outcomes(function, arguments, largest, mode):
                _answer(results, outcome)
                if mode == ITEMS:
                    _limit(seconds, start + largest)  # of the next item
        except (EOFError, BrokenPipeError):
            return


if __name__ == "__main__":
    main()
