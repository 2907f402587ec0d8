"""Command-line arguments that several commands share."""

import argparse
import os
from collections.abc import Mapping

from srgan_jax.runtime import storage
from srgan_jax.runtime.errors import UserError

# Name of an argument -> the schemes that it accepts besides local paths
SCHEMES: Mapping[str, tuple[str, ...]] = {
    "weights": ("gs", "hf"),
    "file": ("gs", "hf"),
    "blend": ("gs", "hf"),
    "data": ("gs",),
    "workdir": ("gs",),
}
PREPARE = {"source": ("gs",), "out": ("gs",)}


def check_paths(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Raises UserError if an argument is empty, or a path whose scheme the command of `parser` doesn't support."""
    accepted = {**SCHEMES, **(PREPARE if getattr(args, "command", "") == "prepare" else {})}
    for action in parser._actions:
        value, name = getattr(args, action.dest, None), "".join(action.option_strings[-1:])
        for text in value if isinstance(value, list | tuple) else [value]:
            if text == "" and action.default != "":
                shown = name or action.metavar or action.dest
                raise UserError(f"{shown} is empty: expected a name or a path (was a variable of the shell not set?)")
            if isinstance(text, str | os.PathLike) and action.dest != "repository":
                storage.check(text, name, accepted.get(action.dest, ()))


def add_cluster(sub) -> None:
    """Adds the flags of a command that divides its work among the processes of a job."""
    sub.add_argument(
        "--coordinator", default="", metavar="HOST:PORT", help="address of process 0, for a job that JAX doesn't detect"
    )
    sub.add_argument("--num_processes", type=int, metavar="N", help="number of processes of the job")
    sub.add_argument("--process_id", type=int, metavar="I", help="index of this process, from 0")


def add_moment(sub) -> None:
    """Adds the flags with which a command chooses among the weights of a training run."""
    sub.add_argument("--step", type=int, metavar="N", help="run folder: the checkpoint after update N")
    sub.add_argument("--best", action="store_true", help="run folder: the generator with the best validation score")


def at_moment(path: str, args: argparse.Namespace) -> str:
    """Returns the weights file for a value of `--weights`; of a run or checkpoint, the one that `args` choose."""
    is_checkpoint = os.path.isdir(path) or (storage.is_bucket(path) and "/checkpoints/" in path)
    if not is_checkpoint and args.step is None and not args.best:
        return path
    from srgan_jax.training.run_weights import find_weights

    return find_weights(path, args.step, args.best)
