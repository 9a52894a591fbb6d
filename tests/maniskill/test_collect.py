"""Collecting demonstrations: resumed, extended, mended, converted, never mixed or overwritten."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

pytest.importorskip("mani_skill")

from infoatlas_rl.maniskill.collect import collect_demonstrations, convert_demonstrations, demo_path
from infoatlas_rl.maniskill.demos import load_demonstrations
from infoatlas_rl.maniskill.envs import make_env, read_state
from infoatlas_rl.maniskill.tasks import get_task

simulator = pytest.mark.simulator


@simulator
def test_a_task_without_a_solution_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no motion-planning solution for PokeCube-v1; it has: "):
        collect_demonstrations(get_task("PokeCube", "PokeCube-v1"), tmp_path, 1, processes=1)


@simulator
def test_a_finished_collection_is_reused_and_a_larger_one_goes_on(demo_root, tmp_path):
    task = get_task("StackCube")
    shutil.copytree(demo_root, tmp_path / "demos")
    first = load_demonstrations(demo_path(tmp_path / "demos", task), task)
    assert collect_demonstrations(task, tmp_path / "demos", 2).reused
    calls = []
    report = collect_demonstrations(task, tmp_path / "demos", 3, processes=1, progress=lambda *a: calls.append(a))
    assert not report.reused
    # The chunk with the third demonstration was finished before: no process had to work.
    assert calls[0][0] == 3
    assert report.attempts == report.successes + report.failures
    again = load_demonstrations(demo_path(tmp_path / "demos", task), task)
    np.testing.assert_array_equal(again.demonstrations[1].states, first.demonstrations[1].states)
    assert not list((tmp_path / "demos").rglob("*tmp*"))


@simulator
def test_converted_demonstrations_solve_the_task_with_other_actions(demo_root):
    task = get_task("PickCube")
    report = convert_demonstrations(task, demo_root, 2, "pd_ee_delta_pose", processes=1)
    converted = load_demonstrations(report.path, task)
    assert converted.control_mode == "pd_ee_delta_pose"
    demo = converted.demonstrations[0]
    assert demo.actions.shape[1] == 7
    env = make_env(task, control_mode="pd_ee_delta_pose")
    env.reset(seed=demo.seed)
    for action in demo.actions:
        *_, info = env.step(action)
    assert bool(info["success"])
    np.testing.assert_allclose(read_state(env, task), demo.states[-1], atol=1e-6)
    env.close()


@simulator
def test_other_controllers_joint_deltas_too(demo_root):
    report = convert_demonstrations(get_task("PickCube"), demo_root, 1, "pd_joint_delta_pos", processes=1)
    assert load_demonstrations(report.path, get_task("PickCube")).demonstrations[0].actions.shape[1] == 8


def test_files_of_others_are_never_overwritten(demo_root, tmp_path):
    task = get_task("StackCube")
    shutil.copytree(demo_root, tmp_path / "demos")
    with pytest.raises(ValueError, match=r"was not collected from first_seed=700.*paths\.demos="):
        collect_demonstrations(task, tmp_path / "demos", 2, first_seed=700)
    json_path = demo_path(tmp_path / "demos", task).with_suffix(".json")
    meta = json.loads(json_path.read_text())
    meta.pop("collection")
    json_path.write_text(json.dumps(meta))
    with pytest.raises(ValueError, match=r"is there already.*demos\.path="):
        collect_demonstrations(task, tmp_path / "demos", 2)
    for suffix in (".h5", ".json"):
        shutil.copy(json_path.with_suffix(suffix), demo_path(tmp_path / "demos", task, "pd_ee_delta_pose").with_suffix(suffix))
    meta["collection"] = {"first_seed": 0}
    json_path.write_text(json.dumps(meta))
    with pytest.raises(ValueError, match=r"pd_ee_delta_pose.*is there already"):
        convert_demonstrations(task, tmp_path / "demos", 1, "pd_ee_delta_pose")
    with pytest.raises(ValueError, match="at least 1, not 0"):
        collect_demonstrations(task, tmp_path / "demos", 0)


def test_a_damaged_collection_is_mended_from_its_chunks(demo_root, tmp_path):
    task = get_task("StackCube")
    shutil.copytree(demo_root, tmp_path / "demos")
    path = demo_path(tmp_path / "demos", task)
    good = load_demonstrations(path, task)
    path.write_bytes(path.read_bytes()[:1000])
    report = collect_demonstrations(task, tmp_path / "demos", 2, processes=1)
    assert not report.reused
    np.testing.assert_array_equal(load_demonstrations(path, task).demonstrations[1].states, good.demonstrations[1].states)
