"""The command `srgan-jax`: what can be done without writing Python.

srgan-jax upscale IN ... -o OUT               pictures and folders of pictures, enlarged
srgan-jax info W                              the model card of a generator
srgan-jax prepare FOLDER --out data/NAME      a folder of pictures as a tfds data set
srgan-jax prepare celeb_a                     a data set of the tfds catalogue, downloaded
srgan-jax evaluate --weights W --data DIR     a table of scores, bicubic beside the given generators
srgan-jax import FILE --from NAME             a published PyTorch generator as our .safetensors
srgan-jax export W --to onnx                  a generator for other runtimes
"""

import argparse
import functools
import io
import logging
import os
import sys
from pathlib import Path

from srgan_jax.cli_pictures import add_cluster, add_export, add_info, add_upscale
from srgan_jax.errors import UserError, lookup

COMPILING = ("upscale", "evaluate")  # commands that look for what an earlier start compiled


def prepare(args: argparse.Namespace) -> int:
    """Writes a data set and lists what was left out of it."""
    from tqdm import tqdm

    from srgan_jax import images
    from srgan_jax.data import builder

    if not os.path.isdir(args.source):
        if args.out or os.sep in args.source.split("/")[0] or args.source.startswith((".", "/", "~")):
            raise UserError(f"no such folder: {args.source}")
        logging.getLogger("urllib3").setLevel(logging.ERROR)  # a line for each retry would hide what is the matter
        builder.prepare_named(args.source, args.data_dir or None)
        print(f"{args.source} is prepared; train with --config.data.dataset={args.source}")
        return 0
    if not args.out:
        raise UserError(f"say where the data set goes: srgan-jax prepare {args.source} --out data/NAME")
    found = len(images.find_pictures(args.source))
    with tqdm(total=found, unit=" pictures", desc="preparing", disable=not found) as bar:
        skipped = builder.prepare(args.source, args.out, min_side_px=args.min_side, on_picture=bar.update)
    for name, reason in skipped.items():
        print(f"skipped {name}: {reason}")
    for name, kind in builder.read_converted(args.out).items():
        print(f"converted to 8-bit RGB, {name}: {kind}")
    print(
        f"{found - len(skipped)} pictures prepared, {len(skipped)} skipped; train with --config.data.dataset={args.out}"
    )
    return 0


def _label(path: str) -> str:
    name = Path(path).resolve()
    return name.parent.name if name.name == "generator.safetensors" else name.name.removesuffix(".safetensors")


def _labels(paths: list[str], names: list[str], taken: tuple[str, ...] = ()) -> list[str]:
    """Short names where they tell the paths apart, else the paths; the same path twice is a mistake."""
    if len(set(paths)) < len(paths):
        raise UserError(f"given twice: {', '.join(sorted({path for path in paths if paths.count(path) > 1}))}")
    return [path if names.count(name) > 1 or name in taken else name for path, name in zip(paths, names, strict=True)]


def _methods(paths: list[str], scale: int) -> dict:
    """Bicubic, nearest and each generator, as functions from pairs to SR pictures."""
    from srgan_jax import evaluate, inference, weights

    methods = {
        "bicubic": lambda pairs: [evaluate.bicubic(pair.lr, scale) for pair in pairs],
        "nearest": lambda pairs: [evaluate.nearest(pair.lr, scale) for pair in pairs],
    }
    labels = _labels(paths, [_label(path) for path in paths], (*methods, "HR"))
    for path, label in zip(paths, labels, strict=True):
        params = weights.load(path)
        if params.scale != scale:
            raise UserError(f"{path} enlarges {params.scale} times, expected {scale}; evaluate one scale at a time")
        upscale = functools.partial(inference.upscale_canvas, params)
        methods[label] = functools.partial(evaluate.upscale_all, upscale)
    return methods


def evaluate_(args: argparse.Namespace) -> int:
    """Prints a table of scores with its protocol, and writes it where asked; the processes of a job share the work."""
    import jax

    from srgan_jax import comparison, devices, evaluate, metrics, report, weights
    from srgan_jax.degradations import DEGRADATIONS

    devices.start_cluster(args.coordinator, args.num_processes, args.process_id)
    if args.report and jax.process_count() > 1:
        raise UserError("--report shows pictures of all processes: leave it out, or run one process")
    scale = args.scale
    if scale is None:
        scale = weights.load(args.weights[0]).scale if args.weights else 4
    if scale < 1:
        raise UserError(f"--scale {scale}: expected 1 or more")
    protocol = comparison.Protocol(
        scale, args.convention, args.border, args.round_y, args.gray == "keep", args.degradation
    )
    for name in args.metrics:
        metrics.find(name)
    if args.degradation:
        lookup(DEGRADATIONS, args.degradation, "degradation")
    methods = _methods(args.weights, scale)
    if args.bootstrap == "weights" and not args.weights:
        raise UserError("--bootstrap weights compares with the first of --weights, and there are none")
    labels = _labels(args.data, [Path(folder).resolve().name for folder in args.data])
    folders = dict(zip(labels, args.data, strict=True))
    sets = {
        name: evaluate.read_pairs(folder, scale, args.convention, protocol.keep_gray, mine=devices.process_share)
        for name, folder in folders.items()
    }
    if args.degradation:
        degrade = functools.partial(DEGRADATIONS[args.degradation].degrade, scale=scale)
        sets = {name: evaluate.degrade_pairs(pairs, degrade) for name, pairs in sets.items()}
    ready = [name for name, folder in folders.items() if (Path(folder) / f"LRx{scale}").is_dir()]
    notes = protocol.lines(made=[name for name in sets if name not in ready], ready=ready)
    page = report.Report() if args.report else None
    rows = comparison.compare(sets, methods, args.metrics, protocol, page.add if page else lambda *_: None)
    baseline = list(methods)[2] if args.bootstrap == "weights" else args.bootstrap  # after bicubic and nearest
    if jax.process_index():
        return 0
    table = comparison.markdown(rows, notes, baseline)
    print(table)
    if args.out:
        comparison.write(args.out, rows, table, notes, baseline)
        print(f"\nwritten to {args.out}: scores.md, scores.csv, pictures.csv, scores.json")
    if page:
        print(f"\nreport: {page.write(args.report, rows, notes)}")
    return 0


