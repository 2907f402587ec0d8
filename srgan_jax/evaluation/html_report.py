"""HTML report of a comparison: one self-contained page with sortable tables and sliders between images."""

import base64
import html
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from srgan_jax import images
from srgan_jax.evaluation import scoring, tables
from srgan_jax.evaluation.pairs import Pair
from srgan_jax.evaluation.tables import Row
from srgan_jax.runtime import atomic

STYLE = """
:root { color-scheme: light dark; --line: #8884; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .7rem; border-bottom: 1px solid var(--line); text-align: right; }
th:nth-child(-n+2), td:nth-child(-n+2), .pictures :is(th, td):nth-child(3) { text-align: left; }
.pictures th { cursor: pointer; user-select: none; }
th[aria-sort=ascending]::after { content: " \\25B2"; } th[aria-sort=descending]::after { content: " \\25BC"; }
figure { display: inline-block; vertical-align: top; max-width: 100%; margin: 1rem 1.5rem 1rem 0; }
figcaption { margin-bottom: .4rem; }
.pair { position: relative; display: inline-block; max-width: 100%; line-height: 0; cursor: crosshair; }
.pair img { max-width: 100%; image-rendering: pixelated; }
.pair img + img { position: absolute; inset: 0; width: 100%; height: 100%;
  clip-path: inset(0 calc(100% - var(--at)) 0 0); }
.pair::after { content: ""; position: absolute; top: 0; bottom: 0; left: var(--at); border-left: 2px solid #fff;
  mix-blend-mode: difference; pointer-events: none; }
input[type=range] { width: 100%; margin: .3rem 0; }
.lens { display: flex; gap: .5rem; } .lens canvas { width: 192px; height: 192px; }
.notes { color: gray; }
"""
SCRIPT = """
const images = JSON.parse(document.getElementById("images").textContent);
const fill = (select, names, chosen) => {
  for (const name of names) select.add(new Option(name, name, name === chosen, name === chosen));
};
for (const figure of document.querySelectorAll("figure")) {
  const pictures = images[figure.dataset.key], names = Object.keys(pictures);
  const [left, right] = figure.querySelectorAll("select"), range = figure.querySelector("input");
  const pair = figure.querySelector(".pair"), [below, above] = pair.querySelectorAll("img");
  const canvases = figure.querySelectorAll("canvas");
  fill(left, names, figure.dataset.left); fill(right, names, figure.dataset.right);
  const show = () => { above.src = pictures[left.value]; below.src = pictures[right.value]; };
  const slide = () => pair.style.setProperty("--at", range.value + "%");
  const magnify = (x, y) => [above, below].forEach((image, i) => {
    const context = canvases[i].getContext("2d"), half = 24;
    const clamp = (v, size) => Math.max(0, Math.min(size - 2 * half, v - half));
    context.imageSmoothingEnabled = false;
    context.clearRect(0, 0, 192, 192);
    context.drawImage(image, clamp(x, image.naturalWidth), clamp(y, image.naturalHeight), 48, 48, 0, 0, 192, 192);
  });
  left.onchange = right.onchange = show; range.oninput = slide;
  below.onload = above.onload = () => { if (below.complete && above.complete)
    magnify(below.naturalWidth / 2, below.naturalHeight / 2); };
  pair.onpointermove = (event) => {
    const box = below.getBoundingClientRect(), zoom = below.naturalWidth / box.width;
    magnify((event.clientX - box.left) * zoom, (event.clientY - box.top) * zoom);
  };
  slide();
  new IntersectionObserver((entries, observer) => {  // images are decoded when they become visible
    if (entries.some((entry) => entry.isIntersecting)) { observer.disconnect(); show(); }
  }, { rootMargin: "600px" }).observe(figure);
}
for (const table of document.querySelectorAll(".pictures")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  heads.forEach((head, column) => head.onclick = () => {
    const down = head.getAttribute("aria-sort") !== "descending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = (row) => row.cells[column].textContent;
    const number = (row) => ({ inf: 1e9, nan: -1e9 })[value(row)] ?? Number(value(row));
    const order = (a, b) => column < 3 ? value(a).localeCompare(value(b)) : number(a) - number(b);
    body.append(...[...body.rows].sort((a, b) => down ? order(b, a) : order(a, b)));
  });
}
"""
CANVAS = '<canvas width="192" height="192"></canvas>'


