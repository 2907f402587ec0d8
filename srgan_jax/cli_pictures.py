"""The commands for people's pictures, and for the generators: `srgan-jax upscale`, `info` and `export`."""

import argparse
import math
import os
import sys
import warnings
from pathlib import Path

from srgan_jax.errors import UserError, lookup


def _generator(args: argparse.Namespace):
    """The generator that the arguments ask for; without any, the default of those that ship."""
    import jax

    from srgan_jax import pretrained, weights

    if args.blend:
        if args.weights:
            raise UserError("--blend names its two weights itself: leave out --weights")
        first, second, share = args.blend
        try:
            share = float(share)
        except ValueError:
            raise UserError(f"--blend A B SHARE: expected a number between 0 and 1, got {share!r}") from None
        return weights.blend(weights.load(first), weights.load(second), share)
    if args.weights:
        return weights.load(args.weights)
    shipped = pretrained.path_of(pretrained.DEFAULT)  # never a folder of that name
    if shipped is None:
        choices = ", ".join(["FILE.safetensors", "the folder of a training run", *pretrained.names()])
        raise UserError(f"say which generator to use: --weights {choices}")
    if jax.process_index() == 0:
        print(f"weights: {pretrained.DEFAULT} (--list-weights lists what ships, --weights chooses)", file=sys.stderr)
    return weights.load(shipped)


def _list_weights() -> int:
    """Says what each of the shipped generators is for."""
    from srgan_jax import pretrained, weights

    for name in pretrained.names():
        usual = " (used where --weights is not given)" if name == pretrained.DEFAULT else ""
        print(f"{name}{usual}: {weights.read_header(pretrained.path_of(name)).get('purpose', 'no description')}")
    print("srgan-jax info NAME prints the whole model card")
    return 0


def info(args: argparse.Namespace) -> int:
    """Prints what a generator is and what its file says about it."""
    import jax

    from srgan_jax import weights

    params = weights.load(args.weights, fold=False)
    count = sum(leaf.size for leaf in jax.tree.leaves(params.variables))
    fields = ", ".join(f"{key} {value}" for key, value in params.architecture.items() if key != "name")
    lines = {"architecture": f"{params.architecture['name']}: {fields}", "numbers": f"{count:,}"}
    for key, value in (lines | dict(sorted(weights.read_provenance(args.weights).items()))).items():
        print(f"{key.replace('_', ' ')}: {value}")
    return 0


