"""Tests of `report.html`, the page that a training run writes into its folder."""

import json
import re
import shutil

import pytest
from test_plots import RECORDS

from srgan_jax import images
from srgan_jax.evaluation.html_page import line_chart
from srgan_jax.training import run_report


@pytest.fixture
def run(tmp_path, photo):
    """The folder of a run: records of two stages, and sheets of previews."""
    records = [*RECORDS, {"stage": "gan", "step": 3, "seconds": 4.0, "grad_share/pixel": 0.75, "grad_share/vgg": 0.25}]
    records += [{"stage": "gan", "step": 3, "seconds": 5.0, "val_psnr_y": 21.0, "bicubic_psnr_y": 19.5}]
    folder = tmp_path / "run <1>"
    for name in ("pretrain_0000002", "gan_0000001", "gan_0000003"):
        images.write_image(folder / "samples" / f"{name}.png", photo[:32, :100])
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def test_the_report_shows_what_was_logged(run):
    run_report.write(run)
    text = (run / "report.html").read_text()
    assert "<h1>Training: run &lt;1&gt;</h1>" in text and "Latest: gan, update 3;" in text
    previews = json.loads(re.search(r'id="data">(.*?)</script>', text)[1])
    assert [preview["src"] for preview in previews] == [
        "samples/pretrain_0000002.png", "samples/gan_0000001.png", "samples/gan_0000003.png",
    ]  # fmt: skip
    for title, line in (
        ("generator&#x27;s loss", "pixel: 0.2"), ("discriminator&#x27;s accuracy", "d_accuracy_fake: 0.75"),
        ("fractions of the gradient on SR", "vgg: 0.25"), ("validation psnr_y", "bicubic_psnr_y: 19.5"),
    ):  # fmt: skip
        assert re.search(rf"<figcaption>{re.escape(title)}</figcaption>(?:(?!</figure>).)*<title>{line}", text), title
    rows = re.findall(r"<td>([^<]*)</td>", text)
    assert rows[:3] == ["bicubic", "", "19.500"] and rows[-3:] == ["gan", "3", "21.000"]


def test_a_report_that_cannot_be_written_is_reported_only(run, capsys):
    (run / "report.html").mkdir()
    run_report.write(run)
    assert "WARNING: " in (first := capsys.readouterr().err) and "report.html can't be written" in first
    shutil.rmtree(run / "report.html")
    (run / "metrics.jsonl").write_text("damaged\n{}\n")
    run_report.write(run)
    assert "report.html can't be written" in capsys.readouterr().err and not (run / "report.html").exists()
    (run / "metrics.jsonl").unlink()
    run_report.write(run)
    assert capsys.readouterr().err == ""


def _append(run, record, end="\n"):
    with open(run / "metrics.jsonl", "a") as file:
        file.write(json.dumps(record) + end)


def test_each_line_is_read_once(run, monkeypatch):
    """A line that is cut off appears when it is whole; deleted lines vanish."""
    parsed, parse = [], run_report.parse_records
    monkeypatch.setattr(run_report, "parse_records", lambda lines, *more: parsed.extend(lines) or parse(lines, *more))
    latest = lambda: re.search("Latest: ([^;]*);", (run / "report.html").read_text())[1]  # noqa: E731
    before = (run / "metrics.jsonl").read_bytes()
    run_report.write(run)
    _append(run, {"stage": "gan", "step": 5, "loss": 1.0}, end="")
    run_report.write(run)
    assert latest() == "gan, update 3" and len(parsed) == before.count(b"\n")
    parsed.clear()
    (run / "metrics.jsonl").write_bytes(before)
    _append(run, {"stage": "gan", "step": 5, "loss": 1.0})
    run_report.write(run)
    assert latest() == "gan, update 5" and len(parsed) == 1
    (run / "metrics.jsonl").write_bytes(before)  # the run was rolled back
    run_report.write(run)
    assert latest() == "gan, update 3"


def test_a_long_run_keeps_a_bounded_number_of_records(run, monkeypatch):
    monkeypatch.setattr(run_report, "MOST_RECORDS", 50)
    for step in range(4, 400):
        _append(run, {"stage": "gan", "step": step, "loss": 0.5})
    run_report.write(run)
    text = (run / "report.html").read_text()
    assert "Latest: gan, update 399;" in text and "<td>21.000</td>" in text  # the last validation stays
    longest = max(re.findall('points="([^"]*)"', text), key=len)
    assert 10 < longest.count(",") <= 50


def test_lines_lie_where_their_values_are():
    chart = line_chart("t", {"a": [(0, 1.0), (50, float("nan")), (100, 3.0)]})
    # x: 64 to 560 - 8; y: 240 - 30 at the smallest value to 10 at the largest one
    assert 'points="64.0,210.0 552.0,10.0"' in chart
    chart = line_chart("t", {"a": [(0, 1.0), (1, 10.0), (2, 100.0)]})  # a logarithmic axis
    assert 'points="64.0,210.0 308.0,110.0 552.0,10.0"' in chart
    assert line_chart("t", {"a": [(0, float("inf"))]}) == ""
    many = line_chart("t", {"a": [(x, float(x)) for x in range(100_000)]})
    assert many.count(",") < 1000 and "552.0,10.0" in many  # thinned, with the last one


def test_previews_of_two_updates_are_compared(browser, run):
    run_report.write(run)
    browser.get((run / "report.html").as_uri())
    script = "return [...document.querySelectorAll('.layer img')].map(i => i.complete && i.naturalWidth && i.alt)"
    from selenium.webdriver.support.wait import WebDriverWait

    shown = WebDriverWait(browser, 20).until(lambda d: (found := d.execute_script(script)) and all(found) and found)
    assert sorted(shown) == ["gan, update 3", "pretrain, update 2"]  # the last on the right, the first on the left
    assert browser.execute_script("return [left, right].map(s => s.selectedOptions[0].text)") == [
        "pretrain, update 2", "gan, update 3",
    ]  # fmt: skip
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []
