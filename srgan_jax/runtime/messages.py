"""Messages to the user during a run."""

import sys

import jax
from tqdm import tqdm


def report(text: str, everywhere: bool = False) -> None:
    """Prints a line above the progress bar, on process 0; with `everywhere` on each process, with its number."""
    if jax.process_index() == 0:
        tqdm.write(text, file=sys.stderr)
    elif everywhere:
        tqdm.write(f"process {jax.process_index()}: {text}", file=sys.stderr)
