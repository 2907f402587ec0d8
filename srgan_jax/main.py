"""Trains: `python -m srgan_jax.main --config srgan --workdir runs/srgan`.

`--config` is the name of a recipe or the path of a config file. Flags set its keys, for instance
`--config.stages.pretrain.total_steps=100`. The same command resumes the run, and so does `--workdir` alone, which takes
the config that the run keeps. In a SLURM, TPU pod, GKE or Open MPI job every process runs this command; in other
multi-process jobs add the three cluster flags.
"""

import argparse
import functools
import sys
from collections.abc import Sequence

import jax

from srgan_jax.cli.arguments import add_cluster, check_paths
from srgan_jax.runtime import compilation, devices, extras, messages, processes
from srgan_jax.runtime.terminal import run_command


def parser() -> argparse.ArgumentParser:
    """Returns the parser of the flags; `apply_overrides` parses the flags that begin with `--config.`."""
    from srgan_jax.config.recipes import recipe_files

    flags = argparse.ArgumentParser(
        prog="python -m srgan_jax.main", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"recipes: {', '.join(recipe_files())}", allow_abbrev=False,
    )  # fmt: skip
    flags.add_argument("--config", metavar="NAME|FILE", help="recipe or config file (default: that of --workdir)")
    flags.add_argument("--workdir", help="folder of the run, local or gs://BUCKET/PATH (default: runs/NAME)")
    flags.add_argument("--profile", action="store_true", help="write a trace of a few updates to WORKDIR/profile")
    flags.add_argument("--debug_nans", action="store_true", help="stop at the first NaN and name the operation (slow)")
    add_cluster(flags)
    return flags


def main(argv: Sequence[str] | None = None) -> None:
    """Trains; exits with status 2 for errors of the user and of the file system, as `srgan-jax` does."""
    if status := run_command(functools.partial(_train, argv), "stdout", "stderr"):
        sys.exit(status)


def _train(argv: Sequence[str] | None) -> int:
    extras.require("train", "training")
    from absl import logging

    from srgan_jax.config.command_line import apply_overrides
    from srgan_jax.config.recorded import config_and_folder
    from srgan_jax.config.resolve import resolve
    from srgan_jax.training.loop import train_and_evaluate

    args, overrides = (flags := parser()).parse_known_args(argv)
    check_paths(flags, args)
    logging.set_verbosity(logging.WARNING)  # JAX and tfds log many lines at INFO
    processes.start_cluster(args.coordinator, args.num_processes, args.process_id)
    config, folder = config_and_folder(args.config, args.workdir)
    apply_overrides(config, overrides, [f"--{name}" for name in vars(args)])
    run = resolve(config)
    jax.config.update("jax_debug_nans", args.debug_nans)
    if run.deterministic:
        devices.make_deterministic()
    devices.check_platform()
    compilation.enable_compilation_cache(run.compilation_cache, messages.report)
    train_and_evaluate(run, folder, profile=args.profile, config_file=args.config or "")
    return 0


if __name__ == "__main__":
    main()
