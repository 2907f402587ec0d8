"""Several upscalers over several test sets: rows, tables, and how the numbers were made."""

import csv
import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from srgan_jax.evaluation import metrics, scoring
from srgan_jax.evaluation.pairs import Pair
from srgan_jax.runtime import atomic, processes

BORDERS = {
    "A": "borders clamped, 8 bits between the passes",
    "B": "borders mirrored, 8 bits between the passes",
    "C": "borders mirrored, doubles",
}
Method = Callable[[Sequence[Pair]], list[np.ndarray]]  # pairs -> SR pictures, uint8


class Row(NamedTuple):
    """The scores of one method on one picture."""

    set: str
    method: str
    picture: str
    scores: dict[str, float]


class Protocol(NamedTuple):
    """How the numbers were made."""

    scale: int
    convention: str = "A"
    border: int | None = None  # None: the scale
    round_y: bool = False
    keep_gray: bool = True
    degradation: str = ""  # LR of all sets made by it

    def lines(self, made: Sequence[str] = (), ready: Sequence[str] = ()) -> list[str]:
        """The protocol in words, to stand under a table.

        Args:
          made: names of the sets whose LR images were made.
          ready: names of those that came with LR images.
        """
        gray = "samples compared as they are" if self.keep_gray else "read as RGB, converted to Y"
        rounding = "rounded to 8 bits" if self.round_y else "not rounded"
        lr = [f"LR of {', '.join(ready)}: the files of LRx{self.scale}"] if ready else []
        if self.degradation:
            lr = [f"LR: {self.degradation}, each picture by a random key of its name"]
        elif made:
            lr += [
                f"LR of {', '.join(made)}: MATLAB bicubic, convention {self.convention} ({BORDERS[self.convention]})"
            ]
        return [
            f"x{self.scale}; HR cropped at the right and bottom to multiples of {self.scale}",
            *lr,
            f"{self.scale if self.border is None else self.border} px left out at each border; SR rounded to 8 bits",
            f"Y is MATLAB's (BT.601, 16 to 235), {rounding}; gray files: {gray}",
            "bicubic: MATLAB's imresize on doubles; means are over pictures",
        ]


def compare(
    sets: Mapping[str, Sequence[Pair]],
    methods: Mapping[str, Method],
    names: Sequence[str],
    protocol: Protocol,
    on_result: Callable[[str, Pair, str, np.ndarray], Any] = lambda *_: None,
) -> list[Row]:
    """Scores every method on every picture.

    Args:
      sets: name of the test set to its pairs.
      methods: name to a function from pairs to SR pictures.
      names: in `evaluation.metrics.METRICS`.
      protocol: border and rounding are taken from here.
      on_result: called with the set's name, each pair, the method and the SR picture.

    Returns:
      The rows of all processes, where each has its `processes.process_slice` of the pairs.
    """
    rows = []
    for set_name, pairs in sets.items():
        for method, upscale in methods.items():
            results = upscale(pairs) if pairs else []
            options = {"border": protocol.border, "round_y": protocol.round_y}
            scores = scoring.score(pairs, results, names, **options) if pairs else []
            mine = [(pair.name, values) for pair, values in zip(pairs, scores, strict=True)]
            rows += [Row(set_name, method, name, values) for name, values in processes.merge_slices(mine)]
            for pair, result in zip(pairs, results, strict=True):
                on_result(set_name, pair, method, result)
    return rows


def means(rows: Sequence[Row]) -> dict[tuple[str, str], dict[str, float]]:
    """The mean of each metric for each (set, method), in the order of the rows."""
    groups: dict[tuple[str, str], list[dict[str, float]]] = {}
    for row in rows:
        groups.setdefault((row.set, row.method), []).append(row.scores)
    return {key: scoring.mean(scores) for key, scores in groups.items()}


def intervals(rows: Sequence[Row], baseline: str) -> dict[tuple[str, str], dict[str, tuple[float, float]]]:
    """95 % intervals of the mean difference to `baseline` for each (set, method)."""
    reference = {(row.set, row.picture): row.scores for row in rows if row.method == baseline}
    groups: dict[tuple[str, str], dict[str, list[float]]] = {}
    for row in rows:
        if row.method != baseline:
            group = groups.setdefault((row.set, row.method), {name: [] for name in row.scores})
            for name, value in row.scores.items():
                group[name].append(value - reference[row.set, row.picture][name])
    return {key: {n: scoring.bootstrap_interval(v) for n, v in group.items()} for key, group in groups.items()}


def format_score(name: str, value: float) -> str:
    """dB with three decimal places, similarities with four."""
    entry = metrics.METRICS.get(name)
    return f"{value:.{entry.digits if isinstance(entry, metrics.Metric) else 4}f}"


def _signed(name: str, value: float) -> str:
    return ("+" if value >= 0 else "") + format_score(name, value)


def notes(rows: Sequence[Row], protocol_lines: Sequence[str]) -> list[str]:
    """What stands under a table: the protocol, then what its metrics are."""
    known = {name: metrics.METRICS.get(name) for name in rows[0].scores}
    captions = [
        f"{name}: {entry.caption}{'; lower is better' if entry.lower_is_better else ''}"
        for name, entry in known.items()
        if isinstance(entry, metrics.Metric) and entry.caption
    ]
    return [*protocol_lines, *captions]


def markdown(rows: Sequence[Row], protocol_lines: Sequence[str], baseline: str | None = None) -> str:
    """The means as a Markdown table, the protocol under it; with `baseline`, intervals of the difference to it."""
    names = list(rows[0].scores)
    lines = [f"| set | method | {' | '.join(names)} |", "| --- " * (2 + len(names)) + "|"]
    spread = intervals(rows, baseline) if baseline else {}
    for (set_name, method), scores in means(rows).items():
        cells = [format_score(name, scores[name]) for name in names]
        if (set_name, method) in spread:
            for index, name in enumerate(names):
                low, high = (_signed(name, value) for value in spread[set_name, method][name])
                cells[index] += f" ({low} to {high})"
        lines.append(f"| {set_name} | {method} | {' | '.join(cells)} |")
    below = notes(rows, protocol_lines)
    if baseline:
        below.append(f"in brackets: 95 % interval of the mean difference to {baseline}, bootstrap over pictures")
    return "\n".join([*lines, "", *(f"- {note}" for note in below)])


def write(
    folder: str | Path, rows: Sequence[Row], table: str, protocol_lines: Sequence[str], baseline: str | None = None
) -> None:
    """Writes the table as `scores.md` and `scores.csv`, every picture as `pictures.csv`, and all as `scores.json`."""
    folder = Path(folder)
    atomic.write_text(folder / "scores.md", table + "\n")
    spread = intervals(rows, baseline) if baseline else {}
    averages = [{"set": s, "method": m, **scores} for (s, m), scores in means(rows).items()]
    pictures = [{"set": r.set, "method": r.method, "picture": r.picture, **r.scores} for r in rows]
    gains = [{"set": s, "method": m, "over": baseline, **scores} for (s, m), scores in spread.items()]
    content = {"protocol": notes(rows, protocol_lines), "means": averages, "intervals": gains, "pictures": pictures}
    atomic.write_text(folder / "scores.json", json.dumps(_finite(content), indent=1, allow_nan=False))
    for name, lines in (("scores.csv", averages), ("pictures.csv", pictures)):
        with atomic.atomic_file(folder / name) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(lines[0]))
            writer.writeheader()
            writer.writerows(lines)


def _finite(content: Any) -> Any:
    """JSON has no infinity (the PSNR of equal pictures) and no NaN: null instead."""
    if isinstance(content, dict):
        return {key: _finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content
