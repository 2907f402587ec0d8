"""The command `srgan-jax`: what can be done without writing Python.

srgan-jax prepare FOLDER --out data/NAME      a folder of pictures as a tfds data set
srgan-jax prepare celeb_a                     a data set of the tfds catalogue, downloaded
"""

import argparse
import os
import sys

from srgan_jax.errors import UserError


def prepare(args: argparse.Namespace) -> int:
    """Writes a data set and lists what was left out of it."""
    from tqdm import tqdm

    from srgan_jax import images
    from srgan_jax.data import builder

    if not os.path.isdir(args.source):
        if args.out or os.sep in args.source.split("/")[0] or args.source.startswith((".", "/", "~")):
            raise UserError(f"no such folder: {args.source}")
        builder.prepare_named(args.source, args.data_dir or None)
        print(f"{args.source} is prepared; train with --config.data.dataset={args.source}")
        return 0
    if not args.out:
        raise UserError(f"say where the data set goes: srgan-jax prepare {args.source} --out data/NAME")
    found = len(images.find_pictures(args.source))
    with tqdm(total=found, unit=" pictures", desc="preparing") as bar:
        skipped = builder.prepare(args.source, args.out, min_side_px=args.min_side, on_picture=bar.update)
    for name, reason in skipped.items():
        print(f"skipped {name}: {reason}")
    print(
        f"{found - len(skipped)} pictures prepared, {len(skipped)} skipped; train with --config.data.dataset={args.out}"
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="srgan-jax", description="Super-resolution with SRGAN, in JAX.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    sub = commands.add_parser("prepare", help="turn a folder of pictures into a training data set")
    sub.add_argument("source", help="folder of pictures (sub-folders too), or the name of a tfds data set")
    sub.add_argument("--out", help="folder of the data set, for --config.data.dataset")
    sub.add_argument("--min-side", type=int, default=96, metavar="PX", help="skip smaller pictures (default: 96)")
    sub.add_argument("--data-dir", help="where tfds keeps data sets by name")
    sub.set_defaults(run=prepare)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs a command; 0 when it did what was asked, 2 when it was asked wrongly."""
    args = _parser().parse_args(argv)
    try:
        return args.run(args)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
