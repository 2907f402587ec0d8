"""The command `srgan-jax`: what can be done without writing Python.

srgan-jax upscale IN ... -o OUT               pictures and folders of pictures, enlarged
srgan-jax info W                              the model card of a generator
srgan-jax prepare FOLDER --out data/NAME      a folder of pictures as a tfds data set
srgan-jax prepare celeb_a                     a data set of the tfds catalogue, downloaded
srgan-jax evaluate --weights W --data DIR     a table of scores, bicubic beside the given generators
srgan-jax import FILE --from NAME             a published PyTorch generator as our .safetensors
srgan-jax export W --to onnx                  a generator for other runtimes
srgan-jax port vgg19 --download               public weights of a loss or metric
srgan-jax quickstart                          trains a small SRGAN on a few photographs, in minutes
"""

import argparse
import io
import sys

from srgan_jax.cli.evaluate import add_evaluate
from srgan_jax.cli.export import add_export
from srgan_jax.cli.import_weights import add_import
from srgan_jax.cli.info import add_info
from srgan_jax.cli.port import add_port
from srgan_jax.cli.prepare import add_prepare
from srgan_jax.cli.quickstart import add_quickstart
from srgan_jax.cli.upscale import add_upscale
from srgan_jax.runtime.errors import UserError
from srgan_jax.runtime.user_code import import_module

COMPILING = ("upscale", "evaluate")  # commands that look for what an earlier start compiled


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="srgan-jax", description="Super-resolution with SRGAN, in JAX.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (add_upscale, add_info, add_evaluate, add_prepare, add_import, add_export, add_port, add_quickstart):
        add(commands)
    for command in commands.choices.values():
        command.add_argument(
            "--import", dest="imports", action="append", default=[], metavar="MODULE",
            help="a module or .py file of yours that adds architectures, metrics ... to the tables",
        )  # fmt: skip
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs a command; 0 when it did what was asked, 2 when it was asked wrongly."""
    for stream in (sys.stdout, sys.stderr):  # a file's name may hold bytes that no text has
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    parser = _parser()
    args, unknown = parser.parse_known_args(argv)
    if hasattr(args, "overrides"):  # keys of a config, which the command checks itself
        args.overrides = [*args.overrides, *unknown]
    elif unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    try:
        for name in args.imports:
            import_module(name)
        if args.command in COMPILING:
            from srgan_jax.runtime import compilation

            compilation.enable_compilation_cache(report=lambda line: print(line, file=sys.stderr))
        return args.run(args)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
