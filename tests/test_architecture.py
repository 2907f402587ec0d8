"""Tests of the package's structure against docs/architecture.md, of sizes, docstrings and what an import loads."""

import ast
import graphlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "srgan_jax"
FILES = sorted(PACKAGE.rglob("*.py"))

PAGE = (ROOT / "docs" / "architecture.md").read_text()
SUBPACKAGES = re.findall(r"^\| `(\w+)` \|", PAGE.split("## Subpackages")[1].split("\n## ")[0], re.MULTILINE)
TOP = ("__init__", "defaults", "main")  # files beside the subpackages, which none of them imports


def _name(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def _imports(path):
    """Yields the modules of the package that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (full.split(".")[1:] for full in found if full.startswith("srgan_jax"))


def test_the_page_lists_all_subpackages():
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert set(SUBPACKAGES) == folders and len(SUBPACKAGES) == len(folders)
    entries = {path.name for path in PACKAGE.iterdir()} - {"__pycache__", "py.typed"}
    assert entries == folders | {f"{name}.py" for name in TOP}
    assert len(entries) <= 18


def test_files_that_the_page_names_exist():
    named = re.findall(r"`(\w+/\w+\.py)`", PAGE)
    assert len(named) > 20
    for name in named:
        assert (PACKAGE / name).exists(), name


@pytest.mark.parametrize("path", [p for p in FILES if p.parent != PACKAGE], ids=_name)
def test_subpackages_import_from_those_above_them(path):
    own = _name(path).split(".")[0]
    for imported in _imports(path):
        assert imported and imported[0] in SUBPACKAGES, f"{_name(path)} imports {'.'.join(imported) or 'srgan_jax'}"
        assert SUBPACKAGES.index(imported[0]) <= SUBPACKAGES.index(own), f"{_name(path)} imports {'.'.join(imported)}"


def test_there_is_no_import_cycle():
    """The page orders the subpackages; inside a subpackage the modules only need some order."""
    graph = {_name(path): set() for path in FILES if path.parent != PACKAGE}
    for path in FILES:
        for parts in _imports(path):
            longest = next((".".join(parts[:n]) for n in (4, 3, 2, 1) if ".".join(parts[:n]) in graph), None)
            if longest and _name(path) in graph and longest != _name(path):
                graph[_name(path)].add(longest)
    list(graphlib.TopologicalSorter(graph).static_order())  # raises CycleError with the cycle


def _external(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.split(".")[0]


@pytest.mark.parametrize(
    ("library", "files"),
    [
        ("orbax", {"training.checkpoints", "training.checkpoint_reader", "training.old_checkpoints"}),
        ("tensorflow_datasets", {"data.builder", "data.feature_classes", "data.photo_folder"}),
        ("grain", {"data.stream"}),
        ("tensorboardX", {"training.writers"}),
        ("huggingface_hub", {"weights.hub"}),
        ("tensorflow", set()),
        ("torch", set()),  # export.torch looks for it and for spandrel when it runs
        ("onnx", {"export.onnx"}),
        ("onnxruntime", {"export.onnx"}),
    ],
)
def test_libraries_are_imported_in_one_place(library, files):
    assert {_name(path) for path in FILES if library in _external(path)} == files


@pytest.mark.parametrize("library", ["PIL", "tifffile", "imagecodecs"])
def test_only_the_images_subpackage_imports_image_libraries(library):
    assert {_name(path).split(".")[0] for path in FILES if library in _external(path)} == {"images"}


def test_importing_the_package_loads_nothing_of_training():
    heavy = ("optax", "orbax", "tensorflow_datasets", "grain", "ml_collections", "tensorboardX", "torch", "tensorflow")
    code = f"import sys, srgan_jax; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def _functions(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            yield node


def _code_lines(function):
    """Counts the lines of a function without docstring, comments and blank lines."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    lines = {n.lineno for statement in body for n in ast.walk(statement) if hasattr(n, "lineno")}
    return len(lines) + 1


LONGEST = {"train_and_evaluate": 60, "train_stage": 60, "gan_step": 60}  # lines of code


def test_files_and_functions_are_short():
    for path in FILES:
        assert len(path.read_text().splitlines()) <= 300, path.name
    functions = [(path.name, f) for path in FILES for f in _functions(path)]
    assert {f.name for _, f in functions if f.end_lineno - f.lineno > 60} <= LONGEST.keys()
    for _, function in functions:
        assert _code_lines(function) <= LONGEST.get(function.name, 60), function.name
    sizes = sorted(_code_lines(f) for _, f in functions)
    assert sizes[len(sizes) // 2] <= 10
    assert len((PACKAGE / "main.py").read_text().splitlines()) < 70


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_modules_and_public_names_have_docstrings(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), node.name
            methods = [m for m in node.body if isinstance(node, ast.ClassDef) and isinstance(m, ast.FunctionDef)]
            for method in methods:
                assert method.name.startswith("_") or ast.get_docstring(method), method.name


def test_pyproject_lists_every_package():
    """A wheel holds the packages that pyproject.toml lists, the recipes among them."""
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    found = {".".join(path.parent.relative_to(ROOT).parts) for path in PACKAGE.rglob("__init__.py")}
    assert sorted(listed) == sorted(found | {"srgan_jax.recipes"})


def test_recipes_are_found_by_name_from_any_folder(tmp_path, monkeypatch):
    """Also where a folder has the name of a recipe."""
    from srgan_jax.config import recipes

    (tmp_path / "srgan").mkdir()
    monkeypatch.chdir(tmp_path)
    assert recipes.find_config("srgan").name == "srgan.py"
    assert sorted(recipes.recipe_files()) == sorted(path.stem for path in (ROOT / "configs").glob("[!_]*.py"))
    with pytest.raises(ValueError, match="'srgna'; valid: celeba_lsgan"):
        recipes.find_config("srgna")
