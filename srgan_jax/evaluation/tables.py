"""Comparison of several methods on several test sets: scores, tables, and the evaluation protocol."""

import csv
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from srgan_jax.evaluation import metrics, scoring, text_table
from srgan_jax.evaluation.pairs import Pair
from srgan_jax.images import RGB, Bands
from srgan_jax.runtime import atomic, processes

BORDERS = {
    "A": "borders clamped, rounded to {bits} bits between the passes",
    "B": "borders mirrored, rounded to {bits} bits between the passes",
    "C": "borders mirrored, not rounded between the passes",
}
FORMULAS = ("=", "+", "-", "@", "\t", "\r")  # beginnings of a cell that spreadsheets execute
Method = Callable[[Sequence[Pair]], list[np.ndarray]]  # pairs -> SR images, uint8


class Row(NamedTuple):
    """The scores of one method on one image."""

    set: str
    method: str
    picture: str
    scores: scoring.Scores


class Protocol(NamedTuple):
    """The evaluation protocol: everything besides the images that decides the scores."""

    scale: int
    convention: str = "A"
    border: int | None = None  # None: the scale
    round_y: bool = False
    keep_gray: bool = True
    degradation: str = ""  # name of the degradation that computes LR of all sets; "" for bicubic
    bands: Bands = RGB  # of the images

    def lines(self, made: Sequence[str] = (), ready: Mapping[str, str] = MappingProxyType({})) -> list[str]:
        """Returns a description of the protocol, a list of notes below a table.

        Args:
          made: names of the sets; LR of those that are not in `ready` was computed.
          ready: the folder of LR images of each set that contains them.
        """
        by_folder = {folder: [name for name in ready if ready[name] == folder] for folder in ready.values()}
        lr = [f"LR of {', '.join(names)}: the files of {folder}" for folder, names in by_folder.items()]
        if self.degradation:
            lr = [f"LR: degradation {self.degradation}, random key of each image derived from its name"]
        elif computed := [name for name in made if name not in ready]:
            border = BORDERS[self.convention].format(bits=self.bands.bits)
            lr += [f"LR of {', '.join(computed)}: MATLAB bicubic, convention {self.convention} ({border})"]
        return [
            f"x{self.scale}; HR cropped at the right and bottom to multiples of {self.scale}",
            *lr,
            f"{self.scale if self.border is None else self.border} px ignored at each border; SR rounded to "
            f"{self.bands.bits} bits",
            self._colours(),
            "bicubic: MATLAB's imresize without rounding between the passes; scores are means over images",
        ]

    def _colours(self) -> str:
        if self.bands.count != 3:
            return f"read as {self.bands}, whose samples are scored as they are"
        gray = "samples scored without conversion" if self.keep_gray else "read as RGB, converted to Y"
        rounding = "rounded to 8 bits" if self.round_y else "not rounded"
        read = "" if self.bands == RGB else f"read as {self.bands}; "
        return f"{read}Y is MATLAB's (BT.601, 16 to 235), {rounding}; gray files: {gray}"


def compare(
    sets: Mapping[str, Sequence[Pair]],
    methods: Mapping[str, Method],
    names: Sequence[str],
    protocol: Protocol,
    on_result: Callable[[str, Pair, str, np.ndarray], Any] = lambda *_: None,
    on_image: Callable[[], Any] = lambda: None,
) -> list[Row]:
    """Scores every method on every image.

    Args:
      sets: pairs of each test set, by name.
      methods: functions from pairs to SR images, by name.
      names: names in `evaluation.metrics.METRICS`.
      protocol: gives the border and the rounding.
      on_result: called with the name of the set, the pair, the method and the SR image, for each of them.
      on_image: called after each image of each method.

    Returns:
      The rows of all processes. Each process scores its `processes.process_slice` of the pairs.
    """
    rows = []
    for set_name, pairs in sets.items():
        for method, upscale in methods.items():
            results = upscale(pairs) if pairs else []
            options = {"border": protocol.border, "round_y": protocol.round_y, "on_image": on_image}
            scores = scoring.score(pairs, results, names, **options) if pairs else []
            local = [(pair.name, values) for pair, values in zip(pairs, scores, strict=True)]
            rows += [Row(set_name, method, name, values) for name, values in processes.merge_slices(local)]
            for pair, result in zip(pairs, results, strict=True):
                on_result(set_name, pair, method, result)
    return rows


def means(rows: Sequence[Row]) -> dict[tuple[str, str], dict[str, float]]:
    """Returns the mean of each metric for each (set, method), in the order of the rows."""
    groups: dict[tuple[str, str], list[scoring.Scores]] = {}
    for row in rows:
        groups.setdefault((row.set, row.method), []).append(row.scores)
    return {key: scoring.mean(scores) for key, scores in groups.items()}


def intervals(rows: Sequence[Row], baseline: str) -> dict[tuple[str, str], dict[str, tuple[float, float]]]:
    """Returns the 95 % interval of the mean difference to `baseline` for each (set, method) and metric.

    Metrics are left out where a difference isn't finite (the PSNR of equal images).
    """
    scores = {id(row): scoring.of_one_image(row.scores) for row in rows}
    reference = {(row.set, row.picture): scores[id(row)] for row in rows if row.method == baseline}
    groups: dict[tuple[str, str], dict[str, list[float]]] = {}
    for row in rows:
        if row.method != baseline:
            group = groups.setdefault((row.set, row.method), {name: [] for name in row.scores})
            for name, value in scores[id(row)].items():
                group[name].append(value - reference[row.set, row.picture][name])
    return {
        key: {n: scoring.bootstrap_interval(v) for n, v in group.items() if all(map(math.isfinite, v))}
        for key, group in groups.items()
    }


