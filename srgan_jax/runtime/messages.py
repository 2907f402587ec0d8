"""Lines for the user while something runs."""

import sys

import jax
from tqdm import tqdm


def report(text: str, everywhere: bool = False) -> None:
    """A line above the progress bar, from process 0; `everywhere` from each process, with its number."""
    if jax.process_index() == 0:
        tqdm.write(text, file=sys.stderr)
    elif everywhere:
        tqdm.write(f"process {jax.process_index()}: {text}", file=sys.stderr)
