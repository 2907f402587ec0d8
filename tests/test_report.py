"""Tests of the HTML report, some of them in a browser."""

import base64
import io
import json
import re
import shutil

import numpy as np
import pytest

from srgan_jax import images
from srgan_jax.evaluation import html_report, scoring, tables
from srgan_jax.evaluation.pairs import make_pair

CHROMIUM, DRIVER = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")


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
    return made.write(tmp_path_factory.mktemp("report"), rows, protocol.lines(made=["cats"])), rows, pairs


def test_page_loads_no_other_files(page):
    text = page[0].read_text()
    assert "http:" not in text and "https:" not in text and "<link" not in text and "src=" not in text
    assert "ours &lt;&amp;&gt;" in text and "convention A" in text


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not (CHROMIUM and DRIVER):
        pytest.skip("Chromium and its driver are not installed (scripts/test.sh --browser)")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "window-size=1280,1000"):
        options.add_argument(f"--{flag}")
    for flag in ("disable-background-networking", "disable-component-update", "disable-sync", "no-first-run"):
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def _wait(driver, script):
    from selenium.webdriver.support.wait import WebDriverWait

    return WebDriverWait(driver, 20).until(lambda d: d.execute_script(script))


def test_the_slider_moves_and_the_table_sorts(browser, page):
    path, rows, pairs = page
    browser.get(path.as_uri())
    first = "document.querySelector('figure')"
    _wait(browser, f"return [...{first}.querySelectorAll('img')].every(i => i.complete && i.naturalWidth)")
    assert browser.execute_script(f"return {first}.querySelector('img').naturalWidth") == pairs[0].hr.shape[1]
    figures = browser.execute_script(
        "return [...document.querySelectorAll('figure')].map(f => [...f.querySelectorAll('select')].map(s => s.value))"
    )
    assert figures == [["bicubic", "ours <&>"], ["ours <&>", "HR"]] * 3

    clip = f"return getComputedStyle({first}.querySelectorAll('img')[1]).clipPath"
    slider = browser.find_element("css selector", "figure input[type=range]")
    before = browser.execute_script(clip)
    from selenium.webdriver import ActionChains, Keys

    slider.click()
    ActionChains(browser).send_keys_to_element(slider, *[Keys.ARROW_RIGHT] * 20).perform()
    assert slider.get_attribute("value") == "70" and browser.execute_script(clip) != before

    # The magnifier shows other pixels where the pointer moves.
    lens = f"return {first}.querySelector('canvas').toDataURL()"
    before = browser.execute_script(lens)
    image = browser.find_element("css selector", ".pair")
    ActionChains(browser).move_to_element_with_offset(image, -40, -30).perform()
    assert browser.execute_script(lens) != before

    # Another image on the left.
    source = f"return {first}.querySelectorAll('img')[1].src"
    before = browser.execute_script(source)
    from selenium.webdriver.support.select import Select

    Select(browser.find_element("css selector", "figure select")).select_by_value("HR")
    assert browser.execute_script(source) != before

    column = "return [...document.querySelectorAll('.pictures tbody tr')].map(r => r.cells[3].textContent)"
    head = browser.find_elements("css selector", ".pictures th")[3]
    assert head.text == "psnr_y"
    expected = sorted((row.scores["psnr_y"] for row in rows), reverse=True)
    for order in (expected, expected[::-1]):
        browser.execute_script("arguments[0].scrollIntoView()", head)
        head.click()
        assert browser.execute_script(column) == [f"{value:.3f}" for value in order]
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []


def test_images_are_embedded_losslessly(page):
    path, _, pairs = page
    embedded = json.loads(re.search(r'id="images">(.*?)</script>', path.read_text())[1])
    assert len(embedded) == len(pairs) == 3
    for pair in pairs:
        kind, _, content = embedded[f"cats/{pair.name}"]["HR"].partition(";base64,")
        assert kind == "data:image/webp"
        np.testing.assert_array_equal(images.decode_rgb(io.BytesIO(base64.b64decode(content))), pair.hr)
