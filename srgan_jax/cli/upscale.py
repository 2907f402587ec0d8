"""`srgan-jax upscale`: upscales images and folders of images."""

import argparse
import math
import sys
import warnings
from pathlib import Path

from srgan_jax.cli.arguments import add_cluster, add_moment, at_moment
from srgan_jax.cli.upscale_video import add_video_options, separate_videos, upscale_videos
from srgan_jax.runtime.errors import UserError


def _generators(args: argparse.Namespace) -> list:
    """Returns the generators that the arguments name, by default `pretrained.DEFAULT`."""
    import jax

    from srgan_jax import weights
    from srgan_jax.weights import pretrained

    if args.strength is not None and not 0 <= args.strength <= 1:
        raise UserError(f"--strength {args.strength:g}: expected 0 (the PSNR partner) to 1 (the generator)")
    if args.blend:
        if args.strength is not None:
            raise UserError("--blend and --strength exclude each other: --blend has its own fraction")
        if args.weights:
            raise UserError("--blend and --weights exclude each other: omit --weights")
        first, second, fraction = args.blend
        try:
            fraction = float(fraction)
        except ValueError:
            raise UserError(f"--blend A B FRACTION: expected a number between 0 and 1, got {fraction!r}") from None
        return [weights.blend(weights.load(first), weights.load(second), fraction)]

    def load(path: str | Path) -> weights.Weights:
        return weights.load(path) if args.strength is None else weights.load_blended(path, args.strength)

    if args.weights:
        return [load(at_moment(path, args)) for path in args.weights]
    if args.step is not None or args.best:
        raise UserError("--step and --best need the folder of a run: --weights RUN")
    shipped = pretrained.path_of(pretrained.DEFAULT)  # ignores a folder of that name
    if shipped is None:
        choices = ", ".join(["FILE.safetensors", "the folder of a training run", *pretrained.names()])
        raise UserError(f"--weights is required; expected one of: {choices}")
    if jax.process_index() == 0:
        print(f"weights: {pretrained.DEFAULT} (default; --list-weights lists the others)", file=sys.stderr)
    return [load(shipped)]


def _separate_inputs(given: list[str]) -> tuple[list[str], list[str]]:
    """Returns the values of `--weights`, and those after them that are images, as in `--weights W photo.jpg`."""
    from srgan_jax.weights import pretrained
    from srgan_jax.weights.safetensors_io import SUFFIXES

    def is_weights(name: str) -> bool:
        folder = any(Path(name, file).is_file() for file in ("generator.safetensors", "config.json", "manifest.sha256"))
        return name.endswith(SUFFIXES) or name in pretrained.names() or folder

    count = next((index for index, name in enumerate(given) if index and not is_weights(name)), len(given))
    return given[:count], given[count:]


def _list_weights() -> int:
    """Prints the purpose of each shipped generator."""
    from srgan_jax import weights
    from srgan_jax.weights import pretrained

    for name in pretrained.names():
        default = " (default)" if name == pretrained.DEFAULT else ""
        header = weights.read_header(pretrained.path_of(name) or name)
        print(f"{name}{default}: {header.get('purpose', 'no description')}")
    print("srgan-jax info NAME prints the whole model card")
    return 0


def upscale(args: argparse.Namespace) -> int:
    """Upscales files and folders, and returns the exit status: 1 where some files failed."""
    from srgan_jax import bulk
    from srgan_jax.runtime import devices, processes

    if args.list_weights:
        return _list_weights()
    if args.weights and not args.inputs:
        args.weights, args.inputs = _separate_inputs(args.weights)
    if not args.inputs:
        raise UserError("expected at least one image or folder: srgan-jax upscale photo.jpg")
    processes.start_cluster(args.coordinator, args.num_processes, args.process_id)
    devices.check_platform()
    if not 1 <= args.quality <= 100:
        raise UserError(f"--quality {args.quality}: expected 1 to 100")
    for name, value in (("--jobs", args.jobs), ("--tile", args.tile), ("--max-pixels", args.max_pixels)):
        if value is not None and not 0 < value < math.inf:
            raise UserError(f"{name} {value}: expected more than 0")
    generators = _generators(args)
    network_scale = math.prod(params.scale for params in generators)
    size = args.width or args.long_side
    size_suffix = f"_{size}px" if size else f"_x{args.scale or network_scale:g}"
    suffix = args.suffix or ("" if args.out else size_suffix)
    size_of = bulk.target_size(network_scale, scale=args.scale, width=args.width, long_side=args.long_side)
    args.inputs, videos = separate_videos(args.inputs)
    if videos:
        status = upscale_videos(args, processes.process_slice(videos), generators, size_of, suffix)
        if not args.inputs:
            return status
        return upscale_images(args, generators, size_of, suffix) or status
    return upscale_images(args, generators, size_of, suffix)


