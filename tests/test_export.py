"""Tests that exported generators give the same images in other runtimes."""

import contextlib
import json
import re
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata

import helpers
import jax
import numpy as np
import pytest

import srgan_jax
from srgan_jax import cli, export, models


@pytest.fixture(scope="module")
def params():
    return helpers.random_weights(name="compact", blocks=1, width=4)


@pytest.fixture(scope="module")
def weights(params, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "small.safetensors"
    srgan_jax.save(path, params, {"dataset": "chelsea"})
    return path


def test_stablehlo_equals_the_generator(params, weights, tmp_path, capsys, photo):
    out = tmp_path / "small.stablehlo.zip"
    assert cli.main(["export", str(weights), "--to", "stablehlo", "--out", str(out)]) == 0
    assert "small.stablehlo.zip: 0.0 MB, differs from the original by at most" in capsys.readouterr().out
    call, about = export.load_stablehlo(out)
    assert about["dataset"] == "chelsea" and json.loads(about["architecture"])["name"] == "compact"
    for size in ((1, 5, 31), (3, 16, 9)):  # sizes that the export did not check
        lr = np.random.default_rng(1).random((*size, 3), np.float32)
        np.testing.assert_allclose(call(lr), srgan_jax.upscale(params, lr), atol=1e-5)
    with zipfile.ZipFile(out) as archive:
        exported = jax.export.deserialize(bytearray(archive.read("model.stablehlo")))
    assert set(exported.platforms) == {"cpu", "cuda", "rocm", "tpu"}
    assert cli.main(["export", str(weights), "--to", "stablehlo", "--out", str(out)]) == 2
    assert "exists; choose another --out, or add --overwrite" in capsys.readouterr().err


def _installed_with(requirements):
    """Returns the distributions that `pip install` without extras installs, where they are present."""
    found, waiting = set(), [*requirements]
    while waiting:
        name = _normal(re.match(r"[\w.-]+", waiting.pop())[0])
        if name not in found:
            with contextlib.suppress(metadata.PackageNotFoundError):  # a dependency of other systems
                waiting += [line for line in metadata.requires(name) or [] if "extra ==" not in line]
                found.add(name)
    return found


def _normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_export_needs_no_extras(weights, tmp_path):
    """The command runs with all packages hidden that `pip install` without extras does not install."""
    base = _installed_with(tomllib.loads((helpers.ROOT / "pyproject.toml").read_text())["project"]["dependencies"])
    owners = metadata.packages_distributions()
    hidden = {module for module, names in owners.items() if not base & set(map(_normal, names))} - {"srgan_jax"}
    command = ["export", str(weights), "--to", "stablehlo", "--out", str(tmp_path / "a.zip")]
    code = f"import sys; sys.modules |= dict.fromkeys({hidden}); import srgan_jax.cli; srgan_jax.cli.main({command})"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=helpers.environment(), cwd=helpers.ROOT
    )
    assert (tmp_path / "a.zip").exists(), result.stderr


def test_an_export_that_differs_is_refused(params, tmp_path, monkeypatch):
    """Uses a generator that gives other values where sizes are symbolic."""

    class Other(type(params.module())):
        def __call__(self, image, **options):
            return super().__call__(image, **options) + 0.01 * (not isinstance(image.shape[1], int))

    monkeypatch.setitem(models.GENERATORS, "other", Other)
    other = srgan_jax.make_weights(dict(params.variables), dict(params.architecture) | {"name": "other"})
    with pytest.raises(ValueError, match="StableHLO differs .*nothing was written"):
        export.to_stablehlo(other, tmp_path / "a.zip")
    assert list(tmp_path.iterdir()) == []


def test_usage_errors(weights, tmp_path, capsys):
    assert cli.main(["export", str(weights), "--to", "tflite"]) == 2
    assert "unknown format 'tflite'; valid: ncnn, onnx, stablehlo, torch" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match="no such file"):
        export.load_stablehlo(tmp_path / "none.zip")
    with pytest.raises(ValueError, match="is not a StableHLO file of srgan_jax"):
        export.load_stablehlo(weights)
