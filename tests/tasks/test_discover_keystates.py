"""Discovery from the command line, and the comparison of estimators."""

import csv
import json

import numpy as np
import pytest

pytest.importorskip("hydra")


from tests.conftest import run


@pytest.mark.simulator
def test_the_whole_job_and_its_resumption(tmp_path):
    command = [
        "tasks/discover_keystates.py",
        "env=PickCube",
        f"paths.root={tmp_path}",
        "demos.count=20",
        "discovery.epochs=2",
        "profile.slices=2",
        "threads=1",
    ]
    first = run(*command)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "evenly spaced" in first.stdout
    out = tmp_path / "runs/keystates/PickCube-default"
    result = json.loads((out / "keystates.json").read_text())
    arrays = np.load(out / "keystates.npz")
    assert arrays["step"].shape == (20, 4)
    assert arrays["states"].shape == (20, 4, 100)
    assert arrays["concept"].tolist() == [1, 2, 3, 4]
    assert str(arrays["weights_sha256"]) == result["weights_sha256"]
    assert json.loads(str(arrays["config"])) == result["config"]
    for index, episode in enumerate(result["episodes"]):
        steps = [key_state["step"] for key_state in episode["key_states"]]
        assert steps == arrays["step"][index].tolist()
        assert max(steps) < episode["length"]
    with (out / "keystates.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == arrays["step"].ravel().tolist()
    assert [row["key_state"] for row in rows[:5]] == ["1", "2", "3", "4", "1"]
    assert len(result["weights_sha256"]) == 64
    assert result["config"]["discovery"]["epochs"] == 2
    for picture in ("timeline", "mi_profile", "contact_sheet"):
        assert (out / f"{picture}.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "keystates.gif").read_bytes().startswith(b"GIF8")
    logged = {row["name"] for row in csv.DictReader((out / "log.csv").open())}
    assert logged == {"information", "moved", "seconds_per_step"}
    assert len(result["mi_profile"]["mi"]) == len(result["mi_profile"]["time"])
    report = (out / "report.html").read_text()
    assert report.count("data:image/") == 4
    assert "http:" not in report  # base64 has no colon
    assert "https:" not in report
    assert list((out / "tensorboard").iterdir())

    again = run(*command)
    assert "20 demonstrations are there already" in again.stdout
    assert "at epoch 2" in again.stdout
    assert json.loads((out / "keystates.json").read_text())["episodes"] == result["episodes"]

    other = run(*command, "discovery.delta=3")
    assert other.returncode == 1
    assert "delta: 2 there, 3 here" in other.stderr
    assert "resume=false" in other.stderr

    # Any ManiSkill file, without knowing its task.
    source = next((tmp_path / "demos").rglob("trajectory.h5"))
    options = [f"demos.path={source}", f"paths.root={tmp_path}", "discovery.epochs=1", "profile.slices=2", "threads=1"]
    answer = run("tasks/discover_keystates.py", "env=any", *options, "env.concepts=2")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "20 demonstrations of PickCube from" in answer.stdout

    # The comparison of estimators, and its cached runs.
    out = tmp_path / "keystates.json"
    options = [f"demos.path={source}", f"paths.root={tmp_path}", f"out={out}", "discovery.epochs=1", "timed_steps=1"]
    command = [
        "tasks/benchmark_keystates.py",
        "env=PickCube",
        "only=[infoatlas,none]",
        "methods=[stages]",
        "seeds=[0,1]",
        "profile.slices=2",
        "threads=1",
        *options,
    ]
    answer = run(*command)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    arms = json.loads(out.read_text())["PickCube"]
    published = {"waypoints (AWE)", "approaches (UVD)", "change points", "grouped actions (CoTPC)"}
    rules = {"profile maxima", "even", "gripper changes", "velocity minima", "last state", *published}
    assert set(arms) == {"infoatlas", "infoatlas, K chosen", "none", *rules}
    assert {"f1", "precision", "recall", "by_event", "median_step_error", "phase_std", "seconds_per_step"} <= set(
        arms["infoatlas"]
    )
    assert arms["infoatlas"]["seeds"] == [0, 1]
    assert run("tasks/benchmark_keystates.py", "env=PickCube", "only=[foo]", *options).returncode == 1


def test_key_states_of_plain_arrays(tmp_path):
    rng = np.random.default_rng(0)
    corner = rng.integers(10, 20, size=30)
    paths = {
        f"run{i}": np.concatenate([np.linspace([0, 0], [1, 0], c), np.linspace([1, 0], [1, 1], 30 - c)])
        + 0.005 * rng.normal(size=(30, 2))
        for i, c in enumerate(corner)
    }
    np.savez(tmp_path / "paths.npz", **paths)
    options = [f"demos.path={tmp_path / 'paths.npz'}", f"paths.root={tmp_path}", "env.concepts=2", "discovery.epochs=4"]
    options += ["threads=1"]
    answer = run("tasks/discover_keystates.py", "env=any", "estimator.k=2", "profile.slices=2", "profile.k=2", *options)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    found = np.load(tmp_path / "runs/keystates/paths-default/keystates.npz")["step"]
    assert (np.abs(found[:, 0] - corner) <= 2).mean() > 0.9
    missing = run("tasks/discover_keystates.py", "env=any", f"paths.root={tmp_path}")
    assert missing.returncode == 1
    assert "env=any needs demos.path=PATH" in missing.stderr


def test_groups_of_like_actions_end_where_their_direction_changes():
    pytest.importorskip("mani_skill")
    from infoatlas_rl.tasks.suites.keystates import grouped_actions

    rng = np.random.default_rng(0)
    directions = np.repeat([[1, 0, 1], [0, 1, 1], [0, 1, -1]], [12, 20, 8], axis=0)
    actions = directions * rng.uniform(0.5, 2, (40, 1)) + 0.05 * rng.normal(size=(40, 3))
    (found,) = grouped_actions([actions], 3)
    np.testing.assert_array_equal(found, [12, 32, 40])
