"""The command-line interface `srgan-jax`.

srgan-jax upscale IN ... -o OUT               upscales images and folders of images
srgan-jax info W                              prints the model card of a generator
srgan-jax info                                prints versions, devices and the locations of weights
srgan-jax prepare FOLDER -o data/NAME         converts a folder of images to a tfds data set
srgan-jax prepare celeb_a                     downloads and prepares a data set of the tfds catalogue
srgan-jax evaluate --weights W --data DIR     prints a table of scores of generators and of bicubic
srgan-jax import FILE.pth                     converts a network of another program to .safetensors
srgan-jax export W --to onnx                  exports a generator to ONNX, ncnn, PyTorch or StableHLO
srgan-jax push W OWNER/NAME                   publishes a generator on the Hugging Face Hub
srgan-jax web -o site --serve                 writes a page that upscales in the browser, and serves it on this machine
srgan-jax port vgg19 FILE                     converts the public weights of a loss or metric
srgan-jax plan --topology v5e-16              compiles training for absent TPUs or GPUs, and estimates its time
srgan-jax quickstart                          trains a small SRGAN on a few photographs, in minutes
"""

import argparse
import functools
import gc
import importlib
import itertools
import os
import re
import sys
from collections.abc import Sequence
from typing import NoReturn

from srgan_jax import images
from srgan_jax.cli.arguments import check_paths
from srgan_jax.cli.evaluate import add_evaluate
from srgan_jax.cli.export import add_export
from srgan_jax.cli.import_weights import add_import
from srgan_jax.cli.info import add_info
from srgan_jax.cli.plan import add_plan
from srgan_jax.cli.port import add_port
from srgan_jax.cli.prepare import add_prepare
from srgan_jax.cli.push import add_push
from srgan_jax.cli.quickstart import add_quickstart
from srgan_jax.cli.upscale import add_upscale
from srgan_jax.cli.web import add_web
from srgan_jax.runtime.errors import did_you_mean
from srgan_jax.runtime.terminal import run_command
from srgan_jax.runtime.user_code import import_module
from srgan_jax.runtime.versions import package_versions

COMPILING = ("upscale", "evaluate", "export", "push", "web")  # commands that use the persistent compilation cache
COMMANDS = {  # name -> function that adds the command to a parser
    "upscale": add_upscale,
    "info": add_info,
    "evaluate": add_evaluate,
    "prepare": add_prepare,
    "import": add_import,
    "export": add_export,
    "push": add_push,
    "web": add_web,
    "port": add_port,
    "plan": add_plan,
    "quickstart": add_quickstart,
}


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors suggest valid options for unknown ones."""

    _given: tuple[str, ...] = ()

    def parse_known_args(self, args=None, namespace=None):  # pyright: ignore[reportIncompatibleMethodOverride] overloads
        self._given = tuple(sys.argv[1:] if args is None else args)
        for argument in itertools.takewhile(lambda argument: argument != "--", self._given):
            if re.match("-[^-].", argument) and os.path.lexists(argument):  # would be read as `-d ash.png`
                self.error(f"{argument} begins like an option")
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        files = [
            argument
            for argument in self._given
            if re.fullmatch(r"-[^-].*\.\w+", argument) or (argument[:2] == "--" and os.path.lexists(argument))
        ]
        message += f"; for a file of this name, write ./{files[0]}" if files else ""
        known = [option for action in self._actions for option in action.option_strings]
        names = [argument.partition("=")[0] for argument in self._given if argument.startswith("--")]
        super().error(message + "".join(did_you_mean(name, known) for name in names if name not in known))


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    """Returns the parser of the command that the arguments begin with, else of all; adding some imports JAX."""
    parser = _Parser(prog="srgan-jax", description="Super-resolution with SRGAN, in JAX.")
    parser.add_argument(
        "--version", action="version", version=f"srgan-jax {package_versions(('srgan-jax',))['srgan-jax']}"
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    first = argv[0] if argv else ""
    for add in [COMMANDS[first]] if first in COMMANDS else () if first == "--version" else COMMANDS.values():
        add(commands)
    for name, command in commands.choices.items():
        command.description = sys.modules[COMMANDS[name].__module__].__doc__
        command.set_defaults(parser=command)
        command.add_argument(
            "--import", dest="imports", action="append", default=[], metavar="MODULE",
            help="your own module or .py file that adds architectures, metrics, ... to the tables",
        )  # fmt: skip
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs a command and returns its exit status: 0 for success, 1 where some files failed, 2 for a usage error."""
    return run_command(functools.partial(_main, argv), "stderr")


def _main(argv: list[str] | None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    parser = _parser(argv)
    args, unknown = parser.parse_known_args(argv)
    if hasattr(args, "overrides"):  # `--config.KEY=VALUE`, which the command checks itself
        args.overrides = [*args.overrides, *unknown]
    elif unknown:
        args.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    check_paths(args.parser, args)
    if args.command != "upscale":
        return _run(args)
    with images.isolated_decoding():  # its process starts before JAX is imported
        return _run(args)


def _run(args: argparse.Namespace) -> int:
    gc.disable()  # to search the imported objects for garbage takes longer than to upscale a small image
    importlib.import_module("srgan_jax.bulk")  # with JAX, and all that upscaling needs
    gc.freeze()
    gc.enable()
    for name in args.imports:
        import_module(name)
    if args.command in COMPILING:
        from srgan_jax.runtime import compilation

        compilation.enable_compilation_cache(report=lambda line: print(line, file=sys.stderr))
    return args.run(args)
