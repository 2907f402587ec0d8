"""Tests of the web page: its models against Python, the folder and its errors, and the page itself in Chromium.

Those in Chromium need ONNX Runtime Web in the user's cache folder, where `srgan-jax web` puts it.
"""

import io
import json
import shutil
import struct
import threading
import time
import urllib.request
import zipfile
import zlib

import helpers
import jax
import numpy as np
import pytest
from PIL import Image

import srgan_jax
from srgan_jax import cli, weights
from srgan_jax.export import web
from srgan_jax.export.web import model, runtime
from srgan_jax.runtime.errors import UserError

CHROMIUM, DRIVER = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
FAKE_RUNTIME = {name: b"x" * 1000 for variant in runtime.VARIANTS.values() for name in variant}
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def small():
    """A generator of 2x with PReLU and a halo of 6 LR pixels, cheap enough for WebAssembly."""
    return helpers.random_weights(name="compact", blocks=2, width=8, scale=2)


def test_web_model_equals_python_with_the_same_rounded_weights(tmp_path, small):
    import onnx
    import onnxruntime

    made = model.write_web_model(small, tmp_path / "small.onnx", "small")
    loaded = onnx.load(tmp_path / "small.onnx")
    assert not {"Clip", "Shape"} & {node.op_type for node in loaded.graph.node}
    half = [array for array in loaded.graph.initializer if array.data_type == onnx.TensorProto.FLOAT16]
    assert sum(len(array.raw_data) for array in half) > 0.8 * 2 * small.parameter_count()

    options = onnxruntime.SessionOptions()  # as in the page: fixed shapes by the names of the dimensions
    for name, size in (("N", 1), ("H", 17), ("W", 20)):
        options.add_free_dimension_override_by_name(name, size)
    session = onnxruntime.InferenceSession(tmp_path / "small.onnx", options, providers=["CPUExecutionProvider"])
    lr = np.random.default_rng(0).random((17, 20, 3), np.float32)
    (sr,) = session.run(["sr"], {"lr": lr.transpose(2, 0, 1)[None]})
    rounded = small.replace(variables=jax.tree.map(lambda x: np.float32(np.float16(x)), small.variables))
    expected = np.asarray(srgan_jax.upscale(rounded, lr, clip=False))
    np.testing.assert_allclose(np.asarray(sr)[0].transpose(1, 2, 0), expected, atol=2e-5)
    assert made.difference < 1e-4 <= made.rounding < 0.02 or made.rounding < 1e-3
    assert (made.entry["scale"], made.entry["halo"], made.entry["exact"]) == (2, 6, True)


def test_a_model_that_does_not_fit_is_refused(tmp_path, small):
    huge = small.replace(variables=jax.tree.map(lambda x: x + np.float32(70000), small.variables))
    with pytest.raises(UserError, match="beyond 65504"):
        model.write_web_model(huge, tmp_path / "x.onnx", "huge")
    gray = helpers.random_weights(name="compact", blocks=1, width=4, scale=2, channels=1)
    with pytest.raises(UserError, match="gray has 1 channels: expected 3"):
        model.write_web_model(gray, tmp_path / "x.onnx", "gray")
    assert not (tmp_path / "x.onnx").exists()


def test_folders_packages_and_ports_that_do_not_fit(tmp_path, small, capsys):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="holds other files"):
        web.write_site(tmp_path / "other", {"small": (small, {})}, FAKE_RUNTIME)
    with pytest.raises(UserError, match="has no ort.wasm.min.mjs"):
        runtime.runtime_files(tmp_path / "other")
    (tmp_path / "dist").mkdir()
    for name, content in FAKE_RUNTIME.items():
        (tmp_path / "dist" / name).write_bytes(content)
    with pytest.raises(UserError, match=f"expected .*, that of version {runtime.VERSION}"):
        runtime.runtime_files(tmp_path)
    (tmp_path / "broken.tgz").write_bytes(b"not a tarball")
    for given in ("broken.tgz", "absent.tgz"):
        assert cli.main(["web", "-o", str(tmp_path / "site"), "--with-runtime", str(tmp_path / given)]) == 2
        assert f"npm pack onnxruntime-web@{runtime.VERSION}" in capsys.readouterr().err
    wrong_arguments = {"from 0": ["site", "--serve", "99999"], "holds other": ["other"], "is a file": ["broken.tgz"]}
    for message, wrong in wrong_arguments.items():
        assert cli.main(["web", "-o", str(tmp_path / wrong[0]), *wrong[1:], "--with-runtime", "absent"]) == 2
        assert message in capsys.readouterr().err  # before the runtime is read
    assert not (tmp_path / "site").exists()
    with web.serve(tmp_path, 0) as server, pytest.raises(UserError, match="can't be used"):
        web.serve(tmp_path, server.server_address[1])


