"""The state: one layout, the same from a live environment and from a recorded one."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("mani_skill")

from infoatlas_rl.maniskill.collect import collect_demonstrations, demo_path
from infoatlas_rl.maniskill.demos import load_demonstrations, recorded_env
from infoatlas_rl.maniskill.envs import make_env, read_state
from infoatlas_rl.maniskill.events import detect_events
from infoatlas_rl.maniskill.panda import forward_kinematics
from infoatlas_rl.maniskill.states import LAYOUT, STATE_DIM, STATE_INDEX, plain_states, pose_matrix, positions, without_jumps
from infoatlas_rl.maniskill.tasks import get_task

simulator = pytest.mark.simulator


def test_layout_has_exactly_hundred_numbers():
    assert STATE_DIM == 100
    covered = [i for part in STATE_INDEX.values() for i in range(100)[part]]
    assert covered == list(range(100))
    assert len({name for name, _, _ in LAYOUT}) == len(LAYOUT)


@simulator
def test_forward_kinematics_is_the_simulators(task):
    env = make_env(task)
    env.reset(seed=1)
    env.action_space.seed(1)
    for _ in range(5):
        env.step(env.action_space.sample())
    robot = env.unwrapped.agent.robot
    state = next(iter(env.unwrapped.get_state_dict()["articulations"].values())).numpy().astype(float)
    frames = forward_kinematics(state[:, 13:22], pose_matrix(state[:, :7]))
    names = {"panda_hand_tcp": "tcp", "panda_leftfinger": "left_finger", "panda_rightfinger": "right_finger"}
    compared = 0
    for link in robot.links:
        name = names.get(link.name, link.name.removeprefix("panda_"))
        if name in frames:
            np.testing.assert_allclose(frames[name][0, :3, 3], link.pose.p[0].numpy(), atol=2e-6)
            compared += 1
    assert compared == 11
    state = read_state(env, task)
    np.testing.assert_allclose(
        state[STATE_INDEX["tcp_linear_velocity"]], robot.links_map["panda_hand_tcp"].linear_velocity[0], atol=5e-3
    )
    env.close()


@simulator
def test_live_and_recorded_states_agree(task, demo_root):
    demo = load_demonstrations(demo_path(demo_root, task), task).demonstrations[0]
    env = make_env(task, control_mode="pd_joint_pos")
    env.reset(seed=demo.seed)
    np.testing.assert_allclose(read_state(env, task), demo.states[0], atol=1e-6)
    for step, action in enumerate(demo.actions, start=1):
        env.step(action)
        np.testing.assert_allclose(read_state(env, task), demo.states[step], atol=1e-6)
    env.close()


@simulator
def test_at_most_twenty_numbers_are_constant(task, demo_root):
    states = np.concatenate([d.states for d in load_demonstrations(demo_path(demo_root, task), task)])
    assert states.shape[1] == 100
    assert (states.std(axis=0) < 1e-9).sum() <= 20


def test_positions_leave_the_velocities_out():
    states = np.arange(100.0)[None]
    kept = positions(states, get_task("PickCube"))
    assert kept.shape == (1, 79)
    assert not set(kept[0]) & set(states[0, STATE_INDEX["qvel"]])


@simulator
def test_any_other_task_has_a_plain_state_and_no_events(tmp_path):
    lift = get_task("LiftPegUpright", "LiftPegUpright-v1")
    report = collect_demonstrations(lift, tmp_path, 1, processes=1)
    assert recorded_env(report.path) == "LiftPegUpright-v1"
    demo = load_demonstrations(report.path, lift).demonstrations[0]
    # Nine joints, the TCP, and pose and place in the gripper of the peg and the table.
    assert demo.states.shape[1] == 9 + 3 + (3 + 4 + 3) * len(demo.env_states["actors"])
    assert detect_events(demo.states, lift) == {}
    np.testing.assert_array_equal(positions(demo.states, lift), demo.states)
    env = make_env(lift, control_mode="pd_joint_pos")
    env.reset(seed=demo.seed)
    np.testing.assert_allclose(read_state(env, lift), demo.states[0], atol=1e-6)
    env.close()


def test_a_turn_by_more_than_half_a_circle_has_no_jumps():
    angle = np.linspace(0, np.radians(260), 50)
    states = np.zeros((50, STATE_DIM))
    for name in ("tcp_quaternion", "object_quaternion", "target_quaternion"):
        states[:, STATE_INDEX[name]] = [1, 0, 0, 0]
    quaternion = np.stack([np.cos(angle / 2), 0 * angle, 0 * angle, np.sin(angle / 2)], 1)
    states[:, STATE_INDEX["object_quaternion"]] = np.where(quaternion[:, :1] < 0, -quaternion, quaternion)
    assert np.abs(np.diff(states, axis=0)).max() > 1
    steady = without_jumps(states)
    np.testing.assert_allclose(steady[:, STATE_INDEX["object_quaternion"]], quaternion, atol=1e-12)
    others = np.delete(np.arange(STATE_DIM), STATE_INDEX["object_quaternion"])
    np.testing.assert_array_equal(steady[:, others], states[:, others])
    actor = np.concatenate([np.zeros((50, 3)), states[:, STATE_INDEX["object_quaternion"]], np.zeros((50, 6))], 1)
    plain = plain_states({"articulations": {}, "actors": {"cube": actor}})
    assert np.abs(np.diff(plain, axis=0)).max() < 0.1
