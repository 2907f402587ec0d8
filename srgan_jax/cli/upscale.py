"""`srgan-jax upscale`: upscales images and folders of images."""

import argparse
import inspect
import math
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from srgan_jax.cli import progress, standard_streams
from srgan_jax.cli.arguments import add_cluster, add_moment, at_moment
from srgan_jax.cli.upscale_options import add_options
from srgan_jax.cli.upscale_video import separate_videos, upscale_videos
from srgan_jax.runtime.errors import UserError
from srgan_jax.runtime.terminal import one_line


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
    shipped = pretrained.path_of(pretrained.DEFAULT)  # a folder of that name is ignored
    if shipped is None:
        choices = ", ".join(["FILE.safetensors", "the folder of a training run", *pretrained.names()])
        raise UserError(f"--weights is required; expected one of: {choices}")
    if jax.process_index() == 0:
        print(f"weights: {pretrained.DEFAULT} (default; --list-weights lists the others)", file=sys.stderr)
    return [load(shipped)]


def _separate_inputs(given: list[str]) -> tuple[list[str], list[str]]:
    """Divides the values of `--weights W photo.jpg` into weights and the images after them."""
    from srgan_jax.weights import hub, pretrained
    from srgan_jax.weights.safetensors_io import SUFFIXES

    def is_weights(name: str) -> bool:
        folder = any(Path(name, file).is_file() for file in ("generator.safetensors", "config.json", "manifest.sha256"))
        return name.endswith(SUFFIXES) or name in pretrained.names() or folder or hub.is_address(name)

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
    from srgan_jax.runtime import devices, processes

    start = time.monotonic()
    if args.list_weights:
        return _list_weights()
    args.inputs += args.more_inputs
    if args.weights and not args.inputs:
        args.weights, args.inputs = _separate_inputs(args.weights)
    if not args.inputs:
        raise UserError("expected at least one image or folder: srgan-jax upscale photo.jpg")
    processes.start_cluster(args.coordinator, args.num_processes, args.process_id)
    devices.check_platform()
    if not 1 <= args.quality <= 100:
        raise UserError(f"--quality {args.quality}: expected 1 to 100")
    positive = {"--jobs": args.threads, "--tile": args.tile_px, "--max-pixels": args.max_pixels}
    for name, value in (positive | {"--max-seconds": args.max_seconds}).items():
        if value is not None and not 0 < value < math.inf:
            raise UserError(f"{name} {value}: expected more than 0")
    with standard_streams.as_files(args), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about tags in damaged files
        return _upscale(args, start)


def _upscale(args: argparse.Namespace, start: float) -> int:
    """Upscales files, after the arguments were checked; `start` is `time.monotonic()` at the beginning."""
    from srgan_jax import bulk
    from srgan_jax.runtime import processes

    generators = _generators(args)
    network_scale = math.prod(params.scale for params in generators)
    size_of = bulk.target_size(network_scale, **_arguments_of(bulk.target_size, args))
    size = args.fit or args.width or args.height or args.long_side or args.short_side
    size_suffix = f"_{size}" if args.fit else f"_{size}px" if size else f"_x{args.scale or network_scale:g}"
    suffix = args.suffix or ("" if args.out else size_suffix)
    args.inputs, videos = separate_videos(args.inputs)
    if videos:
        status = upscale_videos(args, processes.process_slice(videos), generators, size_of, suffix)
        if not args.inputs:
            return status
        return _upscale_images(args, generators, size_of, suffix, start) or status
    return _upscale_images(args, generators, size_of, suffix, start)