@pytest.fixture(scope="module")
def fake_site(tmp_path_factory, small):
    """The folder without a working runtime."""
    site = web.write_site(tmp_path_factory.mktemp("fake") / "site", {"small": (small, {"data": "<b>"})}, FAKE_RUNTIME)
    return site.folder


def test_the_folder_names_its_files_and_no_other_server(fake_site):
    head, _, rest = (fake_site / "sw.js").read_text().partition("\n")
    kept = json.loads(head.removeprefix("const SITE = ").removesuffix(";"))
    assert rest.startswith("//") and set(kept["files"]) >= {"./", "page.js", "slider.js", "models/small.onnx"}
    for name in kept["files"]:
        assert (fake_site / name).exists(), name
    for path in (path for path in fake_site.iterdir() if path.is_file()):
        assert "http://" not in path.read_text() and "https://" not in path.read_text(), path
    assert "connect-src 'self'" in (fake_site / "index.html").read_text()
    info = json.loads((fake_site / "site.json").read_text())
    assert info["runtime"] == {"version": runtime.VERSION, "wasm": 3000, "webgpu": 3000}


def test_the_server_isolates_the_page(fake_site):
    server = web.serve(fake_site, 0)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with server, urllib.request.urlopen(f"http://127.0.0.1:{server.server_address[1]}/") as page:
        assert page.headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert page.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
        assert "connect-src 'self'" in page.headers["Content-Security-Policy"]
        with urllib.request.urlopen(f"{page.url}runtime/ort.wasm.min.mjs") as script:
            assert script.headers["Content-Type"] == "text/javascript"
        server.shutdown()


# In Chromium.


class Page:
    """The page in a browser, served from this machine until `cut`."""

    def __init__(self, folder, downloads, profile, flags=()):
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in ("headless=new", "no-sandbox", "disable-dev-shm-usage", "window-size=1280,1000", *flags):
            options.add_argument(f"--{flag}")
        for flag in ("disable-background-networking", "disable-component-update", "disable-sync", "no-first-run"):
            options.add_argument(f"--{flag}")
        options.add_argument(f"--user-data-dir={profile}")
        many = {"profile.default_content_setting_values.automatic_downloads": 1}  # the tests' clicks aren't a person's
        options.add_experimental_option("prefs", {"download.default_directory": str(downloads), **many})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
        self.driver.set_script_timeout(60)
        self.downloads = downloads
        self.server = web.serve(folder, 0)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/"

    def cut(self):
        self.server.shutdown()
        self.server.server_close()

    def open(self, query=""):
        self.driver.get(self.url + query)
        return self.until(lambda: (text := self.text("#status")).startswith("Ready") and text)

    def text(self, selector):
        return self.driver.find_element("css selector", selector).text

    def until(self, condition, seconds=120):
        end = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < end, self.driver.find_element("css selector", "body").text
            time.sleep(0.05)
        return value

    def add(self, *paths):
        self.driver.find_element("id", "files").send_keys("\n".join(map(str, paths)))

    def card(self, ends=("Done", "Cancelled", "error", "expected")):
        """Waits for the last picture, and returns the element and the text of its card."""
        find = lambda: self.driver.find_elements("css selector", "#jobs > li")[-1]  # noqa: E731
        self.until(lambda: "Remove" in find().text and any(end in find().text for end in ends))
        return find(), find().text

    def saved(self, button, name):
        """Clicks on an element and returns the file that is saved."""
        path = self.downloads / name
        path.unlink(missing_ok=True)
        self.driver.execute_script("arguments[0].click()", button)
        self.until(lambda: path.exists() and path.stat().st_size and not list(self.downloads.glob("*.crdownload")))
        return path.read_bytes()

    def upscaled(self, path, scale=2):
        """Upscales a file and returns the pixels of its PNG."""
        self.add(path)
        card, text = self.card()
        assert "Done" in text, text
        data = self.saved(card.find_element("css selector", "a.save"), f"{path.stem}_x{scale}.png")
        return np.asarray(Image.open(io.BytesIO(data)))


@pytest.fixture(scope="module")
def site(tmp_path_factory, small):
    """The folder with ONNX Runtime Web, and the weights file of its generator."""
    if not (CHROMIUM and DRIVER):
        pytest.skip("Chromium and its driver are not installed (scripts/test.sh --browser)")
    if not runtime.cached_tarball().exists():
        pytest.skip(f"no ONNX Runtime Web at {runtime.cached_tarball()} (scripts/test.sh --browser)")
    folder = tmp_path_factory.mktemp("web")
    rounded = small.replace(variables=jax.tree.map(lambda x: np.float32(np.float16(x)), small.variables))
    weights.save(folder / "small.safetensors", rounded)
    web.write_site(folder / "site", {"small": (rounded, {})}, runtime.runtime_files(None))
    return folder / "site", folder / "small.safetensors"


