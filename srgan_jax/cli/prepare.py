"""`srgan-jax prepare`: a folder of images as a training data set."""

import argparse
import logging
import os

from srgan_jax.runtime.errors import UserError


def prepare(args: argparse.Namespace) -> int:
    """Writes a data set and lists what was left out of it."""
    from tqdm import tqdm

    from srgan_jax import images
    from srgan_jax.data import builder

    if not os.path.isdir(args.source):
        if args.out or os.sep in args.source.split("/")[0] or args.source.startswith((".", "/", "~")):
            raise UserError(f"no such folder: {args.source}")
        logging.getLogger("urllib3").setLevel(logging.ERROR)  # a line for each retry would hide what is the matter
        builder.prepare_named(args.source, args.data_dir or None)
        print(f"{args.source} is prepared; train with --config.data.dataset={args.source}")
        return 0
    if not args.out:
        raise UserError(f"say where the data set goes: srgan-jax prepare {args.source} --out data/NAME")
    found = len(images.find_pictures(args.source))
    with tqdm(total=found, unit=" pictures", desc="preparing", disable=not found) as bar:
        skipped = builder.prepare(args.source, args.out, min_side_px=args.min_side, on_file=bar.update)
    for name, reason in skipped.items():
        print(f"skipped {name}: {reason}")
    for name, kind in builder.read_converted(args.out).items():
        print(f"converted to 8-bit RGB, {name}: {kind}")
    print(
        f"{found - len(skipped)} pictures prepared, {len(skipped)} skipped; train with --config.data.dataset={args.out}"
    )
    return 0


def add_prepare(commands) -> None:
    """Adds `prepare` to the commands of the parser."""
    sub = commands.add_parser("prepare", help="turn a folder of pictures into a training data set")
    sub.add_argument("source", help="folder of pictures, or of pairs in hr/ and lr/; or the name of a tfds data set")
    sub.add_argument("--out", help="folder of the data set, for --config.data.dataset")
    sub.add_argument("--min-side", type=int, default=96, metavar="PX", help="skip smaller pictures (default: 96)")
    sub.add_argument("--data-dir", help="where tfds keeps data sets by name")
    sub.set_defaults(run=prepare)
