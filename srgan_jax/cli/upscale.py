"""`srgan-jax upscale`: images and folders of images, enlarged."""

import argparse
import math
import sys
import warnings

from srgan_jax.cli.arguments import add_cluster
from srgan_jax.runtime.errors import UserError


def _generator(args: argparse.Namespace):
    """The generator that the arguments ask for; without any, the default of those that ship."""
    import jax

    from srgan_jax import weights
    from srgan_jax.weights import pretrained

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
    from srgan_jax import weights
    from srgan_jax.weights import pretrained

    for name in pretrained.names():
        usual = " (used where --weights is not given)" if name == pretrained.DEFAULT else ""
        header = weights.read_header(pretrained.path_of(name) or name)
        print(f"{name}{usual}: {header.get('purpose', 'no description')}")
    print("srgan-jax info NAME prints the whole model card")
    return 0


def upscale(args: argparse.Namespace) -> int:
    """Upscales files and folders; 1 where some failed."""
    from tqdm import tqdm

    from srgan_jax import bulk
    from srgan_jax.runtime import processes

    if args.list_weights:
        return _list_weights()
    if not args.inputs:
        raise UserError("say which pictures to upscale: srgan-jax upscale photo.jpg")
    processes.start_cluster(args.coordinator, args.num_processes, args.process_id)
    if not 1 <= args.quality <= 100:
        raise UserError(f"--quality {args.quality}: expected 1 to 100")
    for name, value in (("--jobs", args.jobs), ("--tile", args.tile), ("--max-pixels", args.max_pixels)):
        if value is not None and not 0 < value < math.inf:
            raise UserError(f"{name} {value}: expected more than 0")
    params = _generator(args)
    size = args.width or args.long_side
    beside = f"_{size}px" if size else f"_x{args.scale or params.scale:g}"
    suffix = args.suffix or ("" if args.out else beside)
    jobs = processes.process_slice(bulk.find_jobs(args.inputs, args.out, suffix=suffix, format=args.format))
    size_of = bulk.target_size(params.scale, scale=args.scale, width=args.width, long_side=args.long_side)
    max_pixels = int(args.max_pixels * 1e6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, about tags in damaged files
        if args.dry_run:
            planned, summary = bulk.plan(jobs, size_of, overwrite=args.overwrite, max_pixels=max_pixels)
            for job, size in planned.items():
                after = size_of(*size)
                print(f"{job.source} {size[1]} x {size[0]} -> {job.target} {after[1]} x {after[0]}")
            return _report(summary, f"{len(planned)} to do")
        with tqdm(total=1.0, bar_format=PROGRESS, disable=None, leave=False) as bar:

            def progress(done: int, total: int) -> None:
                bar.total = total / 1e6
                bar.update(done / 1e6 - bar.n)

            summary = bulk.upscale_files(
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
                report=lambda line: tqdm.write(line, file=sys.stderr),
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
