"""What a public project has: one version."""

import importlib.metadata
import re
import tomllib
from pathlib import Path

import srgan_jax

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_version_stands_once():
    assert srgan_jax.__version__ == importlib.metadata.version("srgan-jax")
    version = re.compile(rf"\b{re.escape(PROJECT['version'])}\b")
    sources = [*(ROOT / "srgan_jax").rglob("*.py"), *(ROOT / "scripts").rglob("*"), *(ROOT / "configs").glob("*.py")]
    assert [path.name for path in sources if path.is_file() and version.search(path.read_text())] == []