def import_(args: argparse.Namespace) -> int:
    """Writes a published generator as one of ours."""
    from srgan_jax import importers, weights

    imported = importers.import_generator(args.file, args.source)
    out = Path(args.out or Path(args.file).with_suffix(".safetensors").name)
    if out.exists() and not args.overwrite:
        raise UserError(f"{out} exists; choose another --out, or add --overwrite")
    out.parent.mkdir(parents=True, exist_ok=True)
    weights.save(out, imported, {"source": args.source, "file": Path(args.file).name})
    fields = imported.architecture
    print(f"{out}: {fields['name']}, {fields['blocks']} blocks of {fields['width']} channels, x{fields['scale']}")
    return 0


def _add_prepare(commands) -> None:
    sub = commands.add_parser("prepare", help="turn a folder of pictures into a training data set")
    sub.add_argument("source", help="folder of pictures, or of pairs in hr/ and lr/; or the name of a tfds data set")
    sub.add_argument("--out", help="folder of the data set, for --config.data.dataset")
    sub.add_argument("--min-side", type=int, default=96, metavar="PX", help="skip smaller pictures (default: 96)")
    sub.add_argument("--data-dir", help="where tfds keeps data sets by name")
    sub.set_defaults(run=prepare)


def _add_evaluate(commands) -> None:
    names = ["psnr_y", "ssim_y", "ssim_daala", "psnr_rgb"]
    sub = commands.add_parser("evaluate", help="score generators on test sets, beside bicubic")
    sub.add_argument("--weights", nargs="+", default=[], metavar="W", help="shipped names, files, run folders")
    sub.add_argument("--data", nargs="+", required=True, metavar="DIR", help="HR pictures, or HR and LRx4 sub-folders")
    more = "also ms_ssim, ssim_rgb, and with weights of their own niqe, lpips_alex, lpips_vgg, vgg54"
    sub.add_argument("--metrics", nargs="+", default=names, help=f"default: {' '.join(names)}; {more}")
    sub.add_argument("--scale", type=int, help="default: that of the weights, or 4")
    sub.add_argument("--convention", default="A", choices="ABC", help="of LR images that are made (default: A)")
    sub.add_argument("--degradation", default="", metavar="NAME", help="LR made by it instead: photo, ...")
    sub.add_argument("--border", type=int, metavar="PX", help="left out at each side (default: the scale)")
    sub.add_argument(
        "--gray", default="keep", choices=["keep", "rgb"], help="gray files: samples as they are, or as RGB"
    )
    sub.add_argument("--round-y", action="store_true", help="round Y to 8 bits before comparing")
    sub.add_argument(
        "--bootstrap", choices=["bicubic", "weights"], help="95%% interval of the difference to it (weights: the first)"
    )
    sub.add_argument("--out", metavar="DIR", help="write scores.md, scores.json and scores.csv")
    sub.add_argument("--report", metavar="DIR", help="write index.html with sliders between the pictures")
    add_cluster(sub)
    sub.set_defaults(run=evaluate_)


def _add_import(commands) -> None:
    sub = commands.add_parser("import", help="turn a published PyTorch generator into a .safetensors")
    sub.add_argument("file", help="PyTorch checkpoint (read safely) or .safetensors")
    sub.add_argument(
        "--from", dest="source", required=True, help="srgan5, lornatang, eriklindernoren, basicsr-msrresnet"
    )
    sub.add_argument("--out", help="default: the file's name with .safetensors, here")
    sub.add_argument("--overwrite", action="store_true")
    sub.set_defaults(run=import_)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="srgan-jax", description="Super-resolution with SRGAN, in JAX.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (add_upscale, add_info, _add_evaluate, _add_prepare, _add_import, add_export):
        add(commands)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Runs a command; 0 when it did what was asked, 2 when it was asked wrongly."""
    for stream in (sys.stdout, sys.stderr):  # a file's name may hold bytes that no text has
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    args = _parser().parse_args(argv)
    try:
        if args.command in COMPILING:
            from srgan_jax import compilation

            compilation.keep_programs(say=lambda line: print(line, file=sys.stderr))
        return args.run(args)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
