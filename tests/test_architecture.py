"""The structure of the package: who may import whom, sizes, docstrings, and what importing it loads."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "srgan_jax"
FILES = sorted(PACKAGE.rglob("*.py"))

# A file imports from lower levels only; files of one level and folder in the order they stand here.
LEVELS = [
    ["errors"],
    ["resize", "color", "defaults", "paths", "pretrained", "runtime.random_keys", "runtime"],
    ["losses", "optimizers", "guard", "manifest", "devices", "compilation", "tensors"]
    + [f"degradations.{name}" for name in ("filters", "jpeg", "simple", "photo", "second_order")]
    + ["degradations", "models.convolution", "models.layers", "models.msrresnet", "models.compact", "models.rrdb"]
    + ["models.restoration", "models.generator", "models.discriminator_layers", "models.unet_discriminator"]
    + ["models.discriminator", "models.resnet", "models.extractor", "models"],
    ["metrics.common", "metrics.fidelity", "metrics.naturalness", "metrics.perceptual", "metrics"],
    ["weights", "steps", "checkpoints"]
    + [f"images.{name}" for name in ("files", "deep", "pictures", "rgb", "tiff", "formats", "resampling")]
    + ["images"],
    ["arguments"],
    ["adversarial", "data"]
    + [f"data.{name}" for name in ("sampling", "matching", "builder", "mending", "pairs", "pipeline")]
    + ["tiling.grid", "tiling.sources", "tiling.tiler", "tiling", "inference", "importers"],
    ["export"],
    ["evaluate", "logs"],
    ["comparison", "stages"],
    ["samples", "runs"],
    ["train", "report", "files.jobs", "files.results", "files.upscaling", "files"],
    ["cli_pictures"],
    ["main", "cli"],
]  # fmt: skip
ORDER = {name: place for place, name in enumerate(name for level in LEVELS for name in level)}
LEVEL = {name: number for number, level in enumerate(LEVELS) for name in level}


def _name(path):
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__")


def _imports(path):
    """Modules of the package that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for full in found:
            if full.startswith("srgan_jax"):
                parts = full.split(".")[1:]
                yield next(".".join(parts[:n]) for n in (2, 1) if ".".join(parts[:n]) in ORDER)


def test_every_file_has_a_level():
    assert {_name(path) for path in FILES} - {"__init__"} == set(ORDER)


@pytest.mark.parametrize("path", [p for p in FILES if _name(p) != "__init__"], ids=_name)
def test_imports_go_one_way(path):
    name = _name(path)
    for imported in _imports(path):
        inside = name.split(".")[0] == imported.split(".")[0]
        assert ORDER[imported] < ORDER[name] and (inside or LEVEL[imported] < LEVEL[name]), f"{name} imports {imported}"


def _external(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module.split(".")[0]


@pytest.mark.parametrize(
    ("library", "files"),
    [
        ("orbax", {"checkpoints"}),
        ("tensorflow_datasets", {"data.builder"}),
        ("grain", {"data.pipeline"}),
        ("PIL", {f"images.{name}" for name in ("files", "formats", "pictures", "resampling", "tiff")}),
        ("tifffile", {"images.deep", "images.tiff"}),
        ("imagecodecs", {"images.formats", "images.deep"}),
        ("tensorboardX", {"logs"}),
        ("tensorflow", set()),
        ("torch", {"importers"}),
    ],
)
def test_libraries_have_one_door(library, files):
    assert {_name(path) for path in FILES if library in _external(path)} == files


def test_importing_the_package_loads_nothing_of_training():
    heavy = ("optax", "orbax", "tensorflow_datasets", "grain", "ml_collections", "tensorboardX", "torch", "tensorflow")
    code = f"import sys, srgan_jax; print([m for m in {heavy} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_training_loads_no_torch(tmp_path):
    """Where PyTorch is installed it would be half of the start of training."""
    pytest.importorskip("torch")
    code = (
        "import pathlib, sys\nfrom srgan_jax import logs, train\n"
        f"logs.StageLog(pathlib.Path({str(tmp_path)!r}), 'gan', 0, 1, 1).write(1, {{'loss': 0.5}})\n"
        "print('torch' in sys.modules, 'tensorboardX' in sys.modules)\nimport torch; print(torch.ones(1).item())"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "True", "1.0"]
    assert list((tmp_path / "tensorboard" / "gan").glob("events.out.tfevents.*"))


def _functions(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            yield node


def _code_lines(function):
    """Lines without docstring, comments and blanks."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    lines = {n.lineno for statement in body for n in ast.walk(statement) if hasattr(n, "lineno")}
    return len(lines) + 1


def test_sizes():
    for path in FILES:
        assert len(path.read_text().splitlines()) <= (400 if path.name == "train.py" else 300), path.name
    functions = [(path.name, f) for path in FILES for f in _functions(path)]
    assert {f.name for _, f in functions if f.end_lineno - f.lineno > 60} <= {"train_and_evaluate"}
    sizes = sorted(_code_lines(f) for _, f in functions)
    assert sizes[len(sizes) // 2] <= 10
    assert len((PACKAGE / "main.py").read_text().splitlines()) < 70


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_public_things_have_docstrings(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), node.name
            methods = [m for m in node.body if isinstance(node, ast.ClassDef) and isinstance(m, ast.FunctionDef)]
            for method in methods:
                assert method.name.startswith("_") or ast.get_docstring(method), method.name
