"""Tests of the HTML report, some of them in a browser."""

import base64
import io
import json
import math
import re

import numpy as np
import pytest

from srgan_jax import images
from srgan_jax.evaluation import html_report, scoring, tables, text_table
from srgan_jax.evaluation.pairs import make_pair


@pytest.fixture(scope="module")
def page(tmp_path_factory, photo):
    pairs = [make_pair(f"cat {i}", photo[40 * i : 40 * i + 100, 100:240], 2) for i in range(3)]
    methods = {
        "bicubic": lambda pairs: [scoring.bicubic(pair.lr, 2) for pair in pairs],
        "nearest": lambda pairs: [scoring.nearest(pair.lr, 2) for pair in pairs],
        "ours <&>": lambda pairs: [np.maximum(pair.hr, 8) for pair in pairs],
    }
    protocol, made = tables.Protocol(2), html_report.Report()
    rows = tables.compare({"cats": pairs}, methods, ("psnr_y", "ssim_y"), protocol, made.add)
    folder, lines = tmp_path_factory.mktemp("report"), protocol.lines(made=["cats"])
    one_file = made.write(folder / "one", rows, lines, one_file=True)
    return made.write(folder, rows, lines), rows, pairs, one_file


def test_page_loads_its_images_and_nothing_else(page):
    path, _, _, one_file = page
    for file in (path, one_file):
        text = file.read_text()
        assert "http:" not in text and "https:" not in text
        assert not re.search("<link|src=|import ", re.sub("(?m)^ *//.*", "", text))  # without the comments of scripts
        assert '<meta name="viewport" content="width=device-width' in text  # a phone would lay it out at 980 px
        assert "ours &lt;&amp;&gt;" in text and "convention A" in text
    assert sorted(file.name for file in path.parent.iterdir()) == ["images", "index.html", "one"]
    assert [file.name for file in one_file.parent.iterdir()] == ["index.html"]
    assert {file.name for file in (path.parent / "images").iterdir()} == {
        f"{i:04d}_cat_{i}_{method}.webp" for i in range(3) for method in ("HR", "bicubic", "nearest", "ours")
    }


def test_images_of_an_earlier_report_are_deleted_and_others_kept(page, tmp_path):
    _, rows, pairs, _ = page
    (tmp_path / "images").mkdir()
    for name in ("0007_old_HR.webp", "mine.webp"):
        (tmp_path / "images" / name).touch()
    report = html_report.Report()
    for row in rows:
        pair = next(pair for pair in pairs if pair.name == row.picture)
        report.add(row.set, pair, row.method, pair.hr)
    report.write(tmp_path, rows, [])
    names = {file.name for file in (tmp_path / "images").iterdir()}
    assert "mine.webp" in names and "0007_old_HR.webp" not in names and len(names) == 1 + 3 * 4


def test_means_have_intervals_where_they_are_means():
    rows = [
        tables.Row("set", "a", str(i), {"psnr_y": value, "ssim_y": 0.5, "phase": [1.0]})
        for i, value in enumerate([20.0, 30.0])
    ]
    rows += [
        tables.Row("set", "b", str(i), {"psnr_y": value, "ssim_y": 0.1 * i}) for i, value in enumerate([1, math.inf])
    ]
    rows += [tables.Row("one", "a", "0", {"psnr_y": 1.0})]
    intervals = tables.mean_intervals(rows)
    # of two values, a quarter of the draws gives each twice: the 2.5 and 97.5 % points are the values themselves
    assert intervals["set", "a"] == {"psnr_y": (20.0, 30.0), "ssim_y": (0.5, 0.5)}
    assert intervals["set", "b"].keys() == {"ssim_y"} and intervals["one", "a"] == {}
    assert [tables.best(name, [1.0, 2.0, -3.0]) for name in ("psnr_y", "niqe", "power_25")] == [2.0, -3.0, 1.0]


def test_the_terminal_has_aligned_columns_and_the_file_markdown(page):
    _, rows, _, _ = page
    for width in (80, 40):
        lines = tables.text(rows, ["a note that is longer than forty columns of a terminal"], width=width).splitlines()
        assert max(map(len, lines)) <= width and not any("|" in line for line in lines)
    table = tables.text(rows, [], width=80).split("\n\n")[0].splitlines()
    assert [line.split() for line in table[:2]] == [
        ["set", "method", "psnr_y", "ssim_y"],
        ["-" * 4, "-" * 8, "-" * 6, "-" * 6],
    ]
    assert len({len(line) for line in table}) == 1  # numbers end in one column
    assert len(tables.text(rows, [], width=24).split("\n\n")) == 3  # a block for each metric, and the notes
    assert tables.markdown(rows, []).startswith(
        "| set | method | psnr_y | ssim_y |\n| --- | --- | --- | --- |\n| cats |"
    )


