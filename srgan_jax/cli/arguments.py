"""Arguments that several commands share."""

import argparse
import os


def add_cluster(sub) -> None:
    """Adds the flags of a command that divides its work among the processes of a job."""
    sub.add_argument(
        "--coordinator", default="", metavar="HOST:PORT", help="address of process 0, for a job that JAX doesn't detect"
    )
    sub.add_argument("--num_processes", type=int, metavar="N", help="number of processes of the job")
    sub.add_argument("--process_id", type=int, metavar="I", help="index of this process, from 0")


def add_moment(sub) -> None:
    """Adds the flags of a command that reads weights of a training run: which moment of it."""
    sub.add_argument("--step", type=int, metavar="N", help="run folder: the checkpoint after update N")
    sub.add_argument("--best", action="store_true", help="run folder: the generator with the best validation score")


def at_moment(path: str, args: argparse.Namespace) -> str:
    """Returns the weights file for a value of `--weights`: the one of a run or checkpoint that `args` ask for."""
    if not os.path.isdir(path) and args.step is None and not args.best:
        return path
    from srgan_jax.training.run_weights import find_weights

    return find_weights(path, args.step, args.best)
