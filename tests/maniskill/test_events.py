"""Events, recomputed from states, are those of the simulator and of the planner."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("mani_skill")

from infoatlas_rl.maniskill.collect import demo_path
from infoatlas_rl.maniskill.demos import load_demonstrations
from infoatlas_rl.maniskill.envs import make_env
from infoatlas_rl.maniskill.events import detect_events, grasped, ground_truth, success
from infoatlas_rl.maniskill.tasks import get_task

simulator = pytest.mark.simulator


@simulator
def test_events_are_those_of_the_simulator(task, demo_root):
    demo = load_demonstrations(demo_path(demo_root, task), task).demonstrations[0]
    env = make_env(task, control_mode="pd_joint_pos")
    env.reset(seed=demo.seed)
    base = env.unwrapped
    held, solved = [False], [False]
    for action in demo.actions:
        *_, info = env.step(action)
        moved = base.peg if task.name == "PegInsertion" else base.scene.actors[task.object]
        held.append(bool(base.agent.is_grasping(moved)))
        solved.append(bool(info["success"]))
    # The simulator decides a grasp by contact forces, which are not recorded; the two may differ by a step or two.
    assert (grasped(demo.states, task) == held).mean() > 0.95
    assert (success(demo.states, task) == solved).all()
    events = detect_events(demo.states, task)
    assert list(events) == list(task.events)
    times = [events[name] for name in task.events]
    assert None not in times
    assert times == sorted(times)
    env.close()


@simulator
def test_events_meet_the_stage_ends_of_the_planner(task, demo_root):
    demos = load_demonstrations(demo_path(demo_root, task), task).demonstrations
    assert all(demo.stage_ends for demo in demos)
    events = [detect_events(demo.states, task) for demo in demos]
    stages = np.array([demo.stage_ends[:3] for demo in demos])
    # The planner ends its reach, its descent and its grasp; the arm follows by a step or two, and the gripper is closed
    # for a few steps more than it needs.
    reached = np.array([happened["reached"] for happened in events]) - stages[:, 0]
    assert abs(np.median(reached)) <= 3
    grasped_after = np.array([happened["grasped"] for happened in events]) - stages[:, 1]
    assert (np.abs(grasped_after - 2) <= 1).all()
    last = np.array([happened[task.events[-1]] - demo.stage_ends[-1] for happened, demo in zip(events, demos, strict=True)])
    assert (last <= 0).all()
    assert (last > -20).all()


def test_where_demonstrations_were_cut_is_no_ground_truth(demos):
    task = get_task("LiftPegUpright", env_id="LiftPegUpright-v1")
    cut = replace(demos.demonstrations[0], stage_ends=(11, 22))
    assert ground_truth(replace(cut, planned=True), task) == {"stage 1": 11, "stage 2": 22}
    assert ground_truth(replace(cut, planned=False), task) == {}
