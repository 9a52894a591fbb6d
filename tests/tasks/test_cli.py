"""The door: ``infoatlas`` with its commands."""

import json
import shlex
import subprocess
import sys
from types import SimpleNamespace

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
        (["--x", "x", "--y", "y", "--given", ""], "no column ''"),
    ],
)
def test_mi_answers_mistakes_in_one_line(table, capsys, options, message):
    assert cli.main(["mi", str(table), *options]) == 1
    said = capsys.readouterr().err
    assert message in said
    assert said.startswith("error: ")
    assert said.count("\n") == 1


def test_what_is_known_and_all_pairs_of_a_table(tmp_path, capsys):
    rng = np.random.default_rng(0)
    height = rng.normal(170, 10, size=300)
    weight = 0.9 * height - 90 + rng.normal(0, 6, size=300)
    rows = [f"{h:.1f},{w:.1f},{'tall' if h > 175 else 'short'}" for h, w in zip(height, weight, strict=True)]
    table = tmp_path / "table.csv"
    table.write_text("\n".join(["height,weight,class", *rows]) + "\n")
    assert cli.main(["mi", str(table), "--x", "height", "--y", "weight", "--given", "class"]) == 0
    assert capsys.readouterr().out.startswith("conditional MI = ")
    assert cli.main(["pairs", str(table)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert {tuple(line.split()[:2]) for line in lines[1:4]} == {("height", "weight"), ("height", "class"), ("weight", "class")}
    assert "3 columns, n = 300." in lines
    assert cli.main(["pairs", str(table), "--columns", "height,weight", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["names"] == ["height", "weight"]
    assert figures["mi"][0][0] is None
    assert figures["mi"][0][1] == figures["mi"][1][0] > 0.3
    assert cli.main(["pairs", str(table), "--columns", "height,age"]) == 1
    assert "no column 'age'; there are height, weight, class" in capsys.readouterr().err
    table.write_text(table.read_text() + ",80,tall\n")
    assert cli.main(["pairs", str(table)]) == 1
    said = capsys.readouterr().err
    assert f"{table}: column height has no value in row 301 of the data; 1 of 301 rows have gaps: --drop-missing leaves" in said
    assert cli.main(["pairs", str(table), "--drop-missing"]) == 0
    assert "3 columns, n = 300." in capsys.readouterr().out


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
    from infoatlas_rl import records
    from infoatlas_rl.records import command_line

    monkeypatch.setattr(records, "TYPED", [])
    monkeypatch.setattr(sys, "argv", ["infoatlas keystates", "env=PickCube", "jobs=2"])
    assert command_line("discover_keystates") == "infoatlas keystates env=PickCube"
    monkeypatch.setattr(sys, "argv", ["tasks/discover_keystates.py", "env=PickCube"])
    assert command_line("discover_keystates") == "python tasks/discover_keystates.py env=PickCube"
    records.TYPED[:] = ["tasks/table2.py", "train=training.steps=9 validation.episodes=3"]  # Hydra is given another, quoted
    assert command_line("table2") == "python tasks/table2.py 'train=training.steps=9 validation.episodes=3'"
    records.TYPED[1:] = ["only=['plain SAC']", "name='$a'"]
    assert shlex.split(command_line("table2")) == ["python", *records.TYPED]
    assert command_line("table2").startswith("python tasks/table2.py \"only=['plain SAC']\" ")


@pytest.mark.parametrize("name", ["a,b.npz", "a=b.npz", "2024", "null", "${x}.npz", "it's [1].npz"])
def test_any_name_is_a_path_of_demonstrations(tmp_path, monkeypatch, name):
    parser = pytest.importorskip("hydra.core.override_parser.overrides_parser").OverridesParser.create()
    (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli.importlib, "import_module", lambda _: SimpleNamespace(main=lambda: None))
    monkeypatch.setattr(sys, "argv", [])
    assert cli.main(["keystates", name]) == 0
    env, path = (parser.parse_override(argument) for argument in sys.argv[1:])
    assert (env.value(), path.value().replace("\\${", "${")) == ("any", name)


def test_options_of_a_table_that_do_nothing_are_refused(tmp_path, capsys):
    np.savetxt(tmp_path / "t.csv", np.random.default_rng(0).normal(size=(40, 2)), delimiter=",", header="a,b", comments="")
    assert cli.main(["mi", str(tmp_path / "t.csv"), "--x", "a", "--y", "b", "--k", "3"]) == 1
    assert "--slices 25" in capsys.readouterr().err
    assert cli.main(["pairs", str(tmp_path / "t.csv"), "--most", "-1"]) == 1
    assert "--most has to be at least 1" in capsys.readouterr().err
