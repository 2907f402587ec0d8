"""Test of `examples/gradio_app.py` in a browser; skipped where gradio or Chromium isn't installed.

gradio is looked for in `.venv-gradio`, which `scripts/test.sh --browser` makes, then in the environment of the tests.
"""

import io
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import pytest

import srgan_jax
from srgan_jax import images

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_gradio_app_upscales_an_image(browser, weights, bilinear, tmp_path, photo):
    from selenium.webdriver.support.wait import WebDriverWait

    separate = ROOT / ".venv-gradio" / "bin" / "python"
    python = str(separate) if separate.exists() else sys.executable
    if subprocess.run([python, "-c", "import gradio"], capture_output=True).returncode:
        pytest.skip("gradio is not installed")
    images.write_image(tmp_path / "a.png", photo[:48, :64])
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    command = [python, str(ROOT / "examples" / "gradio_app.py"), weights]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        try:
            lines = iter(process.stdout.readline, "")
            address = next(match[0] for line in lines if (match := re.search(r"http://127\.0\.0\.1:\d+", line)))
            browser.get(address)
            wait = WebDriverWait(browser, 60)
            wait.until(lambda d: d.find_element("css selector", "input[type=file]")).send_keys(str(tmp_path / "a.png"))
            wait.until(lambda d: d.find_elements("css selector", "img[src*='a.png']"))
            browser.find_element("xpath", "//button[normalize-space()='Submit']").click()
            script = "return [...document.querySelectorAll('img')].map(i => [i.naturalWidth, i.src])"
            shown = wait.until(lambda d: [src for width, src in d.execute_script(script) if width == 128])
            with urllib.request.urlopen(shown[-1]) as response:
                found = images.decode_rgb(io.BytesIO(response.read()))
        finally:
            process.terminate()
    expected = np.asarray(srgan_jax.upscale(bilinear, photo[:48, :64]))
    np.testing.assert_allclose(found.astype(int), expected.astype(int), atol=1)
