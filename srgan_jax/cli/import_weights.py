"""`srgan-jax import`: a published generator as one of ours."""

import argparse
from pathlib import Path

from srgan_jax.runtime.errors import UserError


def import_weights(args: argparse.Namespace) -> int:
    """Writes a published generator as one of ours."""
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
    sub = commands.add_parser("import", help="turn a published PyTorch generator into a .safetensors")
    sub.add_argument("file", help="PyTorch checkpoint (read safely) or .safetensors")
    sub.add_argument(
        "--from", dest="source", required=True, help="srgan5, lornatang, eriklindernoren, basicsr-msrresnet"
    )
    sub.add_argument("--out", help="default: the file's name with .safetensors, here")
    sub.add_argument("--overwrite", action="store_true")
    sub.set_defaults(run=import_weights)