def _data_url(image: np.ndarray) -> str:
    return "data:image/webp;base64," + base64.b64encode(images.encode_webp(images.visible(image))).decode()


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], kind: str) -> str:
    cells = lambda tag, row: "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in row)  # noqa: E731
    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f'<table class="{kind}"><thead><tr>{cells("th", head)}</tr></thead><tbody>{body}</tbody></table>'


class Report:
    """Collects images while they are scored, then writes the page.

    The images of every method are embedded losslessly, so the page is about as large as all images together.
    """

    def __init__(self):
        self._images: dict[str, dict[str, str]] = {}

    def add(self, set_name: str, pair: Pair, method: str, result: np.ndarray) -> None:
        """Adds the result `[H, W, C]` of one method for one pair."""
        pictures = self._images.setdefault(f"{set_name}/{pair.name}", {"HR": _data_url(pair.hr)})
        pictures[method] = _data_url(result)

    def write(self, folder: str | Path, rows: Sequence[Row], protocol_lines: Sequence[str]) -> Path:
        """Writes `index.html` and returns its path.

        Args:
          folder: the output folder, created if missing.
          rows: the result of `tables.compare`.
          protocol_lines: the result of `tables.Protocol.lines`.
        """
        names = list(rows[0].scores)
        notes = tables.notes(rows, protocol_lines)
        text = lambda scores: [tables.format_score(name, scores[name]) for name in names]  # noqa: E731
        means = [[*key, *text(scores)] for key, scores in tables.means(rows).items()]
        pictures = [[row.set, row.method, row.picture, *text(scoring.of_one_image(row.scores))] for row in rows]
        content = "".join(
            [
                "<h1>Comparison of super-resolution methods</h1>",
                _table(["set", "method", *names], means, "means"),
                '<ul class="notes">' + "".join(f"<li>{html.escape(note)}</li>" for note in notes) + "</ul>",
                "<h2>Images</h2>",
                *(self._figures(key) for key in self._images),
                "<h2>Scores of each image</h2><p>Click a column heading to sort.</p>",
                _table(["set", "method", "image", *names], pictures, "pictures"),
            ]
        )
        data = json.dumps(self._images).replace("<", "\\u003c")
        page = (
            '<!doctype html><html lang="en"><meta charset="utf-8"><title>Comparison of super-resolution methods</title>'
            f"<style>{STYLE}</style>{content}"
            f'<script type="application/json" id="images">{data}</script><script>{SCRIPT}</script></html>'
        )
        path = Path(folder) / "index.html"
        atomic.write_text(path, page)
        return path

    def _figures(self, key: str) -> str:
        """Returns the HTML of two sliders: bicubic against SR, and SR against HR."""
        methods = [name for name in self._images[key] if name not in ("HR", "bicubic", "nearest")]
        result = methods[0] if methods else "nearest"
        return "".join(
            f'<figure data-key="{html.escape(key)}" data-left="{html.escape(left)}" data-right="{html.escape(right)}">'
            f"<figcaption>{html.escape(key)}: <select aria-label='left'></select> | "
            "<select aria-label='right'></select></figcaption>"
            '<div class="pair"><img alt="right"><img alt="left"></div>'
            '<input type="range" min="0" max="100" value="50" aria-label="position of the slider">'
            f'<div class="lens">{2 * CANVAS}</div></figure>'
            for left, right in (("bicubic", result), (result, "HR"))
        )
