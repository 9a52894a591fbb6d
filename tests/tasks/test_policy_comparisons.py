"""Comparisons of policies and learners: what is run, gathered and refused."""

from __future__ import annotations

import json
import re

import pytest

pytest.importorskip("hydra")
pytest.importorskip("stable_baselines3")

from infoatlas_rl.files import replace_file
from infoatlas_rl.tasks.suites import rl, scale, table2
from tests.conftest import KEYSTATE_ARMS, SMALL_TRAINING, compose, run


def test_paired_differences_are_those_of_the_same_scenes(tmp_path):
    cfg = compose("table2", "env=PickCube", f"run={tmp_path}")
    for arm, solved in (("infoatlas", range(0, 100)), ("none", range(20, 100))):
        for split in ("seen", "unseen"):
            folder = tmp_path / f"{arm}-0"
            folder.mkdir(exist_ok=True)
            episodes = [{"seed": seed, "success": seed in solved} for seed in range(100)]
            (folder / f"{split}.json").write_text(json.dumps({"episodes": episodes}))
    result = table2._paired(cfg, [0, 1], [0])
    assert result["seeds"] == [0]
    assert result["unseen"]["difference"] == 0.2
    low, high = result["unseen"]["interval95"]
    # standard error of a share of 0.2 in 100: 0.04
    assert 0.10 < low < 0.15
    assert 0.25 < high < 0.30


