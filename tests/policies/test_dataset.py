"""Training samples: windows of demonstrations, and their displacement."""

from __future__ import annotations

import pytest
import torch

from infoatlas_rl.policies.dataset import Displacement, Windows
from tests.conftest import fake_demos, keys_of


def test_windows_stay_inside_their_demonstration(windows):
    g = torch.Generator().manual_seed(0)
    batch = windows.batch(torch.arange(len(windows)), g)
    lengths = [40 + seed for seed in range(6)]
    assert len(windows) == sum(lengths)
    start = 0
    for length in lengths:
        for step in (0, 1, length - 1):
            row, past = start + step, [start + max(0, step - back) for back in (3, 2, 1, 0)]
            torch.testing.assert_close(batch.scenes.tcp.position[row], windows.scenes.tcp.position[past])
            last = windows.commands.position[min(start + step + 7, start + length - 1)]
            torch.testing.assert_close(batch.commands[row, -1, :3], last - windows.scenes.tcp.position[row])
        assert batch.gripper[start].tolist() == [[1.0]] * 4  # open before the first step
        start += length
    assert batch.keys[0, :, 10].tolist() == [0, 0, 0, 0]
    assert batch.keys[39, :, 10].tolist() == [1, 1, 1, 0]


def test_displaced_samples_command_the_same_poses_in_the_world(windows):
    now = torch.nonzero(~windows.held)[:, 0]
    plain = windows.batch(now, torch.Generator().manual_seed(0))
    moved = windows.batch(now, torch.Generator().manual_seed(0), Displacement(share=1.0))
    reached = moved.scenes.tcp[:, -1:].offset_by(moved.commands)
    expected = plain.scenes.tcp[:, -1:].offset_by(plain.commands)
    torch.testing.assert_close(reached.position, expected.position, atol=1e-5, rtol=0)
    torch.testing.assert_close(reached.rotation, expected.rotation, atol=1e-3, rtol=0)
    assert (moved.scenes.tcp.position - plain.scenes.tcp.position).norm(dim=-1).max() > 0.01
    torch.testing.assert_close(moved.scenes.object.position, plain.scenes.object.position)


def test_a_slipped_object_is_brought_to_where_it_would_have_come(windows):
    now = torch.nonzero(windows.held)[:, 0]
    assert len(now) > 50
    plain = windows.batch(now, torch.Generator().manual_seed(0))
    moved = windows.batch(now, torch.Generator().manual_seed(0), Displacement(share=1.0, slip=0.01, slip_turn=0.1))

    def arrivals(batch):
        tcp = batch.scenes.tcp[:, -1:]
        return tcp.offset_by(batch.commands) @ (tcp.inverse() @ batch.scenes.object[:, -1:])

    torch.testing.assert_close(arrivals(moved).position, arrivals(plain).position, atol=1e-5, rtol=0)
    torch.testing.assert_close(arrivals(moved).rotation, arrivals(plain).rotation, atol=1e-3, rtol=0)
    grip = [(b.scenes.tcp.inverse() @ b.scenes.object).position[:, -1] for b in (plain, moved)]
    assert (grip[0] - grip[1]).norm(dim=-1).max() > 3e-3


def test_other_control_modes_are_refused():
    demos = fake_demos(control_mode="pd_ee_delta_pose")
    with pytest.raises(ValueError, match=r"pd_ee_delta_pose.*has to be 'pd_joint_pos'.*collect_demos.py env=PickCube"):
        Windows(demos, keys_of(demos), 4, 8)


def test_commands_may_be_joints():
    demos = fake_demos()
    windows = Windows(demos, keys_of(demos), context=4, chunk=8, joints=True)
    batch, demo = windows.batch(torch.tensor([5]), torch.Generator()), demos.demonstrations[0]
    targets, now = torch.tensor(demo.actions[5:13, :7]), torch.tensor(demo.states[5, :7], dtype=torch.float32)
    torch.testing.assert_close(batch.commands[0], targets - now)
