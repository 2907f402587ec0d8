"""Tests that the links, commands, config keys, flags, names and examples on every page exist and work."""

import argparse
import ast
import importlib
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from srgan_jax import cli, images
from srgan_jax.config.command_line import apply_overrides
from srgan_jax.config.recipes import load_config, recipe_files
from srgan_jax.config.resolve import resolve
from srgan_jax.main import parser as main_parser
from srgan_jax.training import setup

ROOT = Path(__file__).parents[1]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in (*(ROOT / name for name in ("README.md", "RESULTS.md", "CONTRIBUTING.md")), *ROOT.glob("docs/*.md"))
    if path.exists()
}
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
# commands of others
ELSEWHERE = {"cd", "curl", "export", "git", "pre-commit", "ruff", "sbatch", "source", "tensorboard"}
FOREIGN = "docs/migrating.md"  # shows other projects' options


@pytest.fixture(autouse=True)
def tables():
    """The tables of names, as they were: a page's config file adds entries to them."""
    found = {place: _table(place) for _, (place,), _ in _names()}
    before = {place: dict(table) for place, table in found.items()}
    yield found
    for place, table in found.items():
        if table != before[place]:
            table.clear()
            table.update(before[place])


def _names():
    """The rows of "Names that a config can use": keys, table, names."""
    table = PAGES["docs/configs.md"].split("| key | table | names |")[1].split("\n\n")[0]
    return [[re.findall(r"`([^`]+)`", cell) for cell in line.split("|")[1:4]] for line in table.splitlines()[2:]]


def _table(place):
    module, _, name = place.rpartition(".")
    return getattr(importlib.import_module(f"srgan_jax.{module}"), name)


def _blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def _prose(text):
    """A page without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def _inline(page):
    return [code for line in _prose(PAGES[page]).splitlines() for code in re.findall(r"`([^`]+)`", line)]


# ---------------------------------------------------------------------------------------------- links


def _anchors(text):
    """The anchors of a page's headings, as GitHub and MyST make them."""
    titles = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_links_exist(page):
    for target in re.findall(r"\]\(([^)]+)\)", _prose(PAGES[page])):
        if re.match(r"https?://|mailto:", target):
            continue
        file, _, anchor = target.partition("#")
        path = (ROOT / page).parent / file if file else ROOT / page
        assert path.exists(), target
        assert not anchor or anchor in _anchors(path.read_text()), target


@pytest.mark.parametrize("page", PAGES)
def test_files_that_it_names_exist(page):
    named = re.findall(r"`((?:srgan_jax|configs|docs|scripts|tests)/[\w/.]*\.\w+)`", _prose(PAGES[page]))
    for path in named:
        assert (ROOT / path).exists(), path


# ---------------------------------------------------------------------------------------------- commands


def _commands(text):
    """Each command of the bash blocks, as words."""
    for block in _blocks(text, "bash"):
        for line in block.replace("\\\n", " ").replace(" && ", "\n").splitlines():
            if words := shlex.split(line, comments=True):
                words = words[: words.index(">")] if ">" in words else words
                yield words[next(i for i, word in enumerate(words) if not re.match(r"[A-Z_]+=", word)) :]


class Parsed(Exception):  # noqa: N818, no error
    """The arguments of a command were understood."""


def _parse(monkeypatch, main, arguments):
    """Runs a command up to the end of its argument parser."""
    parse, depth = argparse.ArgumentParser.parse_known_args, []

    def parse_and_stop(self, args=None, namespace=None):
        depth.append(self)
        found, unknown = parse(self, args, namespace)
        depth.pop()
        if not depth:
            raise Parsed(unknown)
        return found, unknown

    monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", parse_and_stop)
    monkeypatch.setattr(sys, "argv", ["command", *arguments])
    with pytest.raises(Parsed) as parsed:
        main()
    (unknown,) = parsed.value.args
    monkeypatch.undo()
    assert all(argument.startswith("--config.") for argument in unknown), f"unknown: {unknown}"


def _check_training(text, arguments, folder):
    args, overrides = main_parser().parse_known_args(arguments)
    config = args.config
    if config.endswith(".py") and not (ROOT / config).exists():  # a config file that the page shows
        (shown,) = [block for block in _blocks(text, "python") if "def get_config" in block]
        config = folder / config
        config.write_text(shown)
    values = load_config(str(config))
    apply_overrides(values, overrides)
    resolve(values)


def _check_script(monkeypatch, words):
    path = ROOT / words[0]
    assert path.exists(), words[0]
    if path.suffix == ".py":
        _parse(monkeypatch, importlib.import_module(path.stem).main, words[1:])
        return
    for flag in [word for word in words[1:] if word.startswith("-")]:
        assert re.search(rf"{flag}\b", path.read_text()), f"{words[0]} has no {flag}"
    if path.name == "setup.sh":
        assert set(",".join(words[1:]).split(",")) - {""} <= EXTRAS.keys(), words


@pytest.mark.parametrize("page", PAGES)
def test_commands_are_understood(page, monkeypatch, tmp_path):
    """Each with its real argument parser; a training command with its recipe and the keys that it sets."""
    for words in _commands(PAGES[page]):
        words = [words[0].removeprefix(".venv/bin/"), *words[1:]]
        words = words[2:] if words[:3] == ["python", "-m", "pip"] else words
        if words[0] == "srgan-jax":
            _parse(monkeypatch, cli.main, words[1:])
        elif words[:3] == ["python", "-m", "srgan_jax.main"]:
            _check_training(PAGES[page], words[3:], tmp_path)
        elif words[0] in ("bash", "python") and words[1].startswith("scripts/"):
            _check_script(monkeypatch, words[1:])
        elif words[:2] == ["pip", "install"]:
            for extras in re.findall(r"\[([\w,]+)\]", words[-1]):
                assert set(extras.split(",")) <= EXTRAS.keys(), f"no such extra: {words[-1]}"
        else:
            assert words[0] in ELSEWHERE, f"not checked: {words}"