def test_wide_characters_take_two_columns():
    lines = text_table.aligned(["set", "method", "a"], [["\u732b", "x", "1"], ["e\u0301", "x", "10"]], 80).splitlines()
    assert lines[2] == "\u732b   x        1" and lines[3] == "e\u0301    x       10"


def _wait(driver, script):
    from selenium.webdriver.support.wait import WebDriverWait

    return WebDriverWait(driver, 20).until(lambda d: d.execute_script(script))


def _open(browser, address):
    """Opens a page and waits for the images of its first slider."""
    browser.get("about:blank")
    browser.get(address)
    _wait(
        browser, f"return [...{FIRST}.querySelectorAll('img')].filter(i => i.complete && i.naturalWidth).length === 2"
    )


def _choose(browser, control, value):
    from selenium.webdriver.support.select import Select

    Select(browser.find_element("id", control)).select_by_value(value)


FIRST = "document.querySelector('figure')"
SLIDER = f"{FIRST}.querySelector('before-after')"
BOX = "const box = e => {const r = e.getBoundingClientRect(); return [r.left, r.right].map(Math.round)};"


def test_a_drag_on_the_image_moves_the_line_and_the_table_sorts(browser, page):
    from selenium.webdriver import ActionChains

    path, rows, pairs, _ = page
    _open(browser, path.as_uri())
    assert browser.execute_script(f"return {FIRST}.querySelector('img').naturalWidth") == pairs[0].hr.shape[1]
    frame = browser.find_element("css selector", "figure .frame")
    assert browser.execute_script(f"{BOX} return box({FIRST}.querySelector('.frame'))") == browser.execute_script(
        f"{BOX} return box({SLIDER})"
    )
    quarter = frame.size["width"] // 4
    ActionChains(browser).move_to_element(frame).click_and_hold().move_by_offset(-quarter, 0).release().perform()
    assert browser.execute_script(f"return {SLIDER}.at") == pytest.approx(25, abs=1)

    column = "return [...document.querySelectorAll('.sortable tbody tr')].map(r => r.cells[3].textContent)"
    head = browser.find_elements("css selector", ".sortable th")[3]
    assert head.text == "psnr_y"
    expected = sorted((row.scores["psnr_y"] for row in rows), reverse=True)
    for order in (expected, expected[::-1]):
        browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", head)
        head.click()
        assert browser.execute_script(column) == [f"{value:.3f}" for value in order]
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []


def _touch(browser, kind, *points):
    """Sends a touch event with the points, which are (x, y) in pixels of the window."""
    touches = [{"x": x, "y": y, "id": index} for index, (x, y) in enumerate(points)]
    browser.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})


def test_fingers_move_the_line_and_the_image_and_zoom(browser, page):
    path, _, _, _ = page
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": True, "maxTouchPoints": 2})
    try:
        _open(browser, path.as_uri())
        browser.execute_script(f"{SLIDER}.scrollIntoView({{block: 'center'}})")
        box = browser.execute_script(f"return {FIRST}.querySelector('.frame').getBoundingClientRect().toJSON()")
        left, top, width, height = (box[name] for name in ("left", "top", "width", "height"))
        at = lambda x, y: (left + x * width, top + y * height)  # noqa: E731
        view = f"const s = {SLIDER}; return [s.at, s.zoom, ...s.center.split(' ').map(Number), scrollX, scrollY]"
        scrolled = browser.execute_script(view)[4:]

        _touch(browser, "touchStart", at(0.5, 0.5))  # one finger drags the line
        for x in (0.45, 0.4, 0.3, 0.25):
            _touch(browser, "touchMove", at(x, 0.5))
        _touch(browser, "touchEnd")
        assert browser.execute_script(view)[0] == pytest.approx(25, abs=1)

        _touch(browser, "touchStart", at(0.5, 0.5), at(0.6, 0.5))  # two move apart, to three times the distance
        for end in (0.7, 0.75, 0.8):
            _touch(browser, "touchMove", at(0.5, 0.5), at(end, 0.5))
        _touch(browser, "touchEnd")
        line, zoom, x, y, *_ = browser.execute_script(view)
        assert line == pytest.approx(25, abs=1) and zoom == pytest.approx(3, rel=0.05)

        _touch(browser, "touchStart", at(0.7, 0.5))  # beside the line a finger moves the zoomed image
        _touch(browser, "touchMove", at(0.6, 0.6))
        _touch(browser, "touchMove", at(0.55, 0.65))
        _touch(browser, "touchEnd")
        moved = browser.execute_script(view)
        assert moved[2] - x == pytest.approx(0.15 / zoom, abs=0.01)
        assert moved[3] - y == pytest.approx(-0.15 / zoom, abs=0.01)
        assert moved[4:] == scrolled  # the page stayed where it was
    finally:
        browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})


