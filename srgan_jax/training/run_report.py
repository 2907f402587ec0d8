"""`report.html` in the folder of a run: scores, losses, fractions of the gradient, and previews over time."""

import collections
import functools
import html
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import jax

from srgan_jax.evaluation import html_page, tables
from srgan_jax.evaluation.plots import Record, default_panels, parse_records
from srgan_jax.runtime import atomic, messages
from srgan_jax.runtime.errors import UserError

REPORT, METRICS, SAMPLES = "report.html", "metrics.jsonl", "samples"
MOST_RECORDS = 10_000  # records in memory; a chart draws at most some hundred of them
SHARE, SCORE, BICUBIC = "grad_share/", "val_", "bicubic_"  # beginnings of the names of numbers


def write(folder: Path) -> None:
    """Writes the report of the run in `folder` atomically, in process 0.

    If the report can't be written, a warning is reported, and training continues.
    """
    if jax.process_index() or not (folder / METRICS).is_file():
        return
    try:
        atomic.write_text(folder / REPORT, _page(folder, _log_of(folder / METRICS).read()))
    except (OSError, UserError) as error:
        messages.report(f"WARNING: {folder / REPORT} can't be written ({error})")


class _Log:
    """The records of a file to which lines are appended: each call of `read` reads the new lines only."""

    def __init__(self, file: Path):
        self._file = file
        self._forget()

    def _forget(self) -> None:
        self._records: list[Record] = []
        self._bytes = self._lines = 0
        self._last = b""  # the last line that was read

    def read(self) -> list[Record]:
        """Returns the records with a stage and a step, about `MOST_RECORDS` at most.

        If there are more, every second record of each kind is left out, but never the last one.

        Raises:
          UserError: a line is damaged.
        """
        with open(self._file, "rb") as file:
            file.seek(self._bytes - len(self._last))
            if file.read(len(self._last)) != self._last:  # the run was rolled back, which deletes lines
                self._forget()
                file.seek(0)
            lines = [line for line in file if line.endswith(b"\n")]  # without a line that a kill truncated
        new = parse_records(lines, self._file, self._lines + 1)
        self._records += [record for record in new if {"stage", "step"} <= record.keys()]
        self._bytes += sum(map(len, lines))
        self._lines += len(lines)
        self._last = lines[-1] if lines else self._last
        while len(self._records) > MOST_RECORDS and len(halved := _halved(self._records)) < len(self._records):
            self._records = halved
        return self._records


_log_of = functools.lru_cache(maxsize=1)(_Log)


def _halved(records: Sequence[Record]) -> list[Record]:
    """Returns every second record of each stage and set of names, with the last one of each."""
    kept, later = [], collections.Counter()
    for record in reversed(records):
        kind = record["stage"], frozenset(record)
        if later[kind] % 2 == 0:
            kept.append(record)
        later[kind] += 1
    return kept[::-1]


def _page(folder: Path, records: Sequence[Record]) -> str:
    stages = list(dict.fromkeys(record["stage"] for record in records))
    previews = [preview for stage in stages for preview in _previews(folder, stage)]
    latest = f"{stages[-1]}, update {records[-1]['step']:,}" if records else "nothing yet"
    written = f"written {time.strftime('%Y-%m-%d %H:%M')}, and again at each validation"
    content = [f"<p>Latest: {html.escape(latest)}; {written}.</p>"]
    content += [_scores(records, stages), _preview_slider() if previews else ""]
    for stage in stages:
        charts = _charts([record for record in records if record["stage"] == stage])
        content.append(f'<h2>{html.escape(stage)}</h2><div class="charts">{"".join(charts)}</div>')
    return html_page.page(f"Training: {folder.resolve().name}", "".join(content), previews, ["previews.js"])


def _previews(folder: Path, stage: str) -> list[dict[str, str]]:
    """Returns the sheets of previews of a stage, in the order of their updates, with their addresses."""
    found = {}
    for file in (folder / SAMPLES).glob("*.png"):
        name, _, step = file.stem.rpartition("_")
        if name == stage and step.isdigit():
            found[int(step)] = {"name": f"{stage}, update {int(step):,}", "src": f"{SAMPLES}/{quote(file.name)}"}
    return [found[step] for step in sorted(found)]


def _preview_slider() -> str:
    return (
        "<section><h2>Previews over time</h2><p>Each row: LR, SR, HR.</p>"
        '<div class="bar"><label>left <select id="left"></select></label>'
        '<label>right <select id="right"></select></label></div>'
        '<before-after label="previews" class="previews"></before-after></section>'
    )


def _scores(records: Sequence[Record], stages: Sequence[str]) -> str:
    """Returns the table of the scores of bicubic and of the last validation of each stage; "" without any."""
    last = {r["stage"]: r for r in records if any(name.startswith(SCORE) for name in r)}
    if not last:
        return ""
    record = last[list(last)[-1]]
    names = [name.removeprefix(SCORE) for name in record if name.startswith(SCORE)]
    rows = [["bicubic", "", *_numbers(record, BICUBIC, names)]]
    rows += [[html.escape(s), f"{last[s]['step']:,}", *_numbers(last[s], SCORE, names)] for s in stages if s in last]
    table = html_page.table(["stage", "update", *names], rows, "means", "validation scores")
    return f"<h2>Validation</h2>{table}"


def _numbers(record: Record, prefix: str, names: Sequence[str]) -> list[str]:
    values = [record.get(prefix + name) for name in names]
    return ["" if v is None else tables.format_score(name, v) for name, v in zip(names, values, strict=True)]


def _charts(records: Sequence[Record]) -> list[str]:
    """Returns the charts of one stage."""
    names = list(dict.fromkeys(name for record in records for name in record))
    panels: Mapping[str, Sequence[str]] = {k: v for k, v in default_panels(names).items() if "val" not in k}
    panels |= {"fractions of the gradient on SR": [name for name in names if name.startswith(SHARE)]}
    for name in (name for name in names if name.startswith(SCORE)):
        panels |= {f"validation {name.removeprefix(SCORE)}": [name, BICUBIC + name.removeprefix(SCORE)]}
    charts = []
    for title, shown in panels.items():
        lines = {n.removeprefix(SHARE): [(r["step"], r[n]) for r in records if r.get(n) is not None] for n in shown}
        charts.append(html_page.line_chart(title, lines, dashed=[n for n in shown if n.startswith(BICUBIC)]))
    return charts
