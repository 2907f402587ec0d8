"""Generates the contents of RESULTS.md: the tables and captions between its markers, and its figures.

    python scripts/results.py tables --scores results/test results/files
    python scripts/results.py recipes runs/base runs/mse runs/rescale
    python scripts/results.py curves compact_x4=runs/compact    # keeps the curves of other runs, .github/curves.json
    python scripts/results.py crops --benchmarks BENCHMARKS --weights weights/srgan5_x4.safetensors compact_x4 photo_x4
    python scripts/results.py photos rocket.jpg china.jpg
    python scripts/results.py photos SIX FILES --figure six --weights photo_x4 srgan_x4 RealESRGAN.pth

The scores come from `srgan-jax evaluate ... --out`, the facts about each generator from the header of its file, and the
comparisons of recipes from their run folders.
"""

import argparse
import functools
import json
import re
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from flax.traverse_util import flatten_dict

import srgan_jax
from srgan_jax import defaults, images, inference, weights
from srgan_jax.config.renamed import translate_keys
from srgan_jax.evaluation import pairs, scoring
from srgan_jax.evaluation.tables import format_score
from srgan_jax.runtime.errors import MissingFileError, UserError
from srgan_jax.training import previews
from srgan_jax.weights import pretrained

ROOT = Path(__file__).parents[1]
FIGURES = Path(".github")  # beside the page
PAPER = {  # arXiv 1609.04802, tables 1 and 2: PSNR-Y and daala's SSIM
    "Set5": {"bicubic": (28.43, 0.8211), "SRResNet-MSE": (32.05, 0.9019), "SRGAN-VGG54": (29.40, 0.8472)},
    "Set14": {"bicubic": (25.99, 0.7486), "SRResNet-MSE": (28.49, 0.8184), "SRGAN-VGG54": (26.02, 0.7397)},
    "BSD100": {"bicubic": (25.94, 0.6935), "SRResNet-MSE": (27.58, 0.7620), "SRGAN-VGG54": (25.16, 0.6688)},
}
CROPS = {  # top and left of the crop
    "Set5/butterfly": (90, 60),
    "Set5/woman": (4, 24),
    "Set14/comic": (70, 60),
    "Set14/zebra": (70, 150),
    "BSD100/img_007": (90, 170),
}
CROP_PX = 112  # HR pixels; shown at twice the size


class PhotoFigure(NamedTuple):
    """A figure of crops of photographs, shown at four times their size.

    Attributes:
      file: its name.
      size: height and width of the crops in input pixels.
      places: top and left of the crop by the name of a photograph; others are cut in the centre.
    """

    file: str
    size: tuple[int, int]
    places: dict[str, tuple[int, int]]


PHOTO_FIGURES = {
    "photos": PhotoFigure("photos.png", (90, 120), {"rocket.jpg": (325, 265), "china.jpg": (60, 150)}),
    "six": PhotoFigure("six.jpg", (72, 96), {
        "Alpine-lake.jpg": (24, 480), "astronaut.jpg": (62, 170), "page.jpg": (30, 10), "173.jpg": (600, 600),
        "sean-afnan-244576.jpg": (740, 760), "rocket.jpg": (110, 540),
    }),
}  # fmt: skip
MARGIN_PX = 32  # of input around a crop, so that its borders are those of the whole image
FACTS = ("updates", "started_from", "batch", "degradation", "wall_time", "hardware", "data", "command", "revision",
         "packages")  # fmt: skip


def fill(page: Path, name: str, text: str) -> None:
    """Replaces the text between `<!-- NAME -->` and `<!-- /NAME -->`.

    Raises:
      UserError: the page doesn't contain the markers exactly once.
    """
    before = page.read_text()
    pattern = rf"(<!-- {name} -->\n).*?(<!-- /{name} -->)"
    after, count = re.subn(pattern, lambda found: f"{found[1]}{text.strip()}\n{found[2]}", before, flags=re.DOTALL)
    if count != 1:
        raise UserError(f"{page}: expected the markers <!-- {name} --> and <!-- /{name} --> once, found {count}")
    page.write_text(after)


