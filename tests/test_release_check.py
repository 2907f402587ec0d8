"""The release check: it names everything that is missing, one by one, and nothing else."""

import re
import subprocess
import zipfile
from pathlib import Path

import pytest

import release_check

PYPROJECT = """
[project]
name = "srgan-jax"
version = "1.2.0"
authors = [{name = "A. Author"}]
urls = {Repository = "https://example.org/repository"}

[tool.release_check]
name_may_be_published = true
"""
FILES = {
    "pyproject.toml": PYPROJECT,
    "SECURITY.md": "Write to security@example.org.\n",
    "CITATION.cff": "version: 1.2.0\nrepository-code: https://example.org/repository\nauthors:\n  - name: A. Author\n",
    "CHANGELOG.md": "# Changelog\n\n## [1.2.0] - 2030-01-31\n",
    "LICENSE": "text\n",
    ".gitignore": "dist/\n",
    "configs/srgan.py": "recipe\n",
    "srgan_jax/__init__.py": "package\n",
    "srgan_jax/py.typed": "",
    "srgan_jax/weights/pretrained/photo_x4.safetensors": "weights\n",
}
WHEEL = "dist/srgan_jax-1.2.0-py3-none-any.whl"
INSIDE = {
    "srgan_jax/recipes/srgan.py": "recipe\n",
    "srgan_jax/__init__.py": "package\n",
    "srgan_jax/py.typed": "",
    "srgan_jax/weights/pretrained/photo_x4.safetensors": "weights\n",
    "srgan_jax-1.2.0.dist-info/licenses/LICENSE": "text\n",
}


def _git(root, *arguments):
    names = ["-c", "user.name=A", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "-C", str(root), *names, *arguments], check=True, capture_output=True)


def _write_wheel(root, **left_out):
    with zipfile.ZipFile(root / WHEEL, "w") as archive:
        for name, text in INSIDE.items():
            if Path(name).name.replace(".", "_") not in left_out:
                archive.writestr(name, text)


@pytest.fixture
def root(tmp_path) -> Path:
    """A small project that lacks nothing."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "dist").mkdir()
    _write_wheel(tmp_path)
    _git(tmp_path, "init", "-q")
    _git(tmp_path, "add", "-A")
    _git(tmp_path, "commit", "-qm", "All")
    _git(tmp_path, "tag", "v1.2.0")
    return tmp_path


def test_a_complete_project_passes(root, capsys):
    assert release_check.main([], root) == 0
    assert capsys.readouterr().out == "nothing is missing\n"


@pytest.mark.parametrize(
    ("file", "before", "after", "expected"),
    [
        ("pyproject.toml", 'urls = {Repository = "https://example.org/repository"}', "", "no URL of the repository"),
        ("pyproject.toml", 'authors = [{name = "A. Author"}]', "", "pyproject.toml: no authors"),
        ("pyproject.toml", "published = true", "published = false", "the name srgan-jax may be published"),
        ("SECURITY.md", "security@example.org", "us", "SECURITY.md: no address"),
        ("CITATION.cff", "A. Author", "The srgan_jax authors", 'the authors are "The srgan_jax authors"'),
        ("CITATION.cff", "repository-code", "url", "CITATION.cff: no repository-code"),
        ("CITATION.cff", "1.2.0", "1.1.0", "CITATION.cff: expected version 1.2.0, got 1.1.0"),
        ("CHANGELOG.md", "[1.2.0]", "[1.1.0]", r"CHANGELOG.md: no section \[1.2.0\]"),
        ("CHANGELOG.md", "2030-01-31", "unreleased", "as YYYY-MM-DD, got 'unreleased'"),
    ],
)
def test_each_field_is_missed(root, file, before, after, expected):
    text = (root / file).read_text()
    assert before in text
    (root / file).write_text(text.replace(before, after))
    _git(root, "commit", "-qam", "Less")
    _git(root, "tag", "-f", "v1.2.0")
    (line,) = release_check.missing(root)
    assert re.search(expected, line), line


def test_git_is_looked_at(root):
    (root / "new.txt").write_text("not committed")
    assert release_check.missing(root) == ["git: not committed: new.txt"]
    _git(root, "add", "-A")
    _git(root, "commit", "-qm", "More")
    assert release_check.missing(root) == ["git: HEAD has no tag v1.2.0"]


def test_the_wheel_is_looked_into(root, capsys):
    _write_wheel(root, srgan_py=1, photo_x4_safetensors=1, LICENSE=1)
    assert release_check.missing(root) == [
        "wheel: no srgan_jax/recipes/srgan.py",
        "wheel: no srgan_jax/weights/pretrained/photo_x4.safetensors",
        "wheel: no LICENSE",
    ]
    with zipfile.ZipFile(root / WHEEL, "w") as archive:
        for name, text in INSIDE.items():
            archive.writestr(name, text.replace("recipe", "an older recipe"))
    (line,) = release_check.missing(root)
    assert line == "wheel: srgan_jax/recipes/srgan.py differs from the checkout; build it again"
    (root / WHEEL).unlink()
    assert release_check.main([], root) == 1
    assert "python -m build makes it\n1 missing\n" in capsys.readouterr().out


def test_this_checkout_is_read():
    """What the owner fills in is missing today; nobody is to invent it."""
    lines = release_check.missing(release_check.ROOT)
    assert all(re.match(r"[\w.]+: ", line) for line in lines)
