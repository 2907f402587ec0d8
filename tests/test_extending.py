"""Runs docs/extending.md: one config file adds an entry to six tables; another process uses the weights."""

import json
import re
import subprocess
import sys
from collections.abc import MutableMapping
from pathlib import Path

import helpers
import pytest

from srgan_jax import images

PAGE = (Path(__file__).parents[1] / "docs" / "extending.md").read_text()
OVERRIDES = {
    "data.crop_px": 32, "data.batch_size": 4, "validation.hold_out": 1, "log_every_steps": 1, "sample_pictures": 0,
    "stages.pretrain.total_steps": 2, "stages.gan.total_steps": 2,
}  # fmt: skip


def _run(folder, *arguments):
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(
        command, cwd=folder, env=helpers.environment(), capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory, photo):
    """A folder with the page's file, photographs, and what the page's first command trained."""
    folder = tmp_path_factory.mktemp("extending")
    (folder / "mine.py").write_text(re.search(r"```python\n(.*?)```", PAGE, re.DOTALL).group(1))
    for index in range(5):
        images.write_image(folder / "PHOTOS" / f"{index}.png", photo[20 * index : 20 * index + 64, :72])
    overrides = [f"--config.{key}={value}" for key, value in OVERRIDES.items()]
    arguments = ["--config", "mine.py", "--workdir", "runs/mine", "--config.data.folder=PHOTOS", *overrides]
    result = _run(folder, "srgan_jax.main", *arguments)
    assert result.returncode == 0, result.stderr
    return folder


@pytest.mark.slow
def test_every_entry_is_used(trained):
    rows = [json.loads(line) for line in (trained / "runs" / "mine" / "metrics.jsonl").read_text().splitlines()]
    assert {"frequency", "loss_db", "d_loss", "adversarial", "pixel"} <= rows[-2].keys()
    assert rows[-1]["val_mae"] > 0
    # The weight ramps up to 0.1 in 100 updates: the first update has a hundredth of it, the second two hundredths.
    weights = [row["frequency"] / row["frequency_unweighted"] for row in rows if "frequency" in row]
    assert weights == pytest.approx([0.001, 0.002] * 2, rel=1e-5)
    recorded = json.loads((trained / "runs" / "mine" / "config.json").read_text())
    assert recorded["generator"]["name"] == "edsr_bare" and recorded["degradation"]["name"] == "area"


@pytest.mark.slow
def test_another_process_upscales_and_scores(trained):
    arguments = ["PHOTOS/0.png", "-o", "larger.png", "--weights", "runs/mine"]
    assert _run(trained, "srgan_jax.cli", "upscale", *arguments, "--import", "mine.py").returncode == 0
    assert images.image_size(trained / "larger.png") == (256, 288)
    refused = _run(trained, "srgan_jax.cli", "upscale", *arguments, "--overwrite")
    assert refused.returncode == 2 and "'edsr_bare'" in refused.stderr and "--import" in refused.stderr
    arguments = ["--weights", "runs/mine", "--data", "PHOTOS", "--metrics", "psnr_y", "mae"]
    scored = _run(trained, "srgan_jax.cli", "evaluate", *arguments, "--import", "mine.py")
    assert scored.returncode == 0 and "PHOTOS  mine " in scored.stdout and "mae: mean absolute" in scored.stdout


def test_tables_that_the_page_names_exist():
    from srgan_jax import degradations, export, losses, models
    from srgan_jax.data import sources
    from srgan_jax.evaluation import metrics
    from srgan_jax.models import layers
    from srgan_jax.training import optimizers, steps, writers
    from srgan_jax.weights import importers

    places = (degradations, export, losses, models, sources, metrics, layers, optimizers, steps, importers, writers)
    names = set(re.findall(r"`(?:[\w.]+\.)?([A-Z_]{4,})`", PAGE)) - {"TAKES"}
    assert len(names) >= 14
    for name in names:
        assert any(isinstance(getattr(place, name, None), MutableMapping) for place in places), name
