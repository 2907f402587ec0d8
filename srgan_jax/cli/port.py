"""`srgan-jax port`: converts the public weights of a feature extractor or metric to this project's format."""

import argparse
import tempfile
from pathlib import Path


def port(args: argparse.Namespace) -> int:
    """Ports the given files, or downloads and ports the official file, and prints what was written."""
    from srgan_jax.runtime.errors import UserError
    from srgan_jax.weights import networks
    from srgan_jax.weights.ports import PORTS, files

    entry = PORTS[args.network]
    given = [path for path in args.files or [] if path]
    official = entry.official.get(args.download) if args.download else None
    if bool(official) == bool(given):
        raise UserError(
            f"srgan-jax port {args.network}: expected either one FILE or --download"
            if entry.official
            else f"srgan-jax port {args.network}: expected {len(entry.files)} files, got {len(given)}"
        )
    if official and not official.digest:
        raise UserError(
            f"no SHA-256 of {official.url.rsplit('/', 1)[-1]} is published, so it isn't downloaded here; get it with: "
            f"{networks.PORT_COMMANDS[args.network]}"
        )
    options = {entry.option: getattr(args, entry.option)} if entry.option else {}
    name = f"{args.network}_{args.backbone}" if "backbone" in options else args.network
    out = args.out or networks.network_path(name)
    for path in given:
        files.check_library(path)
    with tempfile.TemporaryDirectory() as folder:
        if official:
            print(f"downloading {official.url}")
            given = [files.download(official, Path(folder))]
        print(entry.port(*given, out, **options))
    return 0


def add_port(commands) -> None:
    """Adds `port` to the commands of the parser."""
    from srgan_jax.weights.ports import PORTS

    networks = commands.add_parser(
        "port", help="convert the public weights of a loss or metric", description=__doc__
    ).add_subparsers(dest="network", required=True, metavar="NETWORK")
    for name, entry in PORTS.items():
        sub = networks.add_parser(name, help=entry.about, description=entry.about)
        for what in entry.files:
            optional = "?" if entry.official else None
            sub.add_argument("files", nargs=optional, type=Path, action="append", metavar="FILE", help=what)
        if entry.official:
            default = next(iter(entry.official))
            sub.add_argument(
                "--download", nargs="?", const=default, choices=entry.official, help="download the published file"
            )
        if entry.option:
            sub.add_argument(f"--{entry.option}", choices=entry.choices, required=entry.required)
        sub.add_argument("-o", "--out", type=Path, help="output file (default: where losses and metrics look for it)")
        sub.set_defaults(run=port, download=None)
