"""Commands: exit status, errors in one line, and output that can't control the terminal, whatever names contain."""

import contextlib
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

from srgan_jax.runtime import peers, storage
from srgan_jax.runtime.errors import UserError
from srgan_jax.runtime.streams import ignore_write_errors

# Control characters except tab and line feed, and characters that change the direction of text.
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
BAR = re.compile(r"(\r)(.*?)(\r?)", re.DOTALL)  # the text by which tqdm draws a bar


def printable(text: str) -> str:
    r"""Returns `text` with control characters as escape sequences of Python, such as `\x1b`."""
    return CONTROL.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


def one_line(text: object) -> str:
    r"""Returns `str(text)` as `printable` text of one line, so that a line feed in a file name begins no new line."""
    return printable(str(text)).replace("\n", "\\n")


class _Printable:
    """A text stream that writes `printable` text to another stream, with buckets' addresses for their local copies."""

    def __init__(self, stream: Any):
        self._stream = stream

    def write(self, text: str) -> int:
        text = storage.with_addresses(text)
        bar = BAR.fullmatch(text)
        return self._stream.write(f"{bar[1]}{printable(bar[2])}{bar[3]}" if bar else printable(text))

    def writelines(self, lines) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def printable_output() -> Iterator[None]:
    """Makes stdout and stderr `printable` in the `with` block, and hides the log lines of libraries."""
    for stream in (sys.stdout, sys.stderr):  # a file name may contain bytes that can't be decoded
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors="backslashreplace")
    silent, root = logging.NullHandler(), logging.getLogger()
    root.addHandler(silent)  # otherwise Python prints warnings of loggers without a handler
    streams = (sys.stdout, sys.stderr)
    out, err = (stream and _Printable(stream) for stream in streams)  # None if the descriptor is closed
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):  # pyright: ignore[reportArgumentType]
            yield
    finally:
        root.removeHandler(silent)


def message_of(error: Exception) -> str:
    """Returns the message of an error; of the file system's, the path and the reason, without their number."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def run_command(command: Callable[[], int], *droppable: str) -> int:
    """Runs a command and returns its exit status: that of the function, or one of the following.

    2 after an error of the user or of the file system, which is printed in one line; 130 after Ctrl-C; 141, without a
    message, if the reader of stdout has exited, such as `head`. In a job of several processes, any other exception is
    printed here, and ends all processes.

    Args:
      command: a function that prints, and returns its status.
      droppable: the streams, "stdout" and "stderr", that may be closed or full without ending the command.
    """
    with ignore_write_errors(*droppable), printable_output():
        try:
            status = command()
            sys.stdout.flush()
            peers.leave(status)
            return status
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # discards the rest of the buffer
            return 141
        except (UserError, OSError) as error:
            print(f"error: {message_of(error)}", file=sys.stderr)
            peers.leave(2, message_of(error))
            return 2
        except KeyboardInterrupt:
            peers.leave(130, "Ctrl-C")
            return 130
        except BaseException as error:
            peers.leave_by(error)
            raise