# ---------------------------------------------------------------------------------------------- tables


def score_table(scores: dict) -> str:
    """Returns a Markdown table with a line for each set and method, and the scores of the paper after each set."""
    names = [name for name in scores["means"][0] if name not in ("set", "method")]
    lines = [f"| set | method | {' | '.join(names)} |", "| --- " * (2 + len(names)) + "|"]
    rows = [row for row in scores["means"] if row["method"] != "nearest"]
    for row, after in zip(rows, [*rows[1:], {"set": None}], strict=True):
        cells = [format_score(name, row[name]) for name in names]
        lines.append(f"| {row['set']} | {row['method']} | {' | '.join(cells)} |")
        if after["set"] != row["set"] and {"psnr_y", "ssim_daala"} <= set(names):
            for method, (psnr, ssim) in PAPER.get(row["set"], {}).items():
                printed = {"psnr_y": f"{psnr:.2f}", "ssim_daala": f"{ssim:.4f}"}
                cells = [printed.get(name, "") for name in names]
                lines.append(f"| {row['set']} | *paper: {method}* | {' | '.join(cells)} |")
    return "\n".join([*lines, "", *(f"- {note}" for note in scores["protocol"])])


def facts_table() -> str:
    """Returns a Markdown table of how each shipped generator was trained, from the headers of their files."""
    headers = {name: weights.read_header(name) for name in pretrained.names()}
    if not headers:
        raise UserError(f"no shipped generator in {pretrained.FOLDER}; create them with scripts/ship.py")
    lines = [f"| | {' | '.join(headers)} |", "| --- " * (1 + len(headers)) + "|"]
    for key in FACTS + tuple(sorted({key for header in headers.values() for key in header if "validation_" in key})):
        cells = [header.get(key, "") for header in headers.values()]
        cells = [f"`{cell}`" if cell and key == "command" else cell for cell in cells]
        if any(cells):
            lines.append(f"| {key.replace('_', ' ')} | {' | '.join(cells)} |")
    return "\n".join(lines)


def tables(args: argparse.Namespace) -> None:
    """Writes the table of the generators, and the table of each folder of scores between the markers of its name."""
    fill(args.page, "generators", facts_table())
    for folder in args.scores:
        file = folder / "scores.json"
        if not file.is_file():
            raise MissingFileError(f"no such file: {file}; create it with srgan-jax evaluate ... --out {folder}")
        fill(args.page, folder.name, score_table(json.loads(file.read_text())))


# --------------------------------------------------------------------------------------------- recipes


def recipe(config: dict) -> dict:
    """Returns the keys of a config that affect the result: without log and save intervals and stages that don't run."""
    config = translate_keys(config)
    stages = {name: config["stages"][name] for name in config["stage_names"]}
    keys = flatten_dict(config | {"stages": stages}, sep=".")
    return {key: value for key, value in keys.items() if not key.endswith("_every_steps")}


def recipe_table(runs: list[Path]) -> str:
    """Returns a Markdown table with the last validation of each run and its changes relative to the first run.

    A key that did not exist yet when the first run was made counts as its default.
    """
    configs, validations = [], []
    for run in runs:
        try:
            config, rows = (run / "config.json").read_text(), (run / "metrics.jsonl").read_text().splitlines()
        except FileNotFoundError as error:
            raise MissingFileError(f"{run} is not a run folder: no {Path(error.filename).name}") from None
        configs.append(recipe(json.loads(config)))
        validated = [row for row in map(json.loads, rows) if "val_psnr_y" in row and "val_ssim_y" in row]
        if not validated:
            raise UserError(f"{run}: expected validations with psnr_y and ssim_y, found none in metrics.jsonl")
        validations.append(validated[-1])
    if len(updates := {row["step"] for row in validations}) > 1:
        raise UserError(f"expected runs of the same length, got validations after {sorted(updates)} updates")
    lines = ["| change | psnr_y | gain | ssim_y | gain |", "| --- | --- | --- | --- | --- |"]
    first = recipe(json.loads(defaults.get_config().to_json())) | configs[0]
    for config, row in zip(configs, validations, strict=True):
        changes = [f"`{key}={value}`" for key, value in config.items() if value != first.get(key)]
        cells = [", ".join(changes) or "none"]
        for name, form in (("psnr_y", ".3f"), ("ssim_y", ".4f")):
            difference = round(row[f"val_{name}"] - validations[0][f"val_{name}"], int(form[1])) + 0.0  # no -0.0
            cells += [f"{row[f'val_{name}']:{form}}", f"{difference:+{form}}" if changes else ""]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def recipes(args: argparse.Namespace) -> None:
    """Writes the comparison of short runs that differ in one change each."""
    fill(args.page, "recipes", recipe_table(args.runs))


