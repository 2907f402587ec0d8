"""What a public project has: one version, workflows and forms that name what exists, a changelog of renamed keys."""

import importlib
import importlib.metadata
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

import srgan_jax
from srgan_jax.config import renamed

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
FORMS = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config")
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]


def _read(path):
    return yaml.safe_load(path.read_text())


def _steps():
    for path in WORKFLOWS:
        for name, job in _read(path)["jobs"].items():
            yield from ((f"{path.stem}: {name}", step) for step in job["steps"])


def _commands(name):
    """The commands of a workflow in one text."""
    jobs = _read(ROOT / ".github" / "workflows" / f"{name}.yml")["jobs"].values()
    return "\n".join(step["run"] for job in jobs for step in job["steps"] if "run" in step)


def test_the_version_stands_once():
    assert srgan_jax.__version__ == PROJECT["version"], "install the checkout again: bash scripts/setup.sh dev"
    version = re.compile(rf"\b{re.escape(PROJECT['version'])}\b")
    sources = [path for folder in ("srgan_jax", "scripts", "configs") for path in (ROOT / folder).rglob("*.py")]
    assert [path.name for path in sources if version.search(path.read_text())] == []
    assert _read(ROOT / "CITATION.cff")["version"] == PROJECT["version"]  # for people who cite; compared here
    assert f"\n## [{PROJECT['version']}] - " in (ROOT / "CHANGELOG.md").read_text()


def test_a_checkout_that_is_not_installed_has_no_version(monkeypatch):
    def not_installed(name):
        raise importlib.metadata.PackageNotFoundError(name)

    version = srgan_jax.__version__
    with monkeypatch.context() as patch:
        patch.setattr(importlib.metadata, "version", not_installed)
        assert importlib.reload(srgan_jax).__version__ == "unknown"
    assert importlib.reload(srgan_jax).__version__ == version


def test_there_is_a_workflow_for_each_purpose():
    assert [path.stem for path in WORKFLOWS] == ["docs", "nightly", "release", "tests"]
    assert {"ruff check .", "ruff format --check .", "basedpyright"} <= {
        line.removeprefix(".venv/bin/") for line in _commands("tests").splitlines()
    }
    assert "test.sh --fast" in _commands("tests") and "test.sh --torch --browser" in _commands("nightly")
    for command in ("build", "upscale", "--version", "release_check.py"):
        assert command in _commands("release")


def test_workflows_name_scripts_and_extras_that_exist():
    extras = {"docs", *PROJECT["optional-dependencies"]}
    for where, step in _steps():
        text = step.get("run", "")
        subprocess.run(["bash", "-n"], input=text, text=True, check=True)
        for script in re.findall(r"scripts/[\w/.]+", text):
            assert (ROOT / script).exists(), f"{where}: {script}"
        for names in re.findall(r"\.\[([\w,]+)\]", text) + re.findall(r"setup\.sh (\w+)", text):
            assert set(names.split(",")) <= extras, f"{where}: {names}"
        for flag in re.findall(r"test\.sh (.*)", text):
            for name in flag.split():
                assert f"\n    {name})" in (ROOT / "scripts" / "test.sh").read_text(), f"{where}: {name}"


def test_actions_are_pinned_by_major_version():
    used = [step["uses"] for _, step in _steps() if "uses" in step]
    assert used and all(re.fullmatch(r"actions/[\w-]+@v\d+", action) for action in used)


def test_workflows_may_only_read_the_repository():
    for path in WORKFLOWS:
        assert _read(path)["permissions"] == {"contents": "read"}, path.name


def test_the_matrix_has_the_supported_versions_of_python():
    prefix = "Programming Language :: Python :: 3."
    assert [f"3.{c.removeprefix(prefix)}" for c in PROJECT["classifiers"] if c.startswith(prefix)] == PYTHONS
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"
    tests, release = (_read(ROOT / ".github" / "workflows" / f"{name}.yml")["jobs"] for name in ("tests", "release"))
    assert tests["fast"]["strategy"]["matrix"]["python"] == PYTHONS
    assert release["use"]["strategy"]["matrix"]["python"] == [PYTHONS[0], PYTHONS[-1]]
    versions = [str(step["with"]["python-version"]) for _, step in _steps() if "python-version" in step.get("with", {})]
    assert {v for v in versions if not v.startswith("${{")} <= set(PYTHONS)


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.stem)
def test_issue_forms_ask_for_the_output_of_info(form):
    content = _read(form)
    assert content["name"] and content["description"] and content["body"]
    fields = [field for field in content["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields)
    for field in fields:
        assert field["type"] == "textarea" and field["attributes"]["label"]
        assert not {"label", "description", "render"}.symmetric_difference(field["attributes"]) - {
            "description",
            "render",
        }
    assert any("srgan-jax info" in field["attributes"]["label"] for field in fields)


def test_hooks_before_a_commit_are_those_of_the_test_script():
    (repository,) = _read(ROOT / ".pre-commit-config.yaml")["repos"]
    script = (ROOT / "scripts" / "test.sh").read_text()
    hooks = [Path(hook["entry"].split()[0]).name for hook in repository["hooks"]]
    assert sorted(set(hooks)) == ["basedpyright", "ruff"] and all(f"/{name}" in script for name in hooks)


def test_the_changelog_lists_the_renamed_keys():
    rows = re.findall(r"^\| `(\w+)` \| `([\w.=]+)` \|$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    generator_first = {"generator_first": f"step={renamed.STEP_OF_GENERATOR_FIRST}"}
    assert dict(rows) == renamed.STAGE_KEYS | generator_first


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "CHANGELOG.md", ".github/PULL_REQUEST_TEMPLATE.md"])
def test_pages_name_files_that_exist(page):
    text = (ROOT / page).read_text()
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if not link.startswith("http")]
    for path in links + re.findall(r"(?:scripts|docs|configs|examples)/[\w/]*(?:\.\w+)?", text):
        assert (ROOT / path).exists(), path
