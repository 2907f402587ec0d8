"""Output that can't control the terminal, whatever file names and headers contain."""

import contextlib
import io
import logging
import re
import sys
from collections.abc import Iterator
from typing import Any

# Control characters but tab and line feed, and characters that change the direction of text.
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
BAR = re.compile(r"(\r)(.*?)(\r?)", re.DOTALL)  # how tqdm draws a bar


def printable(text: str) -> str:
    r"""Returns `text` with control characters as escape sequences of Python, such as `\x1b`."""
    return CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def one_line(text: object) -> str:
    r"""Returns `str(text)` as `printable` text of one line: a line feed in a file name can't begin a false line."""
    return printable(str(text)).replace("\n", "\\n")


class _Printable:
    """A text stream that passes `printable` text on to another stream."""

    def __init__(self, stream: Any):
        self._stream = stream

    def write(self, text: str) -> int:
        bar = BAR.fullmatch(text)
        self._stream.write(f"{bar[1]}{printable(bar[2])}{bar[3]}" if bar else printable(text))
        return len(text)

    def writelines(self, lines) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def printable_output() -> Iterator[None]:
    """Makes stdout and stderr of the `with` block printable, and hides the log lines of libraries."""
    for stream in (sys.stdout, sys.stderr):  # a file name may contain bytes that can't be decoded
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    silent, root = logging.NullHandler(), logging.getLogger()
    root.addHandler(silent)  # otherwise Python prints warnings of loggers without a handler
    streams = (sys.stdout, sys.stderr)
    out, err = (stream and _Printable(stream) for stream in streams)  # None if the descriptor is closed
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):  # pyright: ignore[reportArgumentType]
            yield
    finally:
        root.removeHandler(silent)