# ---------------------------------------------------------------------------------------------- curves


CURVES = {"validation PSNR-Y, dB": "val_psnr_y", "validation v34": "val_v34"}


def read_curves(run: Path, points: int = 60) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Returns, for each stage, points (update, value) of the loss, averaged over intervals, and of the scores."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    stages = {}
    for stage in dict.fromkeys(row["stage"] for row in rows):
        of_stage = [row for row in rows if row["stage"] == stage]
        losses = [(row["step"], row["loss"]) for row in of_stage if row.get("loss") is not None]
        if len(losses) < 2:
            continue  # the run ended here: no curve
        parts = np.array_split(np.array(losses), min(points, len(losses)))
        stages[stage] = {"training loss": [tuple(part.mean(axis=0).tolist()) for part in parts]}
        for title, key in CURVES.items():
            if scores := [(row["step"], row[key]) for row in of_stage if row.get(key)]:
                stages[stage][title] = scores
    return stages


def panel(title: str, points: list[tuple[float, float]], left: int, top: int) -> str:
    """Returns a curve with its axes, 400 x 220, as SVG."""
    x, y = np.array(points, float).T
    low, high = y.min(), y.max() if y.max() > y.min() else y.min() + 1
    right, bottom = left + 330, top + 160
    place = zip(left + 330 * x / x.max(), bottom - 160 * (y - low) / (high - low), strict=True)
    digits = max(0, 1 - int(np.floor(np.log10(high - low))))  # enough that the labels differ
    text = f'<text x="{left}" y="{top - 10}">{title}</text>'
    for fraction in (0.0, 0.5, 1.0):
        value, update = low + fraction * (high - low), fraction * x.max()
        text += f'<text x="{left - 6}" y="{bottom - 160 * fraction + 4}" text-anchor="end">{value:.{digits}f}</text>'
        text += f'<text x="{left + 330 * fraction}" y="{bottom + 16}" text-anchor="middle">{update:,.0f}</text>'
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in place)
    return (
        f'<path d="M{left} {top}V{bottom}H{right}" fill="none" stroke="#888"/>{text}'
        f'<polyline points="{line}" fill="none" stroke="#2b6cb0" stroke-width="1.5"/>'
    )


def curves(args: argparse.Namespace) -> None:
    """Draws the loss and validation scores of each stage of the runs as one SVG, with the runs of earlier calls."""
    known = args.page.parent / FIGURES / "curves.json"
    kept = json.loads(known.read_text()) if known.exists() else {}
    for name, run in (pair.split("=", 1) for pair in args.runs):
        stages = read_curves(Path(run))
        kept |= {name if len(stages) == 1 else f"{name}, {stage}": kinds for stage, kinds in stages.items()}
    known.write_text(json.dumps(kept) + "\n")
    panels = [
        panel(f"{name}: {kind}", points, 70 + 420 * column, 40 + 230 * row)
        for row, (name, kinds) in enumerate(kept.items())
        for column, (kind, points) in enumerate((kind, points) for kind, points in kinds.items() if points)
    ]
    size = (20 + 420 * max(map(len, kept.values())), 20 + 230 * len(kept))
    (args.page.parent / FIGURES / "curves.svg").write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]} {size[1]}" font-family="sans-serif" '
        f'font-size="11"><rect width="{size[0]}" height="{size[1]}" fill="#fff"/>{"".join(panels)}</svg>\n'
    )


