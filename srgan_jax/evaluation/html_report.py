"""HTML report of a comparison: sortable tables with intervals, and sliders between the images of two methods."""

import base64
import contextlib
import html
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlencode

import numpy as np

from srgan_jax import images
from srgan_jax.evaluation import html_page, scoring, tables
from srgan_jax.evaluation.pairs import Pair
from srgan_jax.evaluation.tables import Row
from srgan_jax.runtime import atomic

TITLE, FOLDER = "Comparison of super-resolution methods", "images"
OWN_FILE = re.compile(r"\d{4}_[\w.-]+\.webp")  # files of earlier reports, which are deleted
GAINS = (0, 1, 4, 8, 16, 32)  # by which differences are multiplied; 0: no difference map
SHOWN_SCORES = 2  # below a slider
BASELINES = ("HR", "bicubic", "nearest")


class Shown(NamedTuple):
    """An image of the report: lossless WebP; `nearest` if it is LR, which the browser enlarges without blur."""

    webp: bytes
    nearest: bool = False


class Report:
    """Collects images while they are scored, then writes the page.

    HR and the results of every method are kept losslessly, as WebP; nearest-neighbour interpolation is LR itself.
    """

    def __init__(self):
        self._images: dict[str, dict[str, Shown]] = {}
        self._sizes: dict[str, tuple[int, int]] = {}

    def add(self, set_name: str, pair: Pair, method: str, result: np.ndarray) -> None:
        """Adds the result `[H, W, C]` of one method for one pair."""
        key = f"{set_name}/{pair.name}"
        if key not in self._images:
            self._images[key] = {"HR": Shown(images.encode_webp(images.visible(pair.hr)))}
            self._sizes[key] = (pair.hr.shape[0], pair.hr.shape[1])
        is_lr = method == "nearest"
        self._images[key][method] = Shown(images.encode_webp(images.visible(pair.lr if is_lr else result)), is_lr)

    def write(
        self, folder: str | Path, rows: Sequence[Row], protocol_lines: Sequence[str], one_file: bool = False
    ) -> Path:
        """Writes `index.html` and a folder of its images, and returns the path of the page.

        Args:
          folder: the output folder, created if missing. Images of an earlier report are deleted.
          rows: the result of `tables.compare`.
          protocol_lines: the result of `tables.Protocol.lines`.
          one_file: whether the images are inside the page, a third larger, and there is no folder.
        """
        path = Path(folder) / "index.html"
        names = {key: {} for key in self._images}
        for number, key in enumerate(self._images):
            for method in self._images[key]:
                names[key][method] = "_".join([f"{number:04d}", _slug(key.rpartition("/")[2]), f"{_slug(method)}.webp"])
        wanted = [] if one_file else [name for by_method in names.values() for name in by_method.values()]
        if not one_file:
            for key, by_method in self._images.items():
                for method, image in by_method.items():
                    with atomic.atomic_file(path.parent / FOLDER / names[key][method]) as temporary:
                        temporary.write_bytes(image.webp)
        atomic.write_text(path, self._page(rows, protocol_lines, {} if one_file else names))
        with contextlib.suppress(OSError):
            for file in (path.parent / FOLDER).iterdir():
                if OWN_FILE.fullmatch(file.name) and file.name not in wanted:
                    file.unlink()
        return path

    def _page(self, rows: Sequence[Row], protocol_lines: Sequence[str], names: dict[str, dict[str, str]]) -> str:
        metrics = list(rows[0].scores)
        notes = [*tables.notes(rows, protocol_lines), "small: 95 % bootstrap interval of the mean, over images"]
        content = [
            "<h2>Mean scores</h2>",
            html_page.table(["set", "method", *metrics], _mean_rows(rows), "means", "mean scores"),
            '<ul class="notes">' + "".join(f"<li>{html.escape(note)}</li>" for note in notes) + "</ul>",
            f"<section><h2>Images</h2>{_bar()}",
            f'<div class="images">{"".join(map(self._figure, self._images))}</div></section>',
            "<h2>Scores of each image</h2><p>A column is sorted when its heading is pressed.</p>",
            html_page.table(
                ["set", "method", "image", *metrics], _image_rows(rows), "sortable", "scores of each image"
            ),
        ]
        return html_page.page(TITLE, "".join(content), self._data(rows, names), ["report.js"])

    def _data(self, rows: Sequence[Row], names: dict[str, dict[str, str]]) -> dict[str, Any]:
        """Returns what the script reads: the address of each image, its scores, the methods and the first choice."""
        methods = ["HR", *dict.fromkeys(row.method for row in rows)]
        own = [method for method in methods if method not in BASELINES]
        listed: dict[str, dict[str, Any]] = {key: {} for key in self._images}
        scores: dict[str, dict[str, str]] = {key: {} for key in self._images}
        for key, by_method in self._images.items():
            for method, image in by_method.items():
                source = f"{FOLDER}/{names[key][method]}" if names else _data_url(image)
                listed[key][method] = {"src": source, "nearest": image.nearest}
        for row in rows:
            values = list(scoring.of_one_image(row.scores).items())[:SHOWN_SCORES]
            text = ", ".join(f"{name} {tables.format_score(name, value)}" for name, value in values)
            scores[f"{row.set}/{row.picture}"][row.method] = text
        right = own[0] if own else "HR"
        return {"images": listed, "scores": scores, "methods": methods, "left": "bicubic", "right": right}

    def _figure(self, key: str) -> str:
        """Returns the HTML of one slider; the script fills it when it comes near."""
        height, width = self._sizes[key]
        return (
            f'<figure data-key="{html.escape(key)}"><figcaption><strong>{html.escape(key)}</strong>'
            '<a href="#">link to this view</a><button type="button" class="size">larger</button></figcaption>'
            f'<before-after style="--ratio: {width / height:.4f}; --natural: {width}px" label="{html.escape(key)}">'
            '</before-after><p class="scores"></p></figure>'
        )