def test_success_against_demonstrations_is_gathered(tmp_path, monkeypatch):
    discovered = []

    def train(folder, env, splits, *options):
        given = dict(option.split("=", 1) for option in options)
        count = int(given["demos.count"])
        episodes = [{"seed": 2000 + i, "success": i < count // 10} for i in range(splits["unseen"])]
        folder.mkdir(parents=True, exist_ok=True)
        # As the tasks write them, whole: results are gathered while the next policy is trained.
        (folder / "training.json").write_text(json.dumps({"keystates": {}, "version": "1", "machine": {}}))
        with replace_file(folder / "unseen.json") as temporary:
            temporary.write_text(json.dumps({"episodes": episodes}))
        assert ("keystates.path" in given) == (given["keystates"] == "infoatlas")

    monkeypatch.setattr(scale, "run_task", lambda script, log, *options: discovered.append((script, options)))
    monkeypatch.setattr(scale, "collect_first", lambda cfg, count: None)
    monkeypatch.setattr(scale, "train_and_evaluate", train)
    files = [f"out={tmp_path}/scale.json", f"picture={tmp_path}/scale.png", f"run={tmp_path}/run"]
    scale.run(compose("benchmark_scale", "env=StackCube", "counts=[20,50]", "seeds=[0,1]", "episodes=10", *files))
    arms = json.loads((tmp_path / "scale.json").read_text())["StackCube"]["arms"]
    assert {arm: {count: (r["k"], r["n"]) for count, r in found.items()} for arm, found in arms.items()} == {
        arm: {"20": (4, 20), "50": (10, 20)} for arm in ("infoatlas", "none")
    }
    # Key states are found in the demonstrations at hand, and only for the arm that has them.
    counts = [option for _, options in discovered for option in options if option.startswith("demos.count=")]
    assert sorted(counts) == ["demos.count=20"] * 2 + ["demos.count=50"] * 2
    assert (tmp_path / "scale.png").stat().st_size > 5000


@pytest.mark.simulator
def test_the_comparison_of_arms(trained, tmp_path):
    root, _, _ = trained
    out_file = tmp_path / "table2.json"
    options = ["env=PickCube", f"paths.root={root}", f"out={out_file}", "seen=2", "jobs=2", "demos=4"]
    small = " ".join([option for option in SMALL_TRAINING if not option.startswith("threads")] + ["validation.rounds=[1.0]"])
    seeds = ["seeds.infoatlas=[]", "seeds.none=[0]", "seeds.even=[0]"]
    seeds += [f"seeds.{arm}=[]" for arm in KEYSTATE_ARMS - {"infoatlas", "none", "even"}]
    answer = run("tasks/table2.py", *options, *seeds, f"train='{small}'", "unseen=2")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    arms = json.loads(out_file.read_text())["PickCube"]
    assert set(arms) == {"none", "even"}
    for result in arms.values():
        assert result["unseen"]["n"] == result["seen"]["n"] == 2
        assert result["seeds"] == [0]
    again = run("tasks/table2.py", *options, *seeds, "train='training.steps=5'", "unseen=2")
    assert again.returncode == 1
    assert re.search(r"training.steps: \d+ there, 5 here.*remove the folder", again.stderr, re.DOTALL)
    # Key states that are found anew do not go with the policies of the old ones.
    there = root / "runs/table2/PickCube/even-0"
    record = json.loads((there / "training.json").read_text())
    other = tmp_path / "keystates.npz"
    other.write_bytes(b"found anew")
    changed = record | {"keystates": record["keystates"] | {"path": str(other), "sha256": "of the old ones"}}
    (there / "training.json").write_text(json.dumps(changed))
    refused = run("tasks/table2.py", *options, *seeds, f"train='{small}'", "unseen=2")
    assert refused.returncode == 1
    assert f"{other} has changed since the policy in {there} was trained" in refused.stderr
    (there / "training.json").write_text(json.dumps(record))
    # trained alike but for the weight of the key states
    none, even = (json.loads((root / f"runs/table2/PickCube/{arm}-0/training.json").read_text()) for arm in ("none", "even"))
    assert none["demonstrations"] == even["demonstrations"]
    assert none["config"]["training"] == even["config"]["training"] | {"key_weight": 0.0}
    assert even["config"]["training"]["key_weight"] > 0


def test_curves_of_learners_are_gathered_over_seeds_and_rewards(tmp_path, monkeypatch):
    def learner(script, log, *options):
        given = dict(option.split("=", 1) for option in options)
        log.parent.mkdir(parents=True)
        solved = int(given["seed"]) + (5 if "conditioning" in given else 0)
        curve = [{"steps": 10, "k": 0}, {"steps": 20, "k": solved}]
        result = {"seed": int(given["seed"]), "episodes": 8, "curve": curve, "version": "1", "machine": {}}
        (log.parent / "options.json").write_text(json.dumps({"policy_sha256": "ab"} if "conditioning" in given else {}))
        with replace_file(log.parent / "curve.json") as temporary:
            temporary.write_text(json.dumps(result))

    monkeypatch.setattr(rl, "run_task", learner)
    for reward in ("normalized_dense", "sparse"):
        files = [f"out={tmp_path}/rl.json", f"picture={tmp_path}/rl.png", f"run={tmp_path}/{reward}"]
        rl.run(compose("benchmark_rl", "env=PickCube", f"reward={reward}", *files))
    content = json.loads((tmp_path / "rl.json").read_text())
    assert list(content) == ["PickCube, normalized dense reward", "PickCube, sparse reward"]
    for entry in content.values():
        assert entry["arms"]["plain SAC"]["curve"] == {"10": [0, 0], "20": [0, 1]}
        assert entry["arms"]["SAC with key states"]["curve"] == {"10": [0, 0], "20": [5, 6]}
        assert [arm["policy_sha256"] for arm in entry["arms"].values()] == [None, "ab", "ab", "ab"]
    assert (tmp_path / "rl.png").stat().st_size > 5000


@pytest.mark.parametrize(("suite", "name"), [(rl, "benchmark_rl"), (scale, "benchmark_scale"), (table2, "table2")])
def test_nothing_but_results_is_written_over(suite, name, tmp_path, monkeypatch):
    monkeypatch.setattr(suite, "run_all", lambda *_: pytest.fail("work has begun"))
    notes = tmp_path / "notes.txt"
    notes.write_text("mine")
    with pytest.raises(ValueError, match=r"notes.txt is there already and holds no results; move it, or choose another out="):
        suite.run(compose(name, "env=PickCube", f"out={notes}", f"run={tmp_path}"))
    assert notes.read_text() == "mine"
