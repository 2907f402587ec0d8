"""Trains: `python -m srgan_jax.main --config configs/srgan.py --workdir runs/srgan`.

Any key of the config can be overridden: `--config.stages.pretrain.total_steps=100`. The same command again resumes.
In a SLURM, TPU pod, GKE or Open MPI job every process runs this command; elsewhere the three cluster flags join them.
"""

import sys

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from srgan_jax import compilation, devices, logs
from srgan_jax.errors import UserError, in_plain_words
from srgan_jax.train import train_and_evaluate

FLAGS = flags.FLAGS
config_flags.DEFINE_config_file("config", None, "Path of the config file.", lock_config=True)
flags.DEFINE_string("workdir", None, "Folder of the run: checkpoints, metrics, samples, weights.")
flags.DEFINE_bool("profile", False, "Write a trace of a few updates to WORKDIR/profile.")
flags.DEFINE_bool("debug_nans", False, "Stop at the first NaN and name the operation (slow).")
flags.DEFINE_string("coordinator", "", "HOST:PORT of process 0 of a job that JAX doesn't detect; none: no job.")
flags.DEFINE_integer("num_processes", None, "How many processes the job has.")
flags.DEFINE_integer("process_id", None, "Which of them this is, from 0.")


def parse(argv: list[str]) -> list[str]:
    """Parses the flags; a mistake in them ends in one line."""
    try:
        rest = FLAGS(argv)
        if FLAGS.config is None or not FLAGS.workdir:
            raise flags.Error(f"expected --config and --workdir, for instance: {__doc__.split('`')[1]}")
        FLAGS.config.keys()  # a file that can't be read is found out at the first use
        return rest
    except SystemExit:  # --help was printed
        sys.exit(0)
    except Exception as error:  # of the flags, or of any kind in the code of the config file
        sys.exit(f"error: {in_plain_words(error)}")


def main(argv: list[str]) -> None:
    """Trains; a user's mistake, or a disk's, ends in one line."""
    if len(argv) > 1:
        sys.exit(f"error: unexpected argument {argv[1]!r}; overrides look like --config.data.batch_size=8")
    if not FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # JAX and tfds tell much that nobody asked for
    jax.config.update("jax_debug_nans", FLAGS.debug_nans)
    try:
        if FLAGS.config.deterministic:
            devices.make_deterministic()
        devices.start_cluster(FLAGS.coordinator, FLAGS.num_processes, FLAGS.process_id)
        compilation.keep_programs(FLAGS.config.compilation_cache, logs.say)
        train_and_evaluate(FLAGS.config, FLAGS.workdir, profile=FLAGS.profile)
    except (UserError, OSError) as error:
        sys.exit(f"error: {error}")


def run() -> None:
    """The command's entry point."""
    app.run(main, flags_parser=parse)


if __name__ == "__main__":
    run()
