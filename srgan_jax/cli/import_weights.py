"""`srgan-jax import`: converts a published generator or discriminator to this project's format."""

import argparse
import ast
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srgan_jax.runtime.errors import UserError

if TYPE_CHECKING:
    from srgan_jax.weights import DiscriminatorWeights, Weights


def _options(given: list[str]) -> dict[str, Any]:
    """Returns the values of `--option KEY=VALUE`: Python literals if they are valid ones, otherwise strings."""
    options = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals:
            raise UserError(f"--option {text}: expected KEY=VALUE; srgan-jax import --list prints the keys")
        try:
            options[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            options[key] = value
    return options


def _list_layouts() -> int:
    """Prints the known layouts, in the order in which they are tried, and their options."""
    from srgan_jax.weights.importers import KINDS

    for name, layout in [entry for kind in KINDS for entry in kind.layouts.items()]:
        print(f"{name:<20}{layout.about}")
        for key, meaning in layout.options.items():
            print(f"{'':<20}--option {key}=...: {meaning}")
    return 0


def import_weights(args: argparse.Namespace) -> int:
    """Converts a published network to a .safetensors file of this project, and prints what was detected."""
    if args.list:
        return _list_layouts()
    if args.file is None:
        raise UserError("expected a file: srgan-jax import FILE.pth; --list prints the known architectures")
    from srgan_jax import weights
    from srgan_jax.weights import hub, importers, safetensors_io

    name = Path(args.file).name
    stem = next((name.removesuffix(end) for end in safetensors_io.SUFFIXES if name.endswith(end)), name)
    out = Path(args.out or f"{stem}.safetensors")
    if out.exists() and not args.overwrite:
        raise UserError(f"{out} exists; choose another --out, or add --overwrite")
    imported, provenance = importers.import_network(
        hub.local_file(args.file), args.source, _options(args.options), args.licence
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(imported, weights.DiscriminatorWeights):
        weights.save_discriminator(out, imported, provenance)
    else:
        weights.save(out, imported, provenance)
    print(f"{out}: {_summary(imported)}; detected as {provenance['source']}")
    print("\n".join(f"{key}: {value}" for key, value in provenance.items() if key != "source"))
    return 0


def _summary(imported: "Weights | DiscriminatorWeights") -> str:
    """Returns name, sizes and number of parameters of a network."""
    fields = imported.architecture
    sizes = f"{fields['blocks']} blocks of {fields['width']} channels, " if {"blocks", "width"} <= fields.keys() else ""
    kind = f"x{fields['scale']}" if "scale" in fields else "a discriminator"
    return f"{fields['name']}, {sizes}{kind}, {imported.parameter_count():,} parameters"


def add_import(commands) -> None:
    """Adds `import` to the commands of the parser."""
    sub = commands.add_parser("import", help="convert a generator or discriminator of another program to .safetensors")
    sub.add_argument("file", nargs="?", help=".pth, .pt, .pth.tar, .ckpt (no code in the file is run) or .safetensors")
    sub.add_argument("--list", action="store_true", help="print the known architectures, and exit")
    sub.add_argument(
        "--from",
        dest="source",
        default="",
        metavar="NAME",
        help="a name of --list (default: detected from the tensors)",
    )
    sub.add_argument(
        "--option", dest="options", action="append", default=[], metavar="KEY=VALUE",
        help="value that the file doesn't contain, see --list (default: the usual value)",
    )  # fmt: skip
    sub.add_argument(
        "--licence", default="", help='licence of the weights, for the header (default: the file\'s, or "not stated")'
    )
    sub.add_argument(
        "-o", "--out", help="output file (default: the input's name with .safetensors, in the current folder)"
    )
    sub.add_argument("--overwrite", action="store_true", help="replace an existing file")
    sub.set_defaults(run=import_weights)
