"""Tutorials are notebooks with their outputs, and run as they are, here with small parameters; examples run in a few steps, but
for that of the robot, which needs a hundred demonstrations."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, run

nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")

TUTORIALS = sorted((ROOT / "docs/tutorials").glob("*.ipynb"))
SMALL_TRAINING = (
    "training.steps=4 training.batch_size=16 policy.width=32 policy.depth=1 "
    "validation.episodes=1 validation.rounds=[1.0] validation.processes=1 threads=1"
)
SMALL = {
    "estimate": "samples = 300",
    "loss": "steps = 20",
    "keystates": "count = 20",
    "policy": f"""
task, few, many, scenes = "PickCube", 3, 2, 1
making = "discovery.epochs=1 discovery.samples=200 generate.processes=1 demos.processes=1 threads=1"
training, root = "{SMALL_TRAINING}", "runs"
""",
}


def test_every_tutorial_is_run():
    assert {path.stem for path in TUTORIALS} == set(SMALL)


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_tutorials_have_their_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert not [out for cell in cells for out in cell.outputs if out.output_type == "error" or out.get("name") == "stderr"]
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", "".join(cell.source for cell in notebook.cells)):
        assert (path.parent / link).is_file(), link


def execute(name: str, folder: Path) -> str:
    """Run a tutorial with its small parameters in a folder; what it prints."""
    notebook = nbformat.read(ROOT / f"docs/tutorials/{name}.ipynb", as_version=4)
    parameters = next(i for i, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", []))
    notebook.cells.insert(parameters + 1, nbformat.v4.new_code_cell(SMALL[name]))
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
    return "".join(out.get("text", "") for cell in notebook.cells for out in cell.get("outputs", []))


def test_the_tutorial_of_estimates_runs(tmp_path):
    said = execute("estimate", tmp_path)
    assert "the truth is 1.53" in said
    assert "a lower bound" in said


def test_the_tutorial_of_the_loss_runs(tmp_path):
    said = execute("loss", tmp_path)
    assert re.search(r"tells [\d.]+% of unseen digits before, [\d.]+% after", said)
    assert said.count("of the nuisance's variance") == 3


def test_the_tutorial_of_key_states_runs(tmp_path):
    said = execute("keystates", tmp_path)
    informed, even = map(int, re.search(r"met within 5 steps: (\d+)% by InfoAtlas, (\d+)% by even spacing", said).groups())
    assert informed > 90 > even  # 100 and 65 of sixty demonstrations
    assert "nothing divides the motion" in said


@pytest.mark.simulator
def test_the_tutorial_of_a_policy_runs(tmp_path, monkeypatch):
    pytest.importorskip("mani_skill")
    # Where the package is installed its command is there, too.
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    said = execute("policy", tmp_path)
    assert "replayed in new scenes: 2 demonstrations" in said
    assert len(re.findall(r"(?:five|many): [01] of 1 unseen scenes solved", said)) == 2


EXAMPLES = sorted((ROOT / "docs/examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_short(path):
    assert len(path.read_text().splitlines()) <= 60


@pytest.mark.parametrize("name", ["labels", "disentangle"])
def test_examples_print_figures_before_and_after(name):
    pytest.importorskip("sklearn")
    answer = run(f"docs/examples/{name}.py", "5")
    assert answer.returncode == 0, answer.stderr
    first, *_, last = answer.stdout.splitlines()
    assert first.startswith(("before: ", "weight 0.0: "))
    assert last.startswith(("after: ", "weight 3.0: "))
