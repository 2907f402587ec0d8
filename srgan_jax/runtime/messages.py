"""Messages to the user during a run."""

import contextlib
import sys

import jax
from tqdm import tqdm


def report(text: str, everywhere: bool = False) -> None:
    """Prints a line above the progress bar, on process 0; with `everywhere` on each process, with its number.

    What can't be printed, on a full disk or a closed pipe or terminal, is dropped: it must not end a run.
    """
    with contextlib.suppress(OSError, ValueError):
        if jax.process_index() == 0:
            tqdm.write(text, file=sys.stderr)
        elif everywhere:
            tqdm.write(f"process {jax.process_index()}: {text}", file=sys.stderr)
