"""`srgan-jax evaluate`: prints a table of scores."""

import argparse
import functools
import shutil
import sys
from pathlib import Path

from srgan_jax.cli.arguments import add_cluster, add_moment, at_moment
from srgan_jax.runtime.errors import UserError
from srgan_jax.runtime.names import readable

METRICS = ("psnr_y", "ssim_y", "ssim_daala", "psnr_rgb")  # of RGB, by default


def _label(path: str) -> str:
    """Returns the short name of a weights file: its stem, or the name of its run folder."""
    from srgan_jax.weights.safetensors_io import SUFFIXES

    name = Path(path).resolve()
    if name.name == "generator.safetensors":
        return name.parent.name
    return next((name.name.removesuffix(end) for end in SUFFIXES if name.name.endswith(end)), name.name)


def _labels(paths: list[str], names: list[str], taken: tuple[str, ...] = ()) -> list[str]:
    """Returns one label for each path: its short name where that is unique, otherwise the path.

    Raises:
      UserError: a path is given twice.
    """
    if len(set(paths)) < len(paths):
        raise UserError(f"given twice: {', '.join(sorted({path for path in paths if paths.count(path) > 1}))}")
    return [path if names.count(name) > 1 or name in taken else name for path, name in zip(paths, names, strict=True)]


def _bands(args: argparse.Namespace, generators: list):
    """Returns the bands in which the images are read: those of the generators.

    Raises:
      UserError: the generators have different numbers of channels, or `args` states another number.
    """
    from srgan_jax.images import Bands
    from srgan_jax.models import channels_of

    counts = [channels_of(params.architecture) for params in generators]
    count = (counts or [3])[0] if args.channels is None else args.channels
    if count < 1:
        raise UserError(f"--channels {count}: expected 1 or more")
    for path, found in zip(args.weights, counts, strict=True):
        if found != count:
            raise UserError(f"{path} has {found} channels, expected {count}; evaluate one number of channels at a time")
    return Bands(count, args.bits)


def _methods(paths: list[str], generators: list, scale: int) -> dict:
    """Returns bicubic, nearest and each generator by label, as functions from pairs to SR images."""
    from srgan_jax.evaluation import scoring

    methods = {
        "bicubic": lambda pairs: [scoring.bicubic(pair.lr, scale) for pair in pairs],
        "nearest": lambda pairs: [scoring.nearest(pair.lr, scale) for pair in pairs],
    }
    readable_paths = [readable(path) for path in paths]
    labels = _labels(readable_paths, [readable(_label(path)) for path in paths], (*methods, "HR"))
    for path, label, params in zip(paths, labels, generators, strict=True):
        if params.scale != scale:
            raise UserError(f"{path} has scale {params.scale}, expected {scale}; evaluate one scale at a time")
        methods[label] = functools.partial(scoring.upscale_pairs, params, finite=True)
    return methods


def _read_sets(args: argparse.Namespace, scale: int, bands) -> tuple[dict[str, str], dict]:
    """Returns the folder and the pairs of each test set, by its label."""
    from srgan_jax.degradations import DEGRADATIONS, options_for
    from srgan_jax.evaluation.pairs import degrade_pairs, read_pairs
    from srgan_jax.runtime import processes

    names_of_sets = [readable(name) for name in args.data]
    labels = _labels(names_of_sets, [readable(Path(folder).resolve().name) for folder in args.data])
    folders = dict(zip(labels, args.data, strict=True))
    options = {"convention": args.convention, "keep_gray": args.gray == "keep", "lr_name": args.lr_name, "bands": bands}
    more = options_for(args.degradation, bands) if args.degradation else {}
    sets = {
        name: read_pairs(folder, scale, select=processes.process_slice, **options) for name, folder in folders.items()
    }
    if args.degradation:
        degrade = functools.partial(DEGRADATIONS[args.degradation].degrade, scale=scale, **more)
        sets = {name: degrade_pairs(pairs, degrade) for name, pairs in sets.items()}
    return folders, sets


def _check_outputs(args: argparse.Namespace) -> None:
    """Raises UserError for options that could fail only after all images are scored."""
    if args.one_file and not args.report:
        raise UserError("--one-file needs --report DIR")
    if args.border is not None and args.border < 0:
        raise UserError(f"--border {args.border}: expected 0 or more")
    for option, folder in {"--out": args.out, "--report": args.report}.items():
        if folder and Path(folder).exists() and not Path(folder).is_dir():
            raise UserError(f"{option} {folder} is a file: expected a folder")