@pytest.fixture(scope="module")
def page(site, tmp_path_factory):
    opened = Page(site[0], tmp_path_factory.mktemp("downloads"), tmp_path_factory.mktemp("profile"), ["disable-gpu"])
    yield opened
    opened.driver.quit()
    opened.server.server_close()


def _by_command(tmp_path, source, generator):
    assert (
        cli.main(
            ["upscale", str(source), "-o", str(tmp_path / "command.png"), "--weights", str(generator), "--overwrite"]
        )
        == 0
    )
    return np.asarray(Image.open(tmp_path / "command.png"))


def _difference(a, b):
    assert a.shape == b.shape
    return np.abs(a.astype(int) - b.astype(int))


@pytest.mark.slow
def test_tiles_cover_the_image_and_overlap_enough(page):
    page.open()
    wrong = page.driver.execute_async_script("""
      const done = arguments[0];
      import("./tiles.js").then(({spans}) => {
        const wrong = [];
        for (const period of [1, 2, 8]) for (const halo of [0, 3, 14]) for (const longest of [48, 63]) {
          for (let size = 1; size < 300; size++) {
            const {length, spans: tiles} = spans(size, longest, halo, period), last = tiles.length - 1;
            const good = tiles.every((tile, i) => tile.keepStart === (i ? tiles[i - 1].keepStop : 0) &&
              tile.start % period === 0 && tile.start + length <= size &&
              (i === 0 ? tile.start === 0 : tile.keepStart - tile.start >= halo) &&
              (i === last ? tile.start + length === size : tile.start + length - tile.keepStop >= halo)) &&
              tiles[last].keepStop === size && length <= Math.max(Math.min(size, longest) + 3 * period, 1);
            if (!good) wrong.push([size, longest, halo, period, length, JSON.stringify(tiles)]);
          }
        }
        done(wrong.slice(0, 3));
      });""")
    assert wrong == []


@pytest.mark.slow
def test_the_page_equals_the_command_without_network(page, site, photo, tmp_path):
    assert "2 thread" in page.open() or page.driver.execute_script("return navigator.hardwareConcurrency") == 1
    assert page.driver.execute_script("return crossOriginIsolated")
    page.cut()
    source = _png(tmp_path / "cat.png", photo)  # 300 x 448: four tiles
    expected = _by_command(tmp_path, source, site[1])
    assert _difference(page.upscaled(source), expected).max() <= 1
    assert "without network" in page.open()  # reloaded, from the service worker's files
    cropped = _png(tmp_path / "second.png", photo[:33, :41])
    assert _difference(page.upscaled(cropped), _by_command(tmp_path, cropped, site[1])).max() <= 1

    transparent = np.dstack([photo[:40, :50], np.linspace(0, 255, 2000).reshape(40, 50).astype(np.uint8)])
    source = _png(tmp_path / "alpha.png", transparent)
    got, expected = page.upscaled(source), _by_command(tmp_path, source, site[1])
    difference = _difference(got, expected)
    assert difference[..., 3].max() <= 1
    assert difference[..., :3][expected[..., 3] > 3].max() <= 1

    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.fromarray(photo[:32, :48]).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    assert page.upscaled(tmp_path / "turned.jpg").shape == (96, 64, 3)

    # Red of Display P3, which sRGB lacks; cICP 12, 13 are its primaries and the curve of sRGB (PNG, third edition).
    display_p3, rows = _chunk(b"cICP", bytes([12, 13, 0, 1])), zlib.compress(b"\0" + b"\xff\0\0" * 8)
    (tmp_path / "p3.png").write_bytes(_png_head(8, 1) + display_p3 + _chunk(b"IDAT", rows) + _chunk(b"IEND", b""))
    page.upscaled(tmp_path / "p3.png")
    assert display_p3 in (page.downloads / "p3_x2.png").read_bytes()

    both = page.saved(page.driver.find_element("id", "zip"), "larger.zip")
    with zipfile.ZipFile(io.BytesIO(both)) as archive:
        assert archive.testzip() is None and archive.namelist() == [
            f"{name}_x2.png" for name in ("second", "alpha", "turned", "p3")
        ]
    card, _ = page.card()
    jpeg = page.saved(card.find_element("xpath", ".//button[text()='Save JPEG']"), "p3_x2.jpg")
    assert Image.open(io.BytesIO(jpeg)).format == "JPEG"
    webp = page.saved(card.find_element("xpath", ".//button[text()='Save WebP']"), "p3_x2.webp")
    assert Image.open(io.BytesIO(webp)).size == (16, 2)

    asked = [json.loads(entry["message"])["message"] for entry in page.driver.get_log("performance")]
    urls = {event["params"]["request"]["url"] for event in asked if event["method"] == "Network.requestWillBeSent"}
    web_urls = [url for url in urls if not url.startswith(("blob:", "data:", "chrome:"))]  # chrome: its own pages
    assert len(web_urls) > 5 and [url for url in web_urls if not url.startswith(page.url)] == []
    severe = [entry for entry in page.driver.get_log("browser") if entry["level"] == "SEVERE"]
    assert [entry for entry in severe if "ERR_CONNECTION_REFUSED" not in entry["message"]] == []  # sw.js is asked for


