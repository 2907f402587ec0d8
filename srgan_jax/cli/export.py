"""`srgan-jax export`: exports a generator to another runtime."""

import argparse
from pathlib import Path
from typing import Any

from srgan_jax.cli.arguments import add_moment, at_moment
from srgan_jax.runtime.errors import UserError, lookup


def export(args: argparse.Namespace) -> int:
    """Exports a generator and prints the largest difference between its outputs and the original's."""
    from srgan_jax import weights
    from srgan_jax.export import EXPORTERS
    from srgan_jax.models import channels_of
    from srgan_jax.runtime import devices

    devices.check_platform()
    exporter = lookup(EXPORTERS, args.to, "format")
    options = _given_options(args)
    args.weights = at_moment(args.weights, args)
    params, provenance = weights.load_with_provenance(args.weights)  # exporters fold the norms, if the format allows it
    if channels_of(params.architecture) != 3 and args.to != "stablehlo":
        raise UserError(
            f"{args.weights} has {channels_of(params.architecture)} channels: expected 3 for --to {args.to}; use "
            "srgan_jax.upscale"
        )
    out = Path(args.out or _default_name(args.weights, exporter.suffix, params.scale))
    files = [out, *(out.with_suffix(suffix) for suffix in exporter.beside)]
    if existing := [str(file) for file in files if file.exists() and not args.overwrite]:
        raise UserError(f"{existing[0]} exists; choose another --out, or add --overwrite")
    difference = exporter.write(params, out, provenance, **options)
    size_mb = sum(file.stat().st_size for file in files) / 1e6
    names = ", ".join(map(str, files))
    print(f"{names}: {size_mb:.1f} MB, differs from the original by at most {difference:.1e}")
    return 0


def _given_options(args: argparse.Namespace) -> dict[str, Any]:
    """Returns the options of the format that were given.

    Raises:
      UserError: the format doesn't have one of the options.
    """
    from srgan_jax.export import EXPORTERS

    all_options = dict.fromkeys(name for exporter in EXPORTERS.values() for name in exporter.options)
    given = {name: getattr(args, name) for name in all_options if getattr(args, name) not in (None, False)}
    for name in given:
        if name not in EXPORTERS[args.to].options:
            having = " or ".join(f"--to {other}" for other, exporter in EXPORTERS.items() if name in exporter.options)
            raise UserError(f"--to {args.to} has no option --{name}; expected {having}")
    return given


def _default_name(path: str, suffix: str, scale: int) -> str:
    """Returns the name of the weights with the suffix of the format; the scale isn't repeated."""
    stem = Path(path).resolve()
    stem = stem.name if stem.is_dir() else stem.with_suffix("").name
    mark = f"-x{scale}"
    suffix = suffix.format(scale=scale)
    return stem + (suffix.removeprefix(mark) if stem.endswith((mark, f"_x{scale}")) else suffix)


def add_export(commands) -> None:
    """Adds `export` to the commands of the parser."""
    sub = commands.add_parser("export", help="export a generator to ONNX, ncnn, PyTorch or StableHLO")
    sub.add_argument(
        "weights", help="shipped name, .safetensors or .pth file, run folder or checkpoint, hf://owner/name"
    )
    add_moment(sub)
    sub.add_argument("--to", required=True, metavar="FORMAT", help="onnx, ncnn, torch or stablehlo")
    sub.add_argument(
        "--opset", type=int, metavar="N", help="onnx: version of the operators (default: the lowest possible)"
    )
    sub.add_argument("--half", action="store_true", help="onnx: compute in float16; torch: store float16")
    sub.add_argument(
        "--size", type=int, nargs=2, metavar=("H", "W"), help="onnx: fixed LR size in pixels (default: any)"
    )
    sub.add_argument("-o", "--out", help="output file (default: the name of the weights, in the current folder)")
    sub.add_argument("--overwrite", action="store_true", help="replace an existing file")
    sub.set_defaults(run=export)