def upscale(args: argparse.Namespace) -> int:
    """Upscales files and folders; 1 where some failed."""
    from tqdm import tqdm

    from srgan_jax import devices, files

    if args.list_weights:
        return _list_weights()
    if not args.inputs:
        raise UserError("say which pictures to upscale: srgan-jax upscale photo.jpg")
    devices.start_cluster(args.coordinator, args.num_processes, args.process_id)
    if not 1 <= args.quality <= 100:
        raise UserError(f"--quality {args.quality}: expected 1 to 100")
    for name, value in (("--jobs", args.jobs), ("--tile", args.tile), ("--max-pixels", args.max_pixels)):
        if value is not None and not 0 < value < math.inf:
            raise UserError(f"{name} {value}: expected more than 0")
    params = _generator(args)
    size = args.width or args.long_side
    beside = f"_{size}px" if size else f"_x{args.scale or params.scale:g}"
    suffix = args.suffix or ("" if args.out else beside)
    jobs = devices.process_share(files.find_jobs(args.inputs, args.out, suffix=suffix, format=args.format))
    size_of = files.target_size(params.scale, scale=args.scale, width=args.width, long_side=args.long_side)
    max_pixels = int(args.max_pixels * 1e6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, about tags in damaged files
        if args.dry_run:
            planned, summary = files.plan(jobs, size_of, overwrite=args.overwrite, max_pixels=max_pixels)
            for job, size in planned.items():
                after = size_of(*size)
                print(f"{job.source} {size[1]} x {size[0]} -> {job.target} {after[1]} x {after[0]}")
            return _report(summary, f"{len(planned)} to do")
        with tqdm(total=1.0, bar_format=PROGRESS, disable=None, leave=False) as bar:

            def progress(done: int, total: int) -> None:
                bar.total = total / 1e6
                bar.update(done / 1e6 - bar.n)

            summary = files.upscale_files(
                jobs,
                params,
                size_of,
                quality=args.quality,
                overwrite=args.overwrite,
                strip=args.strip,
                drop_opaque_alpha=args.drop_opaque_alpha,
                self_ensemble=args.ensemble,
                max_pixels=max_pixels,
                tile_px=args.tile,
                threads=args.jobs,
                say=lambda line: tqdm.write(line, file=sys.stderr),
                progress=progress,
            )
    return _report(summary, f"{len(summary.done)} upscaled{_where(summary.done, args.out)}")


PROGRESS = "{percentage:3.0f}% |{bar}| {n:.1f} of {total:.1f} megapixels, {remaining} left"


def _where(done: list, out: str | None) -> str:
    """Where the results are, as the end of a sentence."""
    if len(done) == 1:
        return f" to {done[0].target}"
    return "" if not done else f" into {out}" if out else ", each beside its original"


def _report(summary, what: str) -> int:
    """Prints what became of the files; the exit status."""
    parts = [what]
    if summary.skipped:
        again = "--overwrite writes it again, for instance with other weights"
        parts.append(f"{len(summary.skipped)} skipped, a result exists already ({again})")
    if summary.failed:
        parts.append(f"{len(summary.failed)} failed:")
    print(", ".join(parts))
    for path, reason in summary.failed:
        print(f"  {path}: {reason}")
    for path, how in summary.differing:
        print(f"  {path}: kept, though {how}")
    return 1 if summary.failed else 0


def export(args: argparse.Namespace) -> int:
    """Writes a generator for another runtime and says how closely it follows the original."""
    from srgan_jax import export as exporters
    from srgan_jax import weights

    suffix, write = lookup(exporters.EXPORTERS, args.to, "format")
    params = weights.load(args.weights)
    stem = Path(args.weights).resolve()
    stem = stem if stem.is_dir() else stem.with_suffix("")
    out = Path(args.out or f"{stem.name}{suffix}")
    if out.exists() and not args.overwrite:
        raise UserError(f"{out} exists; choose another --out, or add --overwrite")
    difference = write(params, out, weights.read_provenance(args.weights))
    print(f"{out}: {os.path.getsize(out) / 1e6:.1f} MB, differs from the original by at most {difference:.1e}")
    return 0


def add_cluster(sub) -> None:
    """Adds the flags of a command whose work the processes of a job share."""
    sub.add_argument(
        "--coordinator", default="", metavar="HOST:PORT", help="process 0 of a job that JAX doesn't detect"
    )
    sub.add_argument("--num_processes", type=int, metavar="N", help="how many processes the job has")
    sub.add_argument("--process_id", type=int, metavar="I", help="which of them this is, from 0")


def add_upscale(commands) -> None:
    """Adds `upscale` to the commands of the parser."""
    sub = commands.add_parser("upscale", help="upscale pictures and folders of pictures")
    sub.add_argument("inputs", nargs="*", metavar="IN", help="pictures, and folders of pictures (sub-folders too)")
    sub.add_argument("-o", "--out", metavar="OUT", help="folder; or a file, for one picture (default: beside it, _x4)")
    sub.add_argument("--weights", metavar="W", help="name of one that ships (default: photo_x4), file or run folder")
    sub.add_argument("--list-weights", action="store_true", help="say what each of those that ship is for, and stop")
    sub.add_argument("--blend", nargs=3, metavar=("A", "B", "SHARE"), help="between A (0) and B (1), two weights")
    sub.add_argument("--scale", type=float, help="any number (default: that of the generator)")
    sub.add_argument("--width", type=int, metavar="PX", help="of the result, in place of --scale")
    sub.add_argument("--long-side", type=int, metavar="PX", help="of the result, in place of --scale")
    sub.add_argument("--format", default="", help="png, jpg, webp, tif, ... (default: that of the input)")
    sub.add_argument("--quality", type=int, default=95, help="of JPEG, WebP (100: lossless), AVIF (default: 95)")
    sub.add_argument("--suffix", default="", help="behind the name, before the dot: _x4, say")
    sub.add_argument("--overwrite", action="store_true", help="write results again that are there already")
    sub.add_argument("--dry-run", action="store_true", help="only say what would be done")
    sub.add_argument("--strip", action="store_true", help="drop colour profile, EXIF and resolution")
    sub.add_argument("--drop-opaque-alpha", action="store_true", help="drop alpha channels that hide nothing")
    sub.add_argument("--ensemble", action="store_true", help="average over flips and rotations: better, 8 times slower")
    sub.add_argument("--jobs", type=int, default=2, metavar="N", help="threads that decode, and encode (default: 2)")
    sub.add_argument("--tile", type=int, metavar="PX", help="side of tiles, input pixels (default: from free memory)")
    sub.add_argument(
        "--max-pixels", type=float, default=256, metavar="MP", help="refuse larger inputs, megapixels (default: 256)"
    )
    add_cluster(sub)
    sub.set_defaults(run=upscale)


def add_info(commands) -> None:
    """Adds `info` to the commands of the parser."""
    sub = commands.add_parser("info", help="print the model card of a generator")
    sub.add_argument("weights", help="name of one that ships, .safetensors or run folder")
    sub.set_defaults(run=info)


def add_export(commands) -> None:
    """Adds `export` to the commands of the parser."""
    sub = commands.add_parser("export", help="write a generator as StableHLO or ONNX")
    sub.add_argument("weights", help="name of one that ships, .safetensors or run folder")
    sub.add_argument("--to", required=True, help="stablehlo or onnx")
    sub.add_argument("--out", help="default: the name of the weights, here")
    sub.add_argument("--overwrite", action="store_true")
    sub.set_defaults(run=export)
