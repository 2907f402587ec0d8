"""Parts of HTML pages: a page with the before/after slider of the package, tables that scroll, and line charts."""

import html
import json
import math
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from srgan_jax import evaluation
from srgan_jax.export import web

Points = Sequence[tuple[float, float]]  # (x, y) of a line
MOST_POINTS = 400  # of a line; more are thinned out
COLOURS = ("#3b7dd8", "#e0702b", "#3a9e5c", "#b04fc0", "#c9a20e", "#d2405f", "#20a0a8", "#888888")
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 560, 240, 64, 8, 10, 30  # of a chart, in units of its viewBox


def page(title: str, content: str, data: Any = None, scripts: Sequence[str] = ()) -> str:
    """Returns a whole page: its styles and scripts are inside, so it needs no other file but images.

    Args:
      title: of the page.
      content: HTML of the body.
      data: what the scripts find as JSON in the element "data".
      scripts: names of files in `evaluation/static`, after the slider's.
    """
    own, shared = resources.files(evaluation) / "static", resources.files(web) / "static"
    style = (shared / "slider.css").read_text(encoding="utf-8") + (own / "page.css").read_text(encoding="utf-8")
    texts = [(shared / "slider.js").read_text(encoding="utf-8")]
    texts += [(own / name).read_text(encoding="utf-8") for name in scripts]
    embedded = json.dumps(data).replace("<", "\\u003c")
    modules = "".join(f'<script type="module">{text}</script>' for text in texts)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{style}</style></head><body><h1>{html.escape(title)}</h1>{content}"
        f'<script type="application/json" id="data">{embedded}</script>{modules}</body></html>'
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]], kind: str, label: str) -> str:
    """Returns a table that scrolls by itself where it is wider than the page.

    Args:
      head: texts of the columns.
      rows: HTML of the cells.
      kind: its class; the columns of "sortable" sort when they are pressed.
      label: read by screen readers.
    """
    button = "<button type=button>{}</button>" if kind == "sortable" else "{}"
    heads = "".join(f'<th scope="col">{button.format(html.escape(text))}</th>' for text in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{html.escape(label)}"><table class="{kind}">'
        f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def line_chart(title: str, lines: Mapping[str, Points], dashed: Sequence[str] = ()) -> str:
    """Returns an SVG chart of lines by name; its y axis is logarithmic where all values span more than a factor of 10.

    Values that aren't finite are left out. Returns "" where no value is left.
    """
    kept = {name: _thinned([(x, y) for x, y in points if math.isfinite(y)]) for name, points in lines.items()}
    kept = {name: points for name, points in kept.items() if points}
    if not kept:
        return ""
    axes = _Axes([point for points in kept.values() for point in points])
    drawn, legend = axes.grid(), []
    for index, (name, points) in enumerate(kept.items()):
        colour, dash = COLOURS[index % len(COLOURS)], ' stroke-dasharray="5 4"' if name in dashed else ""
        path = " ".join(f"{axes.left(x):.1f},{axes.top(y):.1f}" for x, y in points)
        label = f"{html.escape(name)}: {points[-1][1]:.4g}"
        drawn += f'<polyline points="{path}" fill="none" stroke="{colour}"{dash}><title>{label}</title></polyline>'
        x, y = points[-1]
        drawn += f'<circle cx="{axes.left(x):.1f}" cy="{axes.top(y):.1f}" r="3" fill="{colour}"/>'
        legend.append(f'<li style="--colour: {colour}">{label}</li>')
    title = html.escape(title)
    return (
        f'<figure class="chart"><figcaption>{title}</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{title}">{drawn}</svg><ul>{"".join(legend)}</ul></figure>'
    )


class _Axes:
    """Where a chart's points are drawn, in units of its viewBox."""

    def __init__(self, points: Points):
        self._xs, ys = (min(x for x, _ in points), max(x for x, _ in points)), [y for _, y in points]
        self._log = min(ys) > 0 and max(ys) > 10 * min(ys)
        low, high = (math.log10(y) if self._log else y for y in (min(ys), max(ys)))
        self._ys = (low - 0.5, high + 0.5) if low == high else (low, high)

    def left(self, x: float) -> float:
        low, high = self._xs
        return LEFT + (WIDTH - LEFT - RIGHT) * (x - low) / ((high - low) or 1)

    def top(self, y: float) -> float:
        return self._at_level(math.log10(y) if self._log else y)

    def _at_level(self, level: float) -> float:
        low, high = self._ys
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - level) / (high - low)

    def grid(self) -> str:
        """Returns five horizontal lines with their values, and the first and the last x."""
        parts, (low, high) = [], self._ys
        for step in range(5):
            level = low + (high - low) * step / 4
            text, y = f"{10**level if self._log else level:.4g}", self._at_level(level)
            parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>')
            parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
        for x, anchor in zip(self._xs, ("start", "end"), strict=True):
            parts.append(f'<text x="{self.left(x):.1f}" y="{HEIGHT - 8}" text-anchor="{anchor}">{x:,.0f}</text>')
        return "".join(parts)


def _thinned(points: Points) -> Points:
    """Returns at most about `MOST_POINTS` of the points, the last one among them."""
    step = max(1, len(points) // MOST_POINTS)
    return points[::-1][::step][::-1]
