"""`srgan-jax import`: converts a published generator to this project's format."""

import argparse
from pathlib import Path

from srgan_jax.runtime.errors import UserError


def import_weights(args: argparse.Namespace) -> int:
    """Converts a published generator to a .safetensors file of this project, and prints its architecture."""
    from srgan_jax import weights
    from srgan_jax.weights import importers

    imported = importers.import_generator(args.file, args.source)
    out = Path(args.out or Path(args.file).with_suffix(".safetensors").name)
    if out.exists() and not args.overwrite:
        raise UserError(f"{out} exists; choose another --out, or add --overwrite")
    out.parent.mkdir(parents=True, exist_ok=True)
    weights.save(out, imported, {"source": args.source, "file": Path(args.file).name})
    fields = imported.architecture
    print(f"{out}: {fields['name']}, {fields['blocks']} blocks of {fields['width']} channels, x{fields['scale']}")
    return 0


def add_import(commands) -> None:
    """Adds `import` to the commands of the parser."""
    sub = commands.add_parser("import", help="convert a published PyTorch generator to .safetensors")
    sub.add_argument("file", help="PyTorch checkpoint (loaded without executing code) or .safetensors file")
    sub.add_argument(
        "--from",
        dest="source",
        required=True,
        help="code base of the checkpoint: srgan5, lornatang, eriklindernoren, basicsr-msrresnet",
    )
    sub.add_argument(
        "-o", "--out", help="output file (default: the input's name with .safetensors, in the current folder)"
    )
    sub.add_argument("--overwrite", action="store_true", help="replace an existing file")
    sub.set_defaults(run=import_weights)