def evaluate(args: argparse.Namespace) -> int:
    """Prints a table of scores with its protocol, and writes the files that `args` request.

    The processes of a job divide the images among themselves; process 0 prints and writes.
    """
    import jax
    from tqdm import tqdm

    from srgan_jax import weights
    from srgan_jax.evaluation import html_report, metrics, tables
    from srgan_jax.images.paired_folders import find_test_set
    from srgan_jax.runtime import devices, processes

    processes.start_cluster(args.coordinator, args.num_processes, args.process_id)
    devices.check_platform()
    _check_outputs(args)
    if args.report and jax.process_count() > 1:
        raise UserError(f"--report needs one process, got {jax.process_count()}; omit --report or run one process")
    args.weights = [at_moment(path, args) for path in args.weights]
    generators = [weights.load(path) for path in args.weights]
    scale = args.scale
    if scale is None:
        scale = generators[0].scale if generators else 4
    if scale < 1:
        raise UserError(f"--scale {scale}: expected 1 or more")
    bands = _bands(args, generators)
    protocol = tables.Protocol(
        scale, args.convention, args.border, args.round_y, args.gray == "keep", args.degradation, bands
    )
    names = metrics.expand(args.metrics or (METRICS if bands.count == 3 else metrics.usual(bands.count)))
    metrics.check_bands(names, bands.count, "--metrics")
    metrics.find_all(names)
    methods = _methods(args.weights, generators, scale)
    if args.bootstrap == "weights" and not args.weights:
        raise UserError("--bootstrap weights compares with the first of --weights, but --weights is not given")
    folders, sets = _read_sets(args, scale, bands)
    ready = {name: find_test_set(folder, scale)[1] for name, folder in folders.items()}
    notes = protocol.lines(made=list(sets), ready={name: path.name for name, path in ready.items() if path})
    page = html_report.Report() if args.report else None
    total = len(methods) * sum(map(len, sets.values()))
    quiet = True if jax.process_index() else None  # None: no bar unless standard error is a terminal
    with tqdm(total=total, unit=" images", desc="evaluating", disable=quiet) as bar:
        rows = tables.compare(sets, methods, names, protocol, page.add if page else lambda *_: None, bar.update)
    baseline = list(methods)[2] if args.bootstrap == "weights" else args.bootstrap  # after bicubic and nearest
    if jax.process_index():
        return 0
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print(tables.text(rows, notes, baseline, width))
    if args.out:
        tables.write(args.out, rows, tables.markdown(rows, notes, baseline), notes, baseline)
        print(f"\nwritten to {args.out}: scores.md, scores.csv, pictures.csv, scores.json")
    if page:
        print(f"\nreport: {page.write(args.report, rows, notes, args.one_file)}")
    return 0


def add_evaluate(commands) -> None:
    """Adds `evaluate` to the commands of the parser."""
    sub = commands.add_parser("evaluate", help="score generators and bicubic on test sets")
    sub.add_argument(
        "--weights",
        nargs="+",
        default=[],
        metavar="W",
        help="shipped names, .safetensors or .pth files, run folders, hf://owner/name",
    )
    add_moment(sub)
    sub.add_argument(
        "--data",
        nargs="+",
        required=True,
        metavar="DIR",
        help="folder of HR images, or of HR and LRx4, GT and LQ, ...",
    )
    more = (
        "also ms_ssim, ssim_rgb, mesh, psnr and ssim (over all bands; the default for images of 2, 4 or more bands), "
        "and with ported weights niqe, lpips_alex, lpips_vgg, vgg54; texture means psnr_y, lr_psnr, v34, power_25, "
        "power_375, place, flat, phase"
    )
    sub.add_argument("--metrics", nargs="+", help=f"metrics (default: {' '.join(METRICS)}); {more}")
    sub.add_argument("--scale", type=int, help="upscaling factor (default: that of the weights, or 4)")
    sub.add_argument(
        "--convention", default="A", choices="ABC", help="how LR images are computed from HR by bicubic (default: A)"
    )
    sub.add_argument(
        "--degradation", default="", metavar="NAME", help="degradation that computes LR instead of bicubic: photo, ..."
    )
    sub.add_argument(
        "--lr-name",
        default="",
        metavar="TEMPLATE",
        help="names of LR images, such as {name}x4 (default: those of HR)",
    )
    sub.add_argument("--border", type=int, metavar="PX", help="pixels ignored at each side (default: the scale)")
    sub.add_argument(
        "--gray", default="keep", choices=["keep", "rgb"], help="gray files: score their samples, or convert to RGB"
    )
    sub.add_argument(
        "--channels", type=int, metavar="N", help="bands of the images (default: as many as the weights have, or 3)"
    )
    sub.add_argument("--bits", type=int, default=8, choices=[8, 16], help="bits per sample of the images (default: 8)")
    sub.add_argument("--round-y", action="store_true", help="round Y to 8 bits before comparing")
    sub.add_argument(
        "--bootstrap",
        choices=["bicubic", "weights"],
        help="add 95%% bootstrap intervals of the difference to bicubic, or to the first of --weights",
    )
    sub.add_argument("-o", "--out", metavar="DIR", help="write scores.md, scores.json, scores.csv and pictures.csv")
    sub.add_argument(
        "--report", metavar="DIR", help="write index.html, which compares images with sliders, and a folder of images"
    )
    sub.add_argument("--one-file", action="store_true", help="with --report: include the images in index.html")
    add_cluster(sub)
    sub.set_defaults(run=evaluate)
