"""`srgan-jax plan`: memory, work and time of training or upscaling on hardware that this machine need not have."""

import argparse
import json
import re
import shutil
import sys
import textwrap

from srgan_jax.runtime import extras
from srgan_jax.runtime.errors import UserError

SIZES = {"720p": (720, 1280), "1080p": (1080, 1920), "2160p": (2160, 3840)}


def plan(args: argparse.Namespace) -> int:
    """Compiles the programs of a config, and prints their memory, work and estimated times."""
    extras.require("train", "srgan-jax plan")
    from srgan_jax.training.planning import report
    from srgan_jax.training.planning.hardware import find_topology
    from srgan_jax.training.planning.programs import Request, compile_programs

    topology = find_topology(args.topology)
    if args.tiles < 0:
        raise UserError(f"--tiles {args.tiles}: expected 0 or more")
    request = Request(
        args.topology, args.config, tuple(args.overrides), tuple(args.stage), args.tiles,
        _size(args.upscale) if args.upscale else None, args.measure, tuple(args.imports),
    )  # fmt: skip
    described = report.describe(compile_programs(request), topology)
    if args.json:
        print(json.dumps([{"config": args.config} | entry for entry in described], indent=1))
    else:
        print(_wrapped("\n".join([report.header(args.config, topology), *report.as_text(described, topology)])))
    return 0


def _wrapped(text: str) -> str:
    """Returns the text wrapped at the width of the terminal; unchanged if stdout is no terminal."""
    if not sys.stdout.isatty():
        return text
    columns = shutil.get_terminal_size().columns
    wrap = textwrap.TextWrapper(columns, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)
    return "\n".join(map(wrap.fill, text.splitlines()))


def _size(text: str) -> tuple[int, int]:
    """Returns the height and width of an image, given by name or as WIDTHxHEIGHT."""
    if text in SIZES:
        return SIZES[text]
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if not match:
        raise UserError(f"--upscale {text}: expected {', '.join(SIZES)}, or WIDTHxHEIGHT such as 1920x1080")
    return int(match[2]), int(match[1])


def add_plan(commands) -> None:
    """Adds `plan` to the commands of the parser."""
    sub = commands.add_parser(
        "plan", help="compile for TPUs or GPUs, which need not be there; print memory, work and estimated times"
    )
    sub.add_argument("--config", default="srgan", metavar="NAME", help="recipe or config file (default: srgan)")
    sub.add_argument(
        "--topology", required=True, metavar="KIND-N", help="devices: v5e-16, v6e-8, v5p-64, h100-8, a100-1, ..."
    )
    sub.add_argument("--stage", nargs="+", default=[], metavar="S", help="only these stages of the config")
    sub.add_argument(
        "--upscale", metavar="SIZE", help="plan `srgan-jax upscale` of an image instead: 1080p, or WIDTHxHEIGHT"
    )
    sub.add_argument(
        "--tiles", type=int, default=1024, metavar="N",
        help="tiles of the training data on each device; 0: crops come from the host (default: 1024)",
    )  # fmt: skip
    sub.add_argument("--measure", action="store_true", help="also run the programs; this machine must have the devices")
    sub.add_argument("--json", action="store_true", help="print all numbers as JSON")
    sub.set_defaults(run=plan, overrides=[])
