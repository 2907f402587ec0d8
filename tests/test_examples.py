"""The notebooks in examples/: stored without results, and each runs from top to bottom."""

import json
import subprocess
import sys
from pathlib import Path

import helpers
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "examples").glob("*.ipynb"))
LONGEST_S = 300  # on slow machines that do other things too; alone each takes less than 60 s on two cores

# In a process of its own: the kernel's messages and threads are nothing for pytest's strict warnings.
RUN = """
import sys, nbclient, nbformat
notebook = nbformat.read(sys.argv[1], as_version=4)
nbclient.NotebookClient(notebook, timeout=int(sys.argv[3]), kernel_name="python3").execute(cwd=sys.argv[2])
nbformat.write(notebook, sys.argv[2] + "/executed.ipynb")
"""


def _cells(notebook, kind):
    return [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == kind]


def test_there_are_notebooks():
    assert [path.name[:2] for path in NOTEBOOKS] == ["01", "02", "03", "04", "05"]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stored_without_results(notebook):
    for cell in _cells(notebook, "code"):
        assert cell["outputs"] == [] and cell["execution_count"] is None, "clear all outputs before you save"
    assert set(json.loads(notebook.read_text())["metadata"]) == {"kernelspec", "language_info"}
    assert "".join(_cells(notebook, "markdown")[0]["source"]).startswith("# ")


@pytest.mark.slow
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run(notebook, tmp_path):
    pytest.importorskip("ipykernel")
    folder = tmp_path / "here"
    folder.mkdir()
    environment = helpers.environment() | {"XLA_FLAGS": "", "PYTHONPATH": str(helpers.ROOT), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", RUN, str(notebook), str(folder), str(LONGEST_S)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=LONGEST_S)
    assert result.returncode == 0, result.stderr[-3000:]
    outputs = [output for cell in _cells(folder / "executed.ipynb", "code") for output in cell["outputs"]]
    assert any("image/png" in output.get("data", {}) for output in outputs), "no figure is shown"