def test_methods_are_chosen_for_all_sliders_and_the_difference_is_that_of_the_pixels(browser, page):
    from PIL import Image

    path, _, pairs, _ = page
    _open(browser, path.as_uri())
    for control, value in (("left", "HR"), ("right", "ours <&>"), ("gain", "4")):
        _choose(browser, control, value)
    sources = f"return [...{FIRST}.querySelectorAll('.before img, .after img')].map(i => i.src.split('_').pop())"
    assert sorted(browser.execute_script(sources)) == ["HR.webp", "ours.webp"]
    assert "ours <&> psnr_y" in browser.find_element("css selector", ".scores").text
    browser.execute_script(f"{SLIDER}.style.setProperty('--widest', '{pairs[0].hr.shape[1]}px')")  # 1 pixel on 1
    _wait(browser, f"return [...{FIRST}.querySelectorAll('img')].every(i => i.complete && i.naturalWidth)")
    shot = Image.open(io.BytesIO(browser.find_element("css selector", "figure .frame").screenshot_as_png)).convert(
        "RGB"
    )
    hr = pairs[0].hr
    expected = np.minimum(4 * (np.maximum(hr, 8).astype(int) - hr), 255)  # |ours - HR| x 4
    np.testing.assert_allclose(np.asarray(shot)[8:-8, 8:-8], expected[8:-8, 8:-8], atol=4)


def test_an_address_leads_to_one_image_at_one_zoom(browser, page):
    path = page[0]
    _open(browser, f"{path.as_uri()}#image=cats%2Fcat+2&left=nearest&right=HR&difference=0&at=30&zoom=3&center=0.7+0.4")
    third = "document.querySelectorAll('figure')[2]"
    state = f"const s = {third}.querySelector('before-after'); return [s.at, s.zoom, s.center]"
    assert browser.execute_script(state) == [30, 3, "0.7000 0.4000"]
    assert browser.execute_script("return [left.value, right.value]") == ["nearest", "HR"]
    top = browser.execute_script(f"return {third}.getBoundingClientRect().top")
    assert 0 <= top < browser.execute_script("return innerHeight") / 2
    browser.execute_script(f"{third}.querySelector('before-after').zoom = 2")
    link = browser.execute_script(f"return {third}.querySelector('a').href")
    _open(browser, link)  # the page's own link leads back
    assert browser.execute_script(state)[:2] == [30, 2]


@pytest.mark.parametrize("width", [390, 1600])
def test_nothing_is_wider_than_the_window(browser, page, width):
    device = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", device)
    try:
        _open(browser, page[3].as_uri())  # the one file
        found = browser.execute_script("const e = document.documentElement; return [e.scrollWidth, e.clientWidth]")
        assert found[0] == found[1] and width - 20 < found[1] <= width  # the rest is a scroll bar
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_images_are_lossless(page):
    path, _, pairs, one_file = page
    listed = json.loads(re.search(r'id="data">(.*?)</script>', one_file.read_text())[1])["images"]
    beside = json.loads(re.search(r'id="data">(.*?)</script>', path.read_text())[1])["images"]
    assert len(listed) == len(pairs) == 3
    for pair in pairs:
        entry = listed[f"cats/{pair.name}"]
        kind, _, content = entry["HR"]["src"].partition(";base64,")
        assert kind == "data:image/webp"
        np.testing.assert_array_equal(images.decode_rgb(io.BytesIO(base64.b64decode(content))), pair.hr)
        file = path.parent / beside[f"cats/{pair.name}"]["ours <&>"]["src"]
        np.testing.assert_array_equal(images.read_rgb(file), np.maximum(pair.hr, 8))
        lr = path.parent / beside[f"cats/{pair.name}"]["nearest"]["src"]  # the browser repeats its pixels
        np.testing.assert_array_equal(images.read_rgb(lr), pair.lr)
