"""`ignore_write_errors`, with which a run continues if standard output or standard error can't be written."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any


class _IgnoringWriteErrors:
    """A text stream whose `write` and `flush` drop text that can't be written."""

    def __init__(self, stream: Any):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes text, or drops it; returns its length."""
        with contextlib.suppress(OSError, ValueError):  # a full disk, a broken pipe, a closed file or terminal
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flushes the written text, or drops it."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


@contextlib.contextmanager
def ignore_write_errors(*names: str) -> Iterator[None]:
    """Replaces the streams `names` ("stderr", "stdout") of `sys` by streams that never raise, while a command runs.

    File descriptors 0 to 2 that are closed (`2>&-`) are first opened on the null device. Otherwise a file of the run
    could get one of these numbers, and libraries would print into it.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    before = {name: getattr(sys, name) for name in ("stdin", "stdout", "stderr")}
    with contextlib.ExitStack() as opened:
        for name, stream in before.items():
            if stream is None:  # Python found the descriptor closed
                mode = "r" if name == "stdin" else "w"
                setattr(sys, name, opened.enter_context(open(os.devnull, mode, encoding="utf-8")))
        for name in names:
            setattr(sys, name, _IgnoringWriteErrors(getattr(sys, name)))
        try:
            yield
        finally:
            for name, stream in before.items():
                setattr(sys, name, stream)
