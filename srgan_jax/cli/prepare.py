"""`srgan-jax prepare`: converts a folder of images to a training data set."""

import argparse
import logging
import os

from srgan_jax.runtime import extras, storage
from srgan_jax.runtime.errors import UserError


def prepare(args: argparse.Namespace) -> int:
    """Writes a data set and lists the skipped images."""
    extras.require("train", "srgan-jax prepare")
    from tqdm import tqdm

    from srgan_jax.data import builder
    from srgan_jax.data.examples import find_examples
    from srgan_jax.images import Bands

    source = storage.local(args.source)
    if not os.path.isdir(source):
        if args.out or os.sep in args.source.split("/")[0] or args.source.startswith((".", "/", "~")):
            raise UserError(f"no such folder: {args.source}")
        logging.getLogger("urllib3").setLevel(logging.ERROR)  # its line for each retry would hide the error
        builder.prepare_named(args.source, args.data_dir or None, trust_builder=args.trust_builder)
        print(f"{args.source} is prepared; train with --config.data.dataset={args.source}")
        return 0
    if args.channels < 1:
        raise UserError(f"--channels {args.channels}: expected 1 or more")
    if not args.out:
        raise UserError(f"--out is required for a folder: srgan-jax prepare {args.source} --out data/NAME")
    bands = Bands(args.channels, args.bits)
    examples, lines = find_examples(source, args.lr, args.lr_name)
    for line in lines:
        print(line)
    what = "pairs" if len(examples[0]) == 2 else "images"
    with tqdm(total=len(examples), unit=f" {what}", desc="preparing", disable=None) as bar:
        options = {"min_side_px": args.min_side, "examples": examples, "on_file": bar.update}
        with storage.output_folder(args.out) as out:
            skipped = builder.prepare(source, out, bands=bands, **options)
            converted, prepared = builder.read_converted(out), builder.count_images(out)
    for name, reason in skipped.items():
        print(f"skipped {name}: {reason}")
    for name, kind in converted.items():
        print(f"converted to {bands}, {name}: {kind}")
    print(f"{prepared} {what} prepared, {len(skipped)} skipped; train with --config.data.dataset={args.out}")
    return 0


def add_prepare(commands) -> None:
    """Adds `prepare` to the commands of the parser."""
    sub = commands.add_parser("prepare", help="convert a folder of images to a training data set")
    sub.add_argument("source", help="folder of images, or of pairs (hr and lr, GT and LQ); or a tfds data set")
    sub.add_argument("-o", "--out", help="output folder of the data set, for --config.data.dataset")
    sub.add_argument(
        "--min-side", type=int, default=96, metavar="PX", help="skip images with a smaller side (default: 96)"
    )
    sub.add_argument(
        "--channels", type=int, default=3, metavar="N", help="bands of the images: 1, 3 (RGB, default), 4, ..."
    )
    sub.add_argument("--bits", type=int, default=8, choices=[8, 16], help="bits per sample that are kept (default: 8)")
    sub.add_argument("--lr", nargs="+", default=[], metavar="DIR", help="pairs: the folders of LR images in the source")
    sub.add_argument(
        "--lr-name", default="", metavar="TEMPLATE", help="pairs: names of the LR images, such as {name}x4"
    )
    sub.add_argument("--data-dir", help="folder in which tfds keeps its data sets")
    sub.add_argument(
        "--trust-builder", action="store_true", help="a tfds data set: run Python code that its files name"
    )
    sub.set_defaults(run=prepare)
