"""What a public project has: one version."""

import importlib
import importlib.metadata
import re
import tomllib
from pathlib import Path

import srgan_jax

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_version_stands_once():
    assert srgan_jax.__version__ == PROJECT["version"], "install the checkout again: bash scripts/setup.sh dev"
    version = re.compile(rf"\b{re.escape(PROJECT['version'])}\b")
    sources = [path for folder in ("srgan_jax", "scripts", "configs") for path in (ROOT / folder).rglob("*.py")]
    assert [path.name for path in sources if version.search(path.read_text())] == []


def test_a_checkout_that_is_not_installed_has_no_version(monkeypatch):
    def not_installed(name):
        raise importlib.metadata.PackageNotFoundError(name)

    version = srgan_jax.__version__
    with monkeypatch.context() as patch:
        patch.setattr(importlib.metadata, "version", not_installed)
        assert importlib.reload(srgan_jax).__version__ == "unknown"
    assert importlib.reload(srgan_jax).__version__ == version