def upscale_images(args: argparse.Namespace, generators: list, size_of, suffix: str) -> int:
    """Upscales the images among the inputs, and returns the exit status: 1 where some failed."""
    from tqdm import tqdm

    from srgan_jax import bulk
    from srgan_jax.runtime import processes

    jobs = processes.process_slice(bulk.find_jobs(args.inputs, args.out, suffix=suffix, format=args.format))
    max_pixels = int(args.max_pixels * 1e6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about tags in damaged files
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
                generators,
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
    """Returns where the results are, to be appended to the summary."""
    if len(done) == 1:
        return f" to {done[0].target}"
    return "" if not done else f" into {out}" if out else ", each in the folder of its original"


def _report(summary, what: str) -> int:
    """Prints the summary of a command and returns its exit status."""
    parts = [what]
    if summary.skipped:
        again = "--overwrite writes it again, for instance with other weights"
        parts.append(f"{len(summary.skipped)} skipped, the result exists already ({again})")
    if summary.failed:
        parts.append(f"{len(summary.failed)} failed:")
    print(", ".join(parts))
    for path, reason in summary.failed:
        print(f"  {path}: {reason}")
    for path, how in summary.differing:
        print(f"  {path}: not replaced, although {how}")
    return 1 if summary.failed else 0


def add_upscale(commands) -> None:
    """Adds `upscale` to the commands of the parser."""
    sub = commands.add_parser("upscale", help="upscale images and folders of images")
    sub.add_argument("inputs", nargs="*", metavar="IN", help="images, and folders that are searched recursively")
    sub.add_argument(
        "-o", "--out", metavar="OUT", help="output folder, or output file for a single image (default: IN_x4 beside IN)"
    )
    sub.add_argument(
        "--weights",
        nargs="+",
        metavar="W",
        help="name of shipped weights (default: photo_x4), .safetensors or .pth file, run folder or checkpoint; "
        "several are applied one after another, such as a cleanup of scale 1, then a generator of scale 4",
    )
    add_moment(sub)
    sub.add_argument("--list-weights", action="store_true", help="print the purpose of each shipped generator and exit")
    sub.add_argument(
        "--blend",
        nargs=3,
        metavar=("A", "B", "FRACTION"),
        help="interpolate the weights A and B; fraction 0 gives A, 1 gives B",
    )
    sub.add_argument(
        "--strength",
        type=float,
        metavar="S",
        help="of a GAN's texture: blends the weights with those of the generator's PSNR partner; 0 is the partner, "
        "1 the generator (default)",
    )
    sub.add_argument("--scale", type=float, help="upscaling factor, any positive number (default: the generator's)")
    sub.add_argument("--width", type=int, metavar="PX", help="width of the result, instead of --scale")
    sub.add_argument("--long-side", type=int, metavar="PX", help="longer side of the result, instead of --scale")
    sub.add_argument("--format", default="", help="output format: png, jpg, webp, tif, ... (default: the input's)")
    sub.add_argument(
        "--quality", type=int, default=95, help="quality of JPEG, WebP (100: lossless) and AVIF (default: 95)"
    )
    sub.add_argument("--suffix", default="", help="appended to the file name before the extension, for instance _x4")
    sub.add_argument("--overwrite", action="store_true", help="replace existing results")
    sub.add_argument("--dry-run", action="store_true", help="print what would be done, and write nothing")
    sub.add_argument("--strip", action="store_true", help="drop colour profile, EXIF and resolution")
    sub.add_argument("--drop-opaque-alpha", action="store_true", help="drop alpha channels that are fully opaque")
    sub.add_argument("--ensemble", action="store_true", help="average over flips and rotations: better, 8 times slower")
    sub.add_argument(
        "--jobs", type=int, default=2, metavar="N", help="decoding threads, and as many encoding threads (default: 2)"
    )
    sub.add_argument(
        "--tile", type=int, metavar="PX", help="side of a tile in input pixels (default: chosen from free memory)"
    )
    sub.add_argument(
        "--max-pixels", type=float, default=256, metavar="MP", help="megapixels; larger inputs fail (default: 256)"
    )
    add_video_options(sub)
    add_cluster(sub)
    sub.set_defaults(run=upscale)