# --------------------------------------------------------------------------------------------- figures


def crops(args: argparse.Namespace) -> None:
    """Draws crops of five test images with every method, side by side."""
    generators = {Path(path).name.removesuffix(".safetensors"): srgan_jax.load(path) for path in args.weights}
    rows = []
    for name, (top, left) in CROPS.items():
        set_name, image_name = name.split("/")
        pair = next(p for p in pairs.read_pairs(args.benchmarks / set_name, 4) if p.name == image_name)
        results = [scoring.bicubic(pair.lr, 4)]
        for params in generators.values():
            upscale = functools.partial(inference.upscale_canvas, params)
            results += scoring.upscale_all(upscale, [pair])
        cropped = [image[top : top + CROP_PX, left : left + CROP_PX] for image in (*results, pair.hr)]
        rows.append([scoring.nearest(image, 2) for image in cropped])
    previews.write_sheet(args.page.parent / FIGURES / "crops.png", rows)
    shown = ", ".join(name.split("/")[1] for name in CROPS)
    fill(args.page, "crops", f"From left to right: bicubic, {', '.join(generators)}, original. Rows: {shown}.")


def photos(args: argparse.Namespace) -> None:
    """Draws crops of photographs, upscaled without downscaling them first, by bicubic and by generators."""
    generators = {Path(path).name.split(".")[0]: srgan_jax.load(path) for path in args.weights}
    figure, rows = PHOTO_FIGURES[args.figure], []
    height, width = figure.size
    for path in args.files:
        image = images.read_rgb(path)
        centre = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
        top, left = figure.places.get(Path(path).name, centre)
        above, before = min(top, MARGIN_PX), min(left, MARGIN_PX)
        window = image[top - above : top + height + MARGIN_PX, left - before : left + width + MARGIN_PX]
        crop = np.s_[4 * above : 4 * (above + height), 4 * before : 4 * (before + width)]
        results = [scoring.bicubic(window, 4)]
        results += [np.asarray(srgan_jax.upscale(params, window)) for params in generators.values()]
        rows.append([result[crop] for result in results])
    previews.write_sheet(args.page.parent / FIGURES / figure.file, rows)
    names = ", ".join(Path(path).name for path in args.files)
    fill(args.page, args.figure, f"Bicubic, {', '.join(generators)}: {names}.")


def main(argv: list[str] | None = None) -> int:
    """Runs a command and returns the exit status: 0 for success, 2 for an error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=Path, default=ROOT / "RESULTS.md")
    commands = parser.add_subparsers(required=True)
    sub = commands.add_parser("tables", help="tables of the generators and of scores from srgan-jax evaluate --out")
    sub.add_argument("--scores", nargs="+", type=Path, default=[], metavar="DIR")
    sub.set_defaults(run=tables)
    sub = commands.add_parser("recipes", help="comparison of short runs, the unchanged one first")
    sub.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    sub.set_defaults(run=recipes)
    sub = commands.add_parser("curves", help="curves of the loss and validation scores of runs")
    sub.add_argument("runs", nargs="+", metavar="NAME=RUN")
    sub.set_defaults(run=curves)
    sub = commands.add_parser("crops", help="crops of five test images")
    sub.add_argument("--benchmarks", type=Path, required=True, help="folder of Set5, Set14, BSD100")
    sub.add_argument("--weights", nargs="+", required=True)
    sub.set_defaults(run=crops)
    sub = commands.add_parser("photos", help="crops of photographs")
    sub.add_argument("files", nargs="+")
    sub.add_argument("--weights", nargs="+", default=["photo_x4"])
    sub.add_argument("--figure", default="photos", choices=list(PHOTO_FIGURES))
    sub.set_defaults(run=photos)
    args = parser.parse_args(argv)
    try:
        args.run(args)
    except (UserError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