def _slug(name: str) -> str:
    """Returns a name for a file on any system, at most 60 characters of letters, digits, "-", "." and "_"."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", name).strip("._")[-60:] or "image"


def _data_url(image: Shown) -> str:
    return "data:image/webp;base64," + base64.b64encode(image.webp).decode()


def _bar() -> str:
    """Returns the choice of methods, which applies to all sliders."""
    gains = "".join(f'<option value="{gain}">{f"x {gain}" if gain else "off"}</option>' for gain in GAINS)
    return (
        '<div class="bar"><label>left <select id="left"></select></label><label>right <select id="right"></select>'
        f'</label><label>difference map <select id="gain">{gains}</select></label></div>'
    )


def _mean_rows(rows: Sequence[Row]) -> list[list[str]]:
    """Returns the cells of the means with their intervals; the best value of each set and metric is bold."""
    means, intervals = tables.means(rows), tables.mean_intervals(rows)
    cells = []
    for (set_name, method), scores in means.items():
        line = [html.escape(set_name), html.escape(method)]
        for name, value in scores.items():
            text = tables.format_score(name, value)
            others = [other[name] for (other_set, _), other in means.items() if other_set == set_name]
            best = tables.best(name, others)
            text = f"<b>{text}</b>" if len(others) > 1 and value == best else text
            interval = intervals[set_name, method].get(name)
            low_high = " to ".join(tables.format_score(name, end) for end in interval) if interval else ""
            line.append(text + (f"<small>{low_high}</small>" if low_high else ""))
        cells.append(line)
    return cells


def _image_rows(rows: Sequence[Row]) -> list[list[str]]:
    """Returns the cells of each image's scores; its name leads to its slider."""
    cells = []
    for row in rows:
        key = f"{row.set}/{row.picture}"
        address = html.escape(f"#{urlencode({'image': key})}")
        numbers = [tables.format_score(name, value) for name, value in scoring.of_one_image(row.scores).items()]
        image = f'<a href="{address}">{html.escape(row.picture)}</a>'
        cells.append([html.escape(row.set), html.escape(row.method), image, *numbers])
    return cells
