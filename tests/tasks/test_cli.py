"""The door: ``infoatlas`` with its commands."""

import json
import subprocess
import sys

import numpy as np
import pytest

from infoatlas_rl import estimate_mi
from infoatlas_rl.tasks import cli
from tests.conftest import run


@pytest.fixture
def table(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((300, 2))
    np.savez(tmp_path / "table.npz", x=x, y=x[:, 0] + rng.standard_normal(300))
    return tmp_path / "table.npz"


def test_mi_prints_what_estimate_mi_says(table, capsys):
    assert cli.main(["mi", str(table), "--x", "x", "--y", "y"]) == 0
    with np.load(table) as file:
        expected = estimate_mi(file["x"], file["y"])
    assert capsys.readouterr().out == f"{expected}\n"
    assert cli.main(["mi", str(table), "--x", "x", "--y", "y", "--units", "bits", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["mi"] == pytest.approx(expected.in_bits().mi)
    assert (figures["units"], figures["n"], figures["dims"]) == ("bits", 300, [2, 1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--x", "x", "--y", "z"], "no column 'z'"),
        (["--x", "x", "--y", "y", "--slices", "0"], "slices has to be at least 1"),
    ],
)
def test_mi_answers_mistakes_in_one_line(table, capsys, options, message):
    assert cli.main(["mi", str(table), *options]) == 1
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith("error: ")
    assert said.count("\n") == 1


def test_tasks_are_reached_with_their_own_options():
    pytest.importorskip("hydra")
    for name, (script, _) in cli.COMMANDS.items():
        answer = run("-m", "infoatlas_rl.tasks.cli", name, "env=Nowhere")
        assert answer.returncode == 1
        assert answer.stderr.startswith("error: unknown env 'Nowhere'"), (script, answer.stderr)


def test_without_the_robot_extra_tasks_say_what_is_missing():
    code = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('hydra', 'h5py', 'omegaconf', 'mani_skill'):\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from infoatlas_rl.tasks import cli\n"
        "sys.exit(cli.main(['keystates', 'env=PickCube']))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert answer.returncode == 1
    assert "infoatlas keystates needs" in answer.stderr
    assert "pip install 'infoatlas-rl[robot]'" in answer.stderr


def test_results_name_the_command_as_it_was_typed(monkeypatch):
    from infoatlas_rl.records import command_line

    monkeypatch.setattr(sys, "argv", ["infoatlas keystates", "env=PickCube", "jobs=2"])
    assert command_line("discover_keystates") == "infoatlas keystates env=PickCube"
    monkeypatch.setattr(sys, "argv", ["tasks/discover_keystates.py", "env=PickCube"])
    assert command_line("discover_keystates") == "python tasks/discover_keystates.py env=PickCube"
