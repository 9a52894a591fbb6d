"""Collecting demonstrations: resumed, extended, mended, converted, never mixed or overwritten."""

from __future__ import annotations

import json
import os
import shutil
import signal

import h5py
import numpy as np
import pytest

pytest.importorskip("mani_skill")

from infoatlas_rl.files import FullDiskError, lock_folder
from infoatlas_rl.maniskill import collect
from infoatlas_rl.maniskill.collect import Job, collect_demonstrations, convert_demonstrations, demo_path
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


def test_two_collections_in_one_folder_do_not_mix(tmp_path):
    task = get_task("PickCube")
    message = r"another run is at work in .*PickCube-v1/motionplanning \(process \d+: .*wait until it has ended"
    with lock_folder(demo_path(tmp_path, task).parent):
        for first_seed in (0, 700):
            with pytest.raises(ValueError, match=message):
                collect_demonstrations(task, tmp_path, 1, first_seed=first_seed)
    assert not list(tmp_path.rglob("parts"))


@pytest.mark.parametrize(
    "other", [{"first_seed": 5}, {"horizon": 100}, {"control_mode": "pd_ee_delta_pose"}, {"seeds": [0, 2]}, {"env_id": "A-v1"}]
)
def test_chunks_made_for_anything_else_are_not_taken(tmp_path, other):
    task, part = get_task("PickCube"), tmp_path / "seeds_000000_000001.h5"
    made_for = collect._made_for(task, "pd_joint_pos", 0, [0, 1])
    with h5py.File(part, "w") as file:
        file.create_group("traj_0")
    job = Job(part, made_for, ())

    def note(collection):
        notes = {"episodes": [{"episode_id": 0}], "collection": {"attempts": 2, "failures": []} | collection}
        part.with_suffix(".json").write_text(json.dumps(notes))

    note({"made_for": made_for})
    assert job.finished() is not None
    note({"made_for": made_for | other})
    assert job.finished() is None
    note({})  # as older versions wrote it
    assert job.finished() is not None
    part.write_bytes(part.read_bytes()[:500])
    assert job.finished() is None


def died(folder, call):
    (folder / "seeds_0_9.tmp.999999999.h5").write_bytes(b"left by a killed run")
    (folder / "seeds_0_9.tmp.999999999.json.txt").write_bytes(b"of somebody else")
    with pytest.raises(Exception, match="simulator process died") as error:
        collect._run_chunks(iter([Job(folder / "seeds_0_9.h5", {}, call)]), 1, 1, None)
    assert os.listdir(folder) == ["seeds_0_9.tmp.999999999.json.txt"]
    return error.value


def test_a_process_that_is_killed_is_not_blamed_on_numpy(tmp_path):
    error = died(tmp_path, (signal.raise_signal, signal.SIGKILL))
    assert type(error) is RuntimeError
    assert "died without a traceback by SIGKILL (killed from outside, most often because memory ran out" in str(error)
    assert "finished chunks are kept" in str(error)
    assert "numpy" not in str(error)


def test_a_crash_on_a_full_disk_is_told_with_the_disk(tiny_disk):
    (tiny_disk / "much").write_bytes(bytes(100_000))
    with pytest.raises(FullDiskError, match=rf"no space left on the disk of {tiny_disk} \(0.. MB free\).*by SIGSEGV"):
        collect._run_chunks(iter([Job(tiny_disk / "seeds_0_9.h5", {}, (signal.raise_signal, signal.SIGSEGV))]), 1, 1, None)


@simulator
def test_a_disk_that_fills_up_ends_a_collection_in_one_line(tiny_disk):
    with pytest.raises(
        FullDiskError, match=r"no space left on the disk of .* \(0.. MB free\).*finished chunks are kept"
    ) as error:
        collect_demonstrations(get_task("PickCube"), tiny_disk, 6, processes=1)
    assert "\n" not in str(error.value)
    assert {path.name for path in tiny_disk.rglob("*") if path.is_file()} == {".lock"}


def test_seeds_below_zero_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"demos\.first_seed has to be at least 0, not -1"):
        collect_demonstrations(get_task("PickCube"), tmp_path, 1, first_seed=-1)