def test_commands_are_found():
    """The test above has something to do."""
    found = [" ".join(words[:3]) for text in PAGES.values() for words in _commands(text)]
    assert sum(command.startswith("srgan-jax ") for command in found) > 20
    assert sum(command == "python -m srgan_jax.main" for command in found) > 10


@pytest.mark.parametrize("page", PAGES)
def test_extras_in_the_text_exist(page):
    for extras in re.findall(r'pip install "[.\w-]*\[([\w,]+)\]"', _prose(PAGES[page])):
        assert set(extras.split(",")) <= EXTRAS.keys(), extras


# ---------------------------------------------------------------------------------------------- keys and names


def _keys(config):
    for key, value in config.items():
        yield key
        if hasattr(value, "items"):
            yield from (f"{key}.{below}" for below in _keys(value))


@pytest.fixture(scope="module")
def keys():
    """Every key that some recipe has."""
    return {key for name in recipe_files() for key in _keys(load_config(name))}


@pytest.mark.parametrize("page", PAGES)
def test_config_keys_exist(page, keys):
    """Those written `config.KEY`, and those that begin with a section's name; NAME and KEY stand for any."""
    sections = {key.split(".")[0] for key in keys if "." in key}
    for code in _inline(page):
        found = re.match(r"(?:--)?(config\.)?(\w+(?:\.\w+)*)(?=$|[=, ])", code)
        if not found or code.endswith((".safetensors", ".py", ".md", ".json")) or re.search(r"\.[A-Z]+$", found[2]):
            continue
        prefix, key = found[1], found[2]
        if prefix or ("." in key and key.split(".")[0] in sections):
            pattern = re.sub(r"NAME|KEY", r"[^.]+", key.replace(".", r"\."))
            assert any(re.fullmatch(pattern, known) for known in keys), code


@pytest.mark.parametrize("page", [page for page in PAGES if page != FOREIGN])
def test_flags_exist(page):
    files = [*ROOT.glob("srgan_jax/cli/*.py"), ROOT / "srgan_jax" / "main.py", *ROOT.glob("scripts/**/*.*")]
    known = set(re.findall(r"--[a-z][\w-]*", "".join(path.read_text() for path in files)))
    flags = {flag for code in _inline(page) for flag in re.findall(r"(?<![\w-])--[a-z][\w-]*", code)}
    assert {flag for flag in flags if not flag.startswith("--xla_")} - {"--config"} <= known  # XLA's are not ours


def test_names_are_those_of_the_tables(tables):
    assert len(tables) >= 16
    for _, (place,), names in _names():
        assert sorted(tables[place]) == sorted(names), place


def _first_column(page, header):
    lines = PAGES[page].split(header)[1].split("\n\n")[0].splitlines()[2:]
    return [name for line in lines for name in re.findall(r"`([^`]+)`", line.split("|")[1])]


def test_importers_and_metrics_are_in_their_tables():
    from srgan_jax.evaluation.metrics import METRICS
    from srgan_jax.weights.importers import DISCRIMINATOR, IMPORTERS

    discriminators = _first_column("docs/weights.md", "| `--from` | source | network here |")
    assert sorted(discriminators) == sorted(DISCRIMINATOR.layouts)
    assert sorted(_first_column("docs/weights.md", "| `--from` | source |")) == sorted(IMPORTERS)
    assert sorted(_first_column("docs/evaluation.md", "| name | what it is | better | needs |")) == sorted(METRICS)


def test_every_public_name_is_in_the_reference():
    import srgan_jax

    documented = re.findall(r"^\.\. auto\w+:: srgan_jax\.(\w+)(?:\(\))?$", PAGES["docs/api.md"], re.MULTILINE)
    assert sorted(documented) == sorted(srgan_jax.__all__)


def test_every_page_is_in_the_contents():
    listed = set(re.findall(r"^(?:.*<)?(\w+)>?$", "\n".join(_blocks(PAGES["docs/index.md"], r"\{toctree\}")), re.M))
    assert {Path(page).stem for page in PAGES if page.startswith("docs/")} - {"index"} <= listed


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    for library in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(library, reason='needs pip install ".[docs]"')
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "docs", str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "stages.gan.balance_accuracy" in (tmp_path / "configs.html").read_text()  # the table of all keys


# ---------------------------------------------------------------------------------------------- examples


EXAMPLES = {
    f"{page} {number}": block
    for page, text in PAGES.items()
    for number, block in enumerate(_blocks(re.sub(r"<!-- not run: .*? -->\n```python", "```", text), "python"))
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_in_python_run(name, tmp_path, monkeypatch, photo):
    """With the shipped weights, beside a small photo.jpg; of a config file the checks before training."""
    monkeypatch.chdir(tmp_path)
    ast.parse(EXAMPLES[name])
    if "def get_config" in EXAMPLES[name]:
        Path("example.py").write_text(EXAMPLES[name])
        setup.build(resolve(load_config("example.py")))
        return
    images.write_image("photo.jpg", photo[:8, :8])
    names = {}
    exec(EXAMPLES[name], names)
    assert names["sr"].shape == (32, 32, 3) and images.image_size("larger.png") == (32, 32)


def test_the_tables_of_keys_are_current():
    """`python scripts/config_tables.py` writes them."""
    import config_tables

    assert config_tables.page_with_tables(PAGES["docs/configs.md"]) == PAGES["docs/configs.md"]
    assert "| `data.halo_px` | `0` |" in PAGES["docs/configs.md"]