def mean_intervals(rows: Sequence[Row]) -> dict[tuple[str, str], dict[str, tuple[float, float]]]:
    """Returns the 95 % bootstrap interval of the mean over images, for each (set, method) and metric.

    Left out are those of fewer than two images, of metrics whose value for a set is no mean, and where a score isn't
    finite (the PSNR of equal images).
    """
    groups: dict[tuple[str, str], dict[str, list[float]]] = {}
    for row in rows:
        group = groups.setdefault((row.set, row.method), {})
        for name, value in row.scores.items():
            if isinstance(value, int | float) and math.isfinite(value):
                group.setdefault(name, []).append(float(value))
    counts = {key: sum((row.set, row.method) == key for row in rows) for key in groups}
    return {
        key: {n: scoring.bootstrap_interval(v) for n, v in group.items() if len(v) == counts[key] > 1}
        for key, group in groups.items()
    }


def best(name: str, values: Sequence[float]) -> float:
    """Returns the best of the values of a metric."""
    entry = metrics.METRICS.get(name)
    target = entry.target if isinstance(entry, metrics.Metric) else None
    if target is not None:
        return min(values, key=lambda value: abs(value - target))
    return min(values) if isinstance(entry, metrics.Metric) and entry.lower_is_better else max(values)


def format_score(name: str, value: float) -> str:
    """Formats a score with the metric's number of decimal places (PSNR three, others four)."""
    entry = metrics.METRICS.get(name)
    return f"{value:.{entry.digits if isinstance(entry, metrics.Metric) else 4}f}"


def _signed(name: str, value: float) -> str:
    return ("+" if value >= 0 else "") + format_score(name, value)


def notes(rows: Sequence[Row], protocol_lines: Sequence[str]) -> list[str]:
    """Returns the notes below a table: the protocol, then the captions of its metrics."""
    known = {name: metrics.METRICS.get(name) for name in rows[0].scores}
    captions = [
        f"{name}: {entry.caption}{_direction(entry)}"
        for name, entry in known.items()
        if isinstance(entry, metrics.Metric) and entry.caption
    ]
    return [*protocol_lines, *captions]


def _direction(entry: metrics.Metric) -> str:
    if entry.target is not None:
        return f"; best: {entry.target:g}"
    return "; lower is better" if entry.lower_is_better else ""


def _cells(rows: Sequence[Row], baseline: str | None) -> tuple[list[str], list[list[str]]]:
    """Returns the head and the lines of the table of means; with `baseline`, with intervals of the difference to it."""
    names, lines = list(rows[0].scores), []
    differences = intervals(rows, baseline) if baseline else {}
    for (set_name, method), scores in means(rows).items():
        cells = [format_score(name, scores[name]) for name in names]
        found = differences.get((set_name, method), {})
        for index, name in enumerate(names):
            if name in found:
                low, high = (_signed(name, value) for value in found[name])
                cells[index] += f" ({low} to {high})"
        lines.append([set_name, method, *cells])
    return ["set", "method", *names], lines


def _below(rows: Sequence[Row], protocol_lines: Sequence[str], baseline: str | None) -> list[str]:
    """Returns the notes below a table of means."""
    bracket = f"in brackets: 95 % interval of the mean difference to {baseline}, bootstrap over images"
    return [*notes(rows, protocol_lines), *([bracket] if baseline else [])]


def markdown(rows: Sequence[Row], protocol_lines: Sequence[str], baseline: str | None = None) -> str:
    """Returns the means as a Markdown table with notes; with `baseline`, also intervals of the difference to it."""
    head, lines = _cells(rows, baseline)
    table = [f"| {' | '.join(line)} |" for line in (head, ["---"] * len(head), *lines)]
    return "\n".join([*table, "", *(f"- {note}" for note in _below(rows, protocol_lines, baseline))])


def text(
    rows: Sequence[Row], protocol_lines: Sequence[str], baseline: str | None = None, width: int | None = None
) -> str:
    """Returns what `markdown` does as aligned text, for a terminal of `width` columns; None: of any width."""
    table = text_table.aligned(*_cells(rows, baseline), width)
    return f"{table}\n\n{text_table.bullets(_below(rows, protocol_lines, baseline), width)}"


def write(
    folder: str | Path, rows: Sequence[Row], table: str, protocol_lines: Sequence[str], baseline: str | None = None
) -> None:
    """Writes `scores.md` and `scores.csv` (the table), `pictures.csv` (scores of each image), `scores.json` (both)."""
    folder = Path(folder)
    atomic.write_text(folder / "scores.md", table + "\n")
    differences = intervals(rows, baseline) if baseline else {}
    averages = [{"set": s, "method": m, **scores} for (s, m), scores in means(rows).items()]
    pictures = [
        {"set": r.set, "method": r.method, "picture": r.picture, **scoring.of_one_image(r.scores)} for r in rows
    ]
    gains = [{"set": s, "method": m, "over": baseline, **scores} for (s, m), scores in differences.items()]
    content = {"protocol": notes(rows, protocol_lines), "means": averages, "intervals": gains, "pictures": pictures}
    atomic.write_text(folder / "scores.json", json.dumps(_finite(content), indent=1, allow_nan=False))
    for name, lines in (("scores.csv", averages), ("pictures.csv", pictures)):
        with atomic.atomic_file(folder / name) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(lines[0]))
            writer.writeheader()
            writer.writerows({key: _cell(value) for key, value in line.items()} for line in lines)


def _cell(value: Any) -> Any:
    """Returns the value of a CSV cell; a name that spreadsheets would execute begins with an apostrophe."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULAS) else value


def _finite(content: Any) -> Any:
    """Replaces infinity (the PSNR of equal images) and NaN by None, because JSON supports neither."""
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
