"""Every notebook runs from its first cell to its last, and is kept without outputs."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted([*(ROOT / "notebooks").glob("*.ipynb"), *(ROOT / "templates").glob("*/explore.ipynb")])

# In the fast set the one that a newcomer opens; the others cost half a minute each.
FAST = "01_first_transfer.ipynb"
RUN = [one if one.name == FAST else pytest.param(one, marks=pytest.mark.slow) for one in NOTEBOOKS]

# Put in after the cell that makes `config`: the same work, fewer epochs.
SHORTEN = """
import dataclasses
fewer = {"labels_per_class": 5, "train_examples": 40, "val_episodes": 20, "labels": (5,), "train_rows": 30}
few = dict([next((name, value) for name, value in fewer.items() if hasattr(config, name))])
config = dataclasses.replace(config, **few, stages=tuple(dataclasses.replace(stage, epochs=2)
for stage in config.stages))
"""


@pytest.mark.parametrize("path", RUN, ids=lambda path: path.parent.name + "/" + path.name)
def test_notebook_runs(path):
    notebook = nbformat.read(path, as_version=4)
    makes_config = [
        index for index, cell in enumerate(notebook.cells) if "\nconfig = Config(" in "\n" + cell.source
    ]
    assert len(makes_config) == 1
    cell = notebook.cells[makes_config[0]]
    lines = cell.source.splitlines()
    after = next(index for index, line in enumerate(lines) if line.startswith("config = Config(")) + 1
    cell.source = "\n".join([*lines[:after], SHORTEN, *lines[after:]])
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    ).execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in shown)
    printed = "".join(output.get("text", "") for output in shown)
    assert "Traceback" not in printed and "done in" in printed
    everything = printed + "".join(str(output.get("data", {}).get("text/plain", "")) for output in shown)
    for noise in ("InitializeLog", "oneDNN", "Warning"):  # such as Rich's advice to install ipywidgets
        assert noise not in everything


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.parent.name + "/" + path.name)
def test_notebook_is_kept_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    assert all(
        not cell.outputs and cell.execution_count is None
        for cell in notebook.cells
        if cell.cell_type == "code"
    )