@pytest.mark.slow
def test_bad_huge_and_wide_files_and_cancel(page, photo, tmp_path):
    page.open()
    (tmp_path / "text.png").write_text("not a picture")
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "huge.png").write_bytes(_png_head(60000, 50000))
    messages = {"text.png": "can't read it", "empty.jpg": "is empty", "huge.png": "announces 60000 \u00d7 50000"}
    for name, message in messages.items():
        page.add(tmp_path / name)
        assert message in page.card(ends=(message,))[1]

    page.add(_png(tmp_path / "many.png", np.tile(photo, (6, 4, 1))), _png(tmp_path / "next.png", photo[:16, :16]))
    first, second = page.driver.find_elements("css selector", "#jobs > li")[-2:]
    page.until(lambda: "left" in first.text)
    first.find_element("css selector", "button").click()
    page.until(lambda: "Cancelled" in first.text and "Done" in second.text)  # the second is computed after it

    page.add(_png(tmp_path / "wide.png", np.tile(photo[:4], (1, 20, 1))[:, :8200]))
    card, text = page.card()
    assert "8200 \u00d7 4 \u2192 16400 \u00d7 8" in text and "shown reduced" in text and "saved as PNG only" in text
    assert not card.find_element("xpath", ".//button[text()='Save JPEG']").is_enabled()
    data = page.saved(card.find_element("css selector", "a.save"), "wide_x2.png")
    assert Image.open(io.BytesIO(data)).size == (16400, 8)


@pytest.mark.slow
def test_several_files_are_dropped(page, photo, tmp_path):
    """Two pictures, and a text, which costs the others nothing."""
    page.open()
    paths = [
        _png(tmp_path / "one.png", photo[:16, :20]),
        tmp_path / "notes.txt",
        _png(tmp_path / "two.png", photo[:9, :8]),
    ]
    paths[1].write_text("no picture")
    data = {"items": [], "files": list(map(str, paths)), "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        event = {"type": kind, "x": 200, "y": 200, "data": data}
        page.driver.execute_cdp_cmd("Input.dispatchDragEvent", event)
        assert page.driver.execute_script("return document.body.classList.contains('over')") == (kind == "dragOver")
    cards = page.until(lambda: (found := page.driver.find_elements("css selector", "#jobs > li"))[2:] and found)
    page.until(lambda: all("Remove" in card.text for card in cards))
    first, text, second = (card.text for card in cards)
    assert "20 \u00d7 16 \u2192 40 \u00d7 32" in first and "8 \u00d7 9 \u2192 16 \u00d7 18" in second
    assert "notes.txt" in text and "can't read it as an image" in text
    both = page.saved(page.driver.find_element("id", "zip"), "larger.zip")
    with zipfile.ZipFile(io.BytesIO(both)) as archive:
        assert archive.namelist() == ["one_x2.png", "two_x2.png"]


@pytest.mark.slow
def test_webgpu_computes_every_node(site, photo, tmp_path):
    """With SwiftShader in place of a GPU: the page refuses sessions in which a node falls back to the CPU."""
    flags = ["enable-unsafe-webgpu", "use-webgpu-adapter=swiftshader", "enable-features=Vulkan"]
    page = Page(site[0], tmp_path, tmp_path / "profile", flags)
    try:
        if not page.driver.execute_async_script("const d=arguments[0]; navigator.gpu?.requestAdapter().then(d) ?? d()"):
            pytest.skip("this Chromium has no WebGPU adapter")
        page.open("?backend=webgpu")
        assert page.upscaled(_png(tmp_path / "tiny.png", photo[:12, :12])).shape == (24, 24, 3)
        status = page.text("#status")
        assert "WebGPU." in status or "slower" in status, status
    finally:
        page.driver.quit()
        page.cut()


def _chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png_head(width, height):
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


def _png(path, pixels):
    Image.fromarray(pixels).save(path)
    return path
