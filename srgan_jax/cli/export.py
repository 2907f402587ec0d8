"""`srgan-jax export`: exports a generator to another runtime."""

import argparse
import os
from pathlib import Path

from srgan_jax.runtime.errors import UserError, lookup


def export(args: argparse.Namespace) -> int:
    """Exports a generator and prints the largest difference between its outputs and the original's."""
    from srgan_jax import weights
    from srgan_jax.export import EXPORTERS

    suffix, write = lookup(EXPORTERS, args.to, "format")
    params = weights.load(args.weights)
    stem = Path(args.weights).resolve()
    stem = stem if stem.is_dir() else stem.with_suffix("")
    out = Path(args.out or f"{stem.name}{suffix}")
    if out.exists() and not args.overwrite:
        raise UserError(f"{out} exists; choose another --out, or add --overwrite")
    difference = write(params, out, weights.read_provenance(args.weights))
    print(f"{out}: {os.path.getsize(out) / 1e6:.1f} MB, differs from the original by at most {difference:.1e}")
    return 0


def add_export(commands) -> None:
    """Adds `export` to the commands of the parser."""
    sub = commands.add_parser("export", help="export a generator to StableHLO or ONNX")
    sub.add_argument("weights", help="name of shipped weights, .safetensors or .pth file, or run folder")
    sub.add_argument("--to", required=True, help="stablehlo or onnx")
    sub.add_argument("-o", "--out", help="output file (default: the name of the weights, in the current folder)")
    sub.add_argument("--overwrite", action="store_true", help="replace an existing file")
    sub.set_defaults(run=export)
