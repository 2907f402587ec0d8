"""Plots of a run's numbers and of images, by matplotlib (`pip install "srgan-jax[examples]"`)."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from srgan_jax.runtime.errors import MissingFileError, UserError, did_you_mean

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Record = Mapping[str, Any]  # a line of metrics.jsonl: "stage", "step", "seconds", and numbers by name
NOT_NUMBERS = ("stage", "step", "seconds")
PANEL_INCHES, IMAGE_INCHES = (5.0, 2.6), 3.0  # width and height of a panel; side of an image


def plot_metrics(path_or_records: str | Path | Iterable[Record], keys: Sequence[str] | None = None) -> "Figure":
    """Draws the numbers of a training run over its updates.

    The figure has a column for each stage. Its rows are the generator's loss with its weighted terms, the
    discriminator's loss, the discriminator's accuracies (fractions, 0 to 1), and the validation PSNR in dB; rows that
    the run has no numbers for are left out. Losses are drawn on a logarithmic axis where all their values are positive.

    Args:
      path_or_records: the folder of a run, its `metrics.jsonl`, or the records of such a file: mappings with "stage",
        "step" (updates made in that stage) and numbers by name, None for a number that was not finite.
      keys: names of numbers, such as "val_psnr_y"; each gets a row of its own, in place of the rows above.

    Returns:
      A figure of matplotlib that pyplot does not know: show it by returning it from a notebook's cell, or call
      `figure.savefig(name)`. A line's x data are the updates, its y data the numbers, NaN for those not finite.

    Raises:
      MissingFileError: there is no such file.
      UserError: matplotlib is not installed, the file is damaged, there are no records, or none has one of the keys.
    """
    figure_class = _figure_class()
    is_path = isinstance(path_or_records, str | Path)
    records = read_records(Path(path_or_records)) if is_path else list(path_or_records)
    for number, record in enumerate(records, start=1):
        if not isinstance(record, Mapping) or "stage" not in record or "step" not in record:
            raise UserError(f"record {number}: expected a mapping with 'stage' and 'step', got {record!r}")
    names = list(dict.fromkeys(name for record in records for name in record if name not in NOT_NUMBERS))
    if not names:
        raise UserError(f"no numbers to plot in {path_or_records if is_path else 'the records'}")
    panels = default_panels(names) if keys is None else {key: [_known(key, names)] for key in keys}
    if not panels:
        raise UserError(f"expected keys that the run has, got {keys}; it has {', '.join(names)}")
    stages = list(dict.fromkeys(record["stage"] for record in records))
    width, height = PANEL_INCHES
    figure = figure_class(figsize=(width * len(stages), height * len(panels)), layout="constrained")
    grid = figure.subplots(len(panels), len(stages), squeeze=False, sharex="col")
    for row, (label, shown) in zip(grid, panels.items(), strict=True):
        for axes, stage in zip(row, stages, strict=True):
            _draw(axes, [record for record in records if record["stage"] == stage], shown)
            axes.set_ylabel(label)
    for axes, stage in zip(grid[0], stages, strict=True):
        axes.set_title(stage)
    for axes in grid[-1]:
        axes.set_xlabel("update")
    return figure


def show_images(images: Sequence[Any], titles: Sequence[str] = ()) -> "Figure":
    """Draws images side by side, each pixel as a square of one colour.

    Args:
      images: arrays of NumPy or JAX, `[H, W, 3]` RGB, `[H, W, 4]` with alpha, `[H, W, 1]` or `[H, W]` gray; uint8, or
        float in [0, 1] (what lies outside is clipped). They may differ in size; all are drawn equally high.
      titles: one for each image, or none.

    Returns:
      A figure of matplotlib that pyplot does not know, with one axes for each image.

    Raises:
      UserError: matplotlib is not installed, an image has another shape or dtype, or the titles are fewer or more.
    """
    figure_class = _figure_class()
    arrays = [_checked(image, index) for index, image in enumerate(images)]
    if not arrays:
        raise UserError("expected one image or more, got none")
    if titles and len(titles) != len(arrays):
        raise UserError(f"expected a title for each of {len(arrays)} images, got {len(titles)} titles")
    ratios = [array.shape[1] / array.shape[0] for array in arrays]
    figure = figure_class(figsize=(IMAGE_INCHES * sum(ratios), IMAGE_INCHES + 0.3), layout="constrained")
    grid = figure.subplots(1, len(arrays), squeeze=False, width_ratios=ratios)[0]
    for axes, array, title in zip(grid, arrays, titles or [""] * len(arrays), strict=True):
        axes.imshow(array, cmap="gray", vmin=0, vmax=255 if array.dtype == np.uint8 else 1, interpolation="nearest")
        axes.set_title(title)
        axes.axis("off")
    return figure


def _figure_class() -> "type[Figure]":
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UserError('plots need matplotlib: pip install "srgan-jax[examples]"') from None
    return Figure


def read_records(path: Path) -> list[Record]:
    """Returns the records of a run's file; a last line that a kill cut off is left out."""
    file = path / "metrics.jsonl" if path.is_dir() else path
    if not file.is_file():
        raise MissingFileError(f"no {file}; expected the folder of a run, or its metrics.jsonl")
    lines = file.read_bytes().splitlines()
    return parse_records(lines if not lines or _is_record(lines[-1]) else lines[:-1], file)


