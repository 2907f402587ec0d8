"""Messages to the user during a run."""

import contextlib
import sys

import jax
from tqdm import tqdm


def report(text: str, everywhere: bool = False) -> None:
    """Prints a line above the progress bar, on process 0.

    With `everywhere`, the other processes print it too, after their index. A line that can't be printed, because the
    disk is full or the pipe or terminal is closed, is dropped, so that it doesn't end a run.
    """
    with contextlib.suppress(OSError, ValueError):
        if jax.process_index() == 0:
            tqdm.write(text, file=sys.stderr)
        elif everywhere:
            tqdm.write(f"process {jax.process_index()}: {text}", file=sys.stderr)