def _upscale_images(args: argparse.Namespace, generators: list, size_of, suffix: str, start: float) -> int:
    """Upscales the images among the inputs, and returns the exit status: 1 where some failed."""
    from tqdm import tqdm

    from srgan_jax import bulk
    from srgan_jax.runtime import processes

    def report(line: str) -> None:
        tqdm.write(one_line(line), file=sys.stderr)

    found = bulk.find_jobs(args.inputs, args.out, suffix=suffix, format=args.format, report=report)
    others = bulk.count_others(args.inputs, args.out)
    jobs = processes.process_slice(found)
    given: dict[str, Any] = {**_arguments_of(bulk.Options, args), "max_pixels": int(args.max_pixels * 1e6)}
    options = bulk.Options(**given)
    if args.dry_run:
        return _dry_run(jobs, generators, size_of, options, others)
    bar = progress.Bar()
    try:
        summary = bulk.upscale_files(jobs, generators, size_of, report=report, progress=bar, **vars(options))
    except bulk.Interrupted as stop:
        bar.close()
        done = f"{len(stop.summary.done)} of {stop.planned} files are done after {time.monotonic() - start:.1f} s"
        print(f"interrupted: {done}; the same command continues with the others", file=sys.stderr)
        return 130
    bar.close()
    seconds = time.monotonic() - start
    where = " to stdout" if args.to_stdout and summary.done else _where(summary.done, args.out)
    return _report(summary, f"{len(summary.done)} upscaled{where}", seconds, others)


def _arguments_of(function: Callable, args: argparse.Namespace) -> dict[str, Any]:
    """Returns the command-line values that have the names of a function's arguments."""
    return {name: getattr(args, name) for name in inspect.signature(function).parameters if hasattr(args, name)}


def _dry_run(jobs: list, generators: list, size_of, options, others: int) -> int:
    """Prints the inputs that would be upscaled, with the files that would be written."""
    from srgan_jax import bulk

    names = bulk.Names(jobs, size_of, options, bulk.settings_digest(generators, options))
    planned, summary = bulk.plan(jobs, size_of, names, options)
    for job, size in planned.items():
        after = size_of(*size)
        print(one_line(f"{job.source} {size[1]} x {size[0]} -> {job.target} {after[1]} x {after[0]}"))
    return _report(summary, f"{len(planned)} to do", others=others)


def _where(done: list, out: str | None) -> str:
    """Returns where the results are, to be appended to the summary."""
    if len(done) == 1:
        return f" to {done[0].target}"
    return "" if not done else f" into {out}" if out else ", each in the folder of its original"


LISTED = 20  # the summary names so many files of a kind, and counts the others


def _report(summary, what: str, seconds: float = 0.0, others: int = 0) -> int:
    """Prints the summary of a command and returns its exit status."""
    parts = [what]
    if summary.skipped:
        parts.append(f"{len(summary.skipped)} skipped, the result exists already (--overwrite writes it again)")
    if summary.failed:
        parts.append(f"{len(summary.failed)} failed:")
    print(one_line(", ".join(parts)))
    for path, reason in summary.failed:
        print(f"  {one_line(f'{path}: {reason}')}")
    _print_first([f"{job.source}: skipped, {job.target} is its result" for job in summary.skipped])
    _print_first([f"{path}: named so because {other} {difference}" for path, other, difference in summary.renamed])
    if others:
        print(f"files in the folders that are no images: {others:,}", file=sys.stderr)
    if summary.done:
        megapixels = summary.pixels / 1e6
        speed = f"{megapixels / max(seconds, 1e-9):.2g} a second"
        print(f"{megapixels:.3g} megapixels in {seconds:.1f} s, {speed}", file=sys.stderr)
    return 1 if summary.failed else 0


def _print_first(lines: list[str]) -> None:
    for line in lines[:LISTED]:
        print(f"  {one_line(line)}")
    if len(lines) > LISTED:
        print(f"  and {len(lines) - LISTED:,} more")


def add_upscale(commands) -> None:
    """Adds `upscale` to the commands of the parser."""
    sub = commands.add_parser("upscale", help="upscale images and folders of images")
    add_options(sub)
    add_moment(sub)
    add_cluster(sub)
    sub.set_defaults(run=upscale)