def _is_record(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line.decode(errors="replace")), dict)
    except (ValueError, RecursionError):
        return False


def parse_records(lines: Iterable[bytes], file: Path, first: int = 1) -> list[Record]:
    """Returns the records of lines of a file, the first of which has the number `first`; raises UserError."""
    records = []
    for number, data in enumerate(lines, start=first):
        line = data.decode(errors="replace")
        try:
            record = json.loads(line)
            if not isinstance(record, dict):
                raise ValueError("no object")
            records.append(record)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{file}, line {number}: expected a JSON object, got {line[:40]!r}") from error
    return records


def default_panels(names: Sequence[str]) -> dict[str, list[str]]:
    """Returns the rows of a figure: the label of the axis, and the numbers in it."""
    discriminator = [name for name in names if f"{name}_unweighted" in names and name.startswith("d_")]
    terms = [name for name in names if f"{name}_unweighted" in names and name not in discriminator]
    panels = {
        "generator's loss": [name for name in ("loss", *terms) if name in names],
        "discriminator's loss": discriminator or [name for name in ("d_loss",) if name in names],
        "discriminator's accuracy": [name for name in names if name.startswith("d_accuracy")],
        "validation PSNR (dB)": [name for name in names if name.startswith("val_psnr")],
    }
    return {label: shown for label, shown in panels.items() if shown}


def _known(key: str, names: Sequence[str]) -> str:
    if key not in names:
        raise UserError(f"no {key!r} in the records; valid: {', '.join(names)}{did_you_mean(key, names)}")
    return key


def _draw(axes: "Axes", records: Sequence[Record], shown: Sequence[str]) -> None:
    """Draws the numbers of one stage; hides the axes where it has none of them."""
    drawn: list[float] = []
    for name in shown:
        points = [(record["step"], record[name]) for record in records if name in record]
        values = [math.nan if value is None else float(value) for _, value in points]
        if not points:
            continue
        style = "--" if "loss" in shown and name != "loss" else "-"  # a term is a part of the loss
        axes.plot([step for step, _ in points], values, style, label=name, marker="." if len(points) < 30 else "")
        drawn += [value for value in values if math.isfinite(value)]
    if not drawn:
        axes.set_visible(False)
        return
    if min(drawn) > 0 and any(name.endswith("loss") for name in shown):
        axes.set_yscale("log")
    if all(name.startswith("d_accuracy") for name in shown):
        axes.set_ylim(-0.05, 1.05)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")


def _checked(image: Any, index: int) -> np.ndarray:
    array = np.asarray(image)
    gray = array[..., 0] if array.ndim == 3 and array.shape[-1] == 1 else array
    is_image = gray.ndim == 2 or (gray.ndim == 3 and gray.shape[-1] in (3, 4))
    if not is_image or 0 in gray.shape:
        raise UserError(f"image {index}: expected [H, W, 3], [H, W, 4], [H, W, 1] or [H, W], got {array.shape}")
    if gray.dtype != np.uint8 and not jnp.issubdtype(gray.dtype, jnp.floating):
        raise UserError(f"image {index}: expected uint8, or float in [0, 1], got {gray.dtype}")
    return gray if gray.dtype == np.uint8 else np.clip(gray.astype(np.float32), 0, 1)
