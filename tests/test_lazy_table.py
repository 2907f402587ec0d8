"""Tables whose classes are imported when they are used, and the nested dicts that need no import of Flax."""

import os
import subprocess
import sys
from pathlib import Path

import flax.core
import flax.traverse_util
import numpy as np
import pytest
from PIL import Image

from srgan_jax import models
from srgan_jax.models.generators.edsr import EDSR
from srgan_jax.runtime import trees
from srgan_jax.runtime.errors import UserError, lookup
from srgan_jax.runtime.lazy_table import LazyTable

ROOT = Path(__file__).parents[1]


def test_an_entry_is_imported_when_it_is_used():
    """The names of a table can be listed though a module of it doesn't exist."""
    table = LazyTable("srgan_jax.models.generators", {"edsr": "edsr:EDSR", "absent": "absent:Absent"})
    assert list(table) == ["edsr", "absent"] and len(table) == 2 and "absent" in table
    assert table["edsr"] is EDSR
    with pytest.raises(ModuleNotFoundError):
        table["absent"]
    with pytest.raises(UserError, match="valid: absent, edsr; did you mean 'edsr'"):
        lookup(table, "edsr2", "network")


def test_classes_of_your_own_are_told_apart(monkeypatch):
    """Values computed from them are not kept between starts, because their code may change."""
    table = models.GENERATORS
    assert table.is_of_package("compact") and not table.is_of_package("unknown")
    for own in (type("Compact", (EDSR,), {"__module__": "mine"}), EDSR):
        monkeypatch.setitem(table, "compact", own)
        assert table["compact"] is own and not table.is_of_package("compact")
    monkeypatch.undo()
    assert table.is_of_package("compact") and table["compact"].__name__ == "CompactResNet"


@pytest.mark.parametrize("table", [models.GENERATORS, models.DISCRIMINATORS, models.EXTRACTORS])
def test_every_class_of_a_table_exists(table):
    assert all(kind.__module__.startswith("srgan_jax.models.") for kind in table.values())


START = """
import sys
from srgan_jax import cli
status = cli.main(sys.argv[1:])
print("imported" if "flax" in sys.modules else "not imported")
sys.exit(status)
"""


@pytest.mark.slow
def test_flax_is_imported_by_the_first_start_alone(tmp_path):
    """A later start knows the network's properties and has its program: importing Flax takes a tenth of a start."""
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path / "cache"), "PYTHONPATH": str(ROOT)}
    for name in ("XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR"):  # no program would be kept
        environment.pop(name, None)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "a.png")
    said = []
    for start in range(2):
        command = [sys.executable, "-c", START, "upscale", "a.png", "-o", f"{start}.png"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment, check=True)
        said.append(done.stdout.splitlines()[-1])
    assert said == ["imported", "not imported"]
    assert (tmp_path / "0.png").read_bytes() == (tmp_path / "1.png").read_bytes()


NESTED = {"params": {"conv": {"kernel": 1, "bias": 2}, "act": {"slope": 3}}, "batch_stats": {"norm": {"mean": 4}}}


@pytest.mark.parametrize("tree", [NESTED, flax.core.freeze(NESTED)])
def test_nested_dicts_by_path_are_those_of_flax(tree):
    flat = trees.flatten(tree)
    assert flat == flax.traverse_util.flatten_dict(NESTED, sep="/")
    assert trees.unflatten(flat) == NESTED


@pytest.mark.parametrize("names", [("a/b", "a"), ("a", "a/b"), ("a/b/c", "a/b")])
def test_a_tensor_inside_another_is_refused(names):
    """As the header of a crafted file may have it."""
    with pytest.raises(ValueError, match="inside"):
        trees.unflatten(dict.fromkeys(names, 0))


def test_frozen_mappings_are_equal_by_content():
    first = trees.FrozenMapping({"name": "compact", "heads": (2, 2)})
    second = trees.FrozenMapping({"heads": (2, 2), "name": "compact"})
    assert first == second == {"name": "compact", "heads": (2, 2)} and hash(first) == hash(second)
    assert first != trees.FrozenMapping({"name": "compact"}) and {first: 1}[second] == 1
    with pytest.raises(TypeError):
        first["name"] = "edsr"  # pyright: ignore[reportIndexIssue]
