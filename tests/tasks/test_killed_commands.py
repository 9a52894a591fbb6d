"""Commands that are killed in the middle of their work go on with the same command, to what they would have made undisturbed.

Cloning is killed in ``test_train_policy.py``, reinforcement learning in ``test_train_rl.py``, both pretrainings in
``test_pretrain.py``.
"""

from __future__ import annotations

import json
import signal
import sys

import numpy as np
import pytest

pytest.importorskip("hydra")
pytest.importorskip("mani_skill")

from infoatlas_rl.maniskill.collect import demo_path
from infoatlas_rl.maniskill.demos import load_demonstrations
from infoatlas_rl.maniskill.tasks import get_task
from infoatlas_rl.policies.evaluation import evaluate
from tests.conftest import kill_when, run, small_policy, staged, with_demonstrations

PICK = get_task("PickCube")
CHUNK = "parts/*/seeds_??????_??????"
"""A finished one; its temporary files have longer names."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def goes_on(*command):
    answer = run(*command)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


@pytest.mark.simulator
def test_a_killed_collection(demo_root, tmp_path):
    command = ["tasks/collect_demos.py", "env=PickCube", f"paths.root={tmp_path}", "demos.count=12", "demos.processes=2"]
    kill_when(lambda: any(tmp_path.rglob(f"{CHUNK}.json")), signal.SIGKILL, *command)
    (first, *_) = tmp_path.rglob(f"{CHUNK}.h5")
    before = first.stat().st_mtime_ns
    assert not demo_path(tmp_path / "demos", PICK).exists()
    goes_on(*command)
    made, undisturbed = (load_demonstrations(demo_path(root, PICK), PICK, count=12) for root in (tmp_path / "demos", demo_root))
    for a, b in zip(made, undisturbed, strict=True):
        np.testing.assert_array_equal(a.states, b.states)
        np.testing.assert_array_equal(a.actions, b.actions)
    assert first.stat().st_mtime_ns == before  # it was not made again
    assert not [path for path in tmp_path.rglob("*") if "tmp" in path.name[1:]]


def test_a_killed_discovery(tmp_path):
    np.savez(tmp_path / "paths.npz", **{f"run{i}": path for i, path in enumerate(staged(40)[0])})
    options = ["env=any", f"demos.path={tmp_path}/paths.npz", "env.concepts=3", "discovery.epochs=15", "profile.slices=2"]
    options += ["profile.k=2", "estimator.k=2", "threads=1"]
    out = tmp_path / "out"
    command = ["tasks/discover_keystates.py", *options, f"out={out}"]
    kill_when((out / "checkpoint.pt").is_file, signal.SIGTERM, *command)
    assert not (out / "keystates.npz").exists()
    assert "resumed from" in goes_on(*command)
    # In a process of its own as well: what 40 samples show hangs on the last digits, which are those of a process.
    goes_on("tasks/discover_keystates.py", *options, f"out={tmp_path}/undisturbed")
    with np.load(out / "keystates.npz") as made, np.load(tmp_path / "undisturbed/keystates.npz") as undisturbed:
        for name in ("step", "states"):
            np.testing.assert_array_equal(made[name], undisturbed[name])
        np.testing.assert_allclose(made["mi"], undisturbed["mi"], rtol=1e-4)


@pytest.mark.simulator
def test_a_killed_evaluation(tmp_path):
    policy_file = tmp_path / "policy.safetensors"
    config = {"training": {"seed": 0}, "validation": {"first_seed": 30000, "episodes": 50}}
    small_policy().save(policy_file, {"config": config, "demonstrations": {"seeds": [], "count": 0}})
    command = ["tasks/evaluate_policy.py", "env=PickCube", f"policy={policy_file}", f"run={tmp_path}", f"out={tmp_path}/out.json"]
    command += ["eval.first_seed=60000", "eval.episodes=4", "eval.processes=2"]

    def begun():
        return any(path.read_text().count("{") for path in tmp_path.glob("*.jsonl"))

    kill_when(begun, signal.SIGKILL, *command)
    assert not (tmp_path / "out.json").exists()
    goes_on(*command)
    episodes = json.loads((tmp_path / "out.json").read_text())["episodes"]
    assert [episode["seed"] for episode in episodes] == list(range(60000, 60004))
    undisturbed = evaluate(policy_file, range(60000, 60004), processes=1)
    assert [(e["success"], e["steps"], e["events"]) for e in episodes] == [(e.success, e.steps, e.events) for e in undisturbed]


@pytest.mark.simulator
def test_a_killed_generation(demo_root, tmp_path):
    folder = with_demonstrations(tmp_path, demo_root) / "demos/PickCube-v1"
    options = ["env=PickCube", "demos.count=3", "generate.count=11", "cuts=events", "generate.processes=2", "threads=1"]
    command = ["tasks/generate_demos.py", *options, f"paths.root={tmp_path}"]
    out = folder / "generated/3-events"
    kill_when(lambda: any(out.rglob(f"{CHUNK}.json")), signal.SIGTERM, *command)
    (first, *_) = out.rglob(f"{CHUNK}.h5")
    before = first.stat().st_mtime_ns
    assert not (out / "trajectory.h5").exists()
    goes_on(*command)
    assert len(load_demonstrations(out / "trajectory.h5", PICK)) == 11
    assert first.stat().st_mtime_ns == before  # it was not made again; a scene is the same by its seed
