"""Training samples of policies: targets in hindsight."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from infoatlas_rl.maniskill.demos import DemonstrationSet
from infoatlas_rl.maniskill.states import STATE_DIM, STATE_INDEX
from infoatlas_rl.maniskill.tasks import get_task
from infoatlas_rl.policies.dataset import Windows, _in_hindsight
from infoatlas_rl.policies.scene import Scene

HALF_LENGTH = 0.1
TARGET = [0.5, 0.2, 0.3]


def peg_states():
    """Five steps of a peg that is pushed into a hole along the x axis of the hole, which is the y axis of the world.

    The tip is this far from the bottom of the hole: 0.3, 0.15, 0.08, 0.01 and 0 m, so that it has entered, by its half length of
    0.1 m, in the third step, 3 mm along the y axis and -2 mm along the z axis of the hole from its middle.
    """
    depth = torch.tensor([-0.3, -0.15, -0.08, -0.01, 0.0])
    side = torch.tensor([[0.05, 0.04], [0.02, -0.03], [0.003, -0.002], [0.001, 0.004], [-0.001, 0.0]])
    states = torch.zeros(5, STATE_DIM)
    quarter = torch.tensor([0.5**0.5, 0.0, 0.0, 0.5**0.5])  # about z: x becomes y, y becomes -x
    for name in ("object", "target"):
        states[:, STATE_INDEX[f"{name}_quaternion"]] = quarter
    states[:, STATE_INDEX["tcp_quaternion"]] = torch.tensor([0.0, 1.0, 0.0, 0.0])
    states[:, STATE_INDEX["target_position"]] = torch.tensor(TARGET)
    tip = torch.tensor(TARGET) + torch.stack([-side[:, 0], depth, side[:, 1]], 1)
    states[:, STATE_INDEX["object_position"]] = tip - torch.tensor([0.0, HALF_LENGTH, 0.0])
    states[:, STATE_INDEX["tcp_position"]] = tip - torch.tensor([0.0, HALF_LENGTH, 0.0])
    states[:, STATE_INDEX["tip_to_target"]] = torch.tensor(TARGET) - tip
    states[:, STATE_INDEX["object_half_size"]] = torch.tensor([HALF_LENGTH, 0.02, 0.02])
    return states


def test_the_target_moves_sideways_to_where_the_tip_entered():
    scene = Scene.from_states(peg_states())
    moved = _in_hindsight(scene)
    # 3 mm along the y axis of the hole, which is -x, and 2 mm down; not along its axis, and the same in every step.
    expected = torch.tensor(TARGET) + torch.tensor([-0.003, 0.0, -0.002])
    torch.testing.assert_close(moved.target.position, expected.expand(5, 3), atol=1e-6, rtol=0)
    # Nothing else in the scene has changed.
    assert_same(replace(moved, target=scene.target), scene)
    torch.testing.assert_close(moved.target.rotation, scene.target.rotation, atol=0, rtol=0)


def test_in_hindsight_the_tip_entered_in_the_middle():
    moved = _in_hindsight(Scene.from_states(peg_states()))
    missed = (moved.target.rotation.mT @ (moved.tip_position - moved.target.position).unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(missed[2], torch.tensor([-0.08, 0.0, 0.0]), atol=1e-6, rtol=0)


def test_without_an_entry_the_target_stays():
    scene = Scene.from_states(peg_states()[:2])
    assert_same(_in_hindsight(scene), scene)


def assert_same(scene, other):
    for name in ("tcp", "object", "target"):
        for part in ("position", "rotation"):
            assert torch.equal(getattr(getattr(scene, name), part), getattr(getattr(other, name), part))
    for name in ("tip", "sizes", "width", "joints"):
        assert torch.equal(getattr(scene, name), getattr(other, name))


@pytest.mark.parametrize(("task", "hindsight"), [("PegInsertion", True), ("PegInsertion", False), ("PickCube", True)])
def test_samples_have_the_target_in_hindsight_where_it_is_a_hole(task, hindsight):
    states = peg_states()
    robot = np.zeros((5, 31), np.float32)
    robot[:, 3], robot[:, 13:20] = 1, [0, 0.4, 0, -2.0, 0, 2.4, 0.8]
    actions = np.concatenate([robot[1:, 13:20], np.ones((4, 1), np.float32)], 1)
    articulations = {"articulations": {"panda_wristcam": robot}}
    demo = SimpleNamespace(states=states.numpy().astype(np.float64), actions=actions, env_states=articulations, seed=0)
    demos = DemonstrationSet(get_task(task), Path("demos.h5"), "pd_joint_pos", "fake", [demo])
    windows = Windows(demos, np.array([[2]]), context=2, chunk=2, hindsight=hindsight)
    aside = torch.tensor([-0.003, 0.0, -0.002]) if task == "PegInsertion" and hindsight else torch.zeros(3)
    expected = (torch.tensor(TARGET) + aside).expand(4, 3)  # of the states that an action follows
    torch.testing.assert_close(windows.scenes.target.position, expected, atol=1e-6, rtol=0)
