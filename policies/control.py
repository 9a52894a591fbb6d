"""Commands as poses of the gripper or positions of the joints, and as actions of ManiSkill's controllers.

A policy commands *poses* of the gripper in the world, or *joints*. The action that leads to them is their difference from
where the arm is, so errors of the arm do not add up over a chunk of commands. Demonstrations of motion planning record joint
targets; forward kinematics turns them into commanded poses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from infoatlas_rl.maniskill.demos import Demonstration
from infoatlas_rl.maniskill.panda import forward_kinematics
from infoatlas_rl.maniskill.states import pose_matrix
from infoatlas_rl.policies.scene import Pose

CONTROL_MODE = "pd_ee_delta_pose"
JOINT_MODE = "pd_joint_delta_pos"
REACH = 0.1
"""An action of 1 moves by 0.1 m, and turns by -0.1 rad: ManiSkill multiplies rotations by their lower limit."""
JOINT_REACH = 0.1
"""An action of 1 of ``pd_joint_delta_pos`` turns a joint by so much, in rad."""


@dataclass(frozen=True)
class Joints:
    """Positions ``(..., 7)`` of the arm's joints, in rad, with the methods of a pose that commands need."""

    positions: Tensor

    @classmethod
    def cat(cls, joints: Sequence[Joints]) -> Joints:
        return cls(torch.cat([part.positions for part in joints]))

    def __getitem__(self, index: object) -> Joints:
        return Joints(self.positions[index])

    def offset_from(self, other: Joints) -> Tensor:
        return self.positions - other.positions

    def offset_by(self, offset: Tensor) -> Joints:
        return Joints(self.positions + offset)


def commanded_joints(demo: Demonstration) -> Joints:
    """The joint targets ``(t,)`` of a ``pd_joint_pos`` demonstration."""
    return Joints(torch.tensor(demo.actions[:, :7], dtype=torch.float32))


def commanded_poses(demo: Demonstration) -> Pose:
    """The gripper poses ``(t,)`` that the joint targets of a ``pd_joint_pos`` demonstration stand for."""
    return _tcp(demo, demo.actions[:, :7])


def gripper_poses(demo: Demonstration) -> Pose:
    """The gripper poses ``(t + 1,)`` of the states of a demonstration."""
    return _tcp(demo, _panda(demo)[:, 13:20])


def _panda(demo: Demonstration) -> NDArray[np.float32]:
    (robot,) = (values for name, values in demo.env_states["articulations"].items() if name.startswith("panda"))
    return robot.reshape(len(robot), -1)


def _tcp(demo: Demonstration, arm: NDArray[np.float32]) -> Pose:
    joints = np.concatenate([arm, np.zeros((len(arm), 2))], axis=1).astype(np.float64)
    root = np.repeat(pose_matrix(_panda(demo)[:1, :7].astype(np.float64)), len(joints), axis=0)
    frames = torch.tensor(forward_kinematics(joints, root)["tcp"], dtype=torch.float32)
    return Pose(frames[:, :3, 3].contiguous(), frames[:, :3, :3].contiguous())


def to_action(command: Pose, gripper: Tensor, tcp: Pose) -> Tensor:
    """The actions ``(..., 7)`` that lead from ``tcp`` towards ``command``; gripper 1 opens, -1 closes."""
    move = ((command.position - tcp.position) / REACH).clamp(-1, 1)
    turn = _euler_xyz(command.rotation @ tcp.rotation.mT) / REACH
    turn = turn / turn.norm(dim=-1, keepdim=True).clamp_min(1)
    return torch.cat([move, -turn, gripper], -1)


def to_joint_action(command: Joints, gripper: Tensor, now: Joints) -> Tensor:
    """The actions ``(..., 8)`` of ``pd_joint_delta_pos`` that lead towards ``command``; gripper 1 opens, -1 closes."""
    return torch.cat([(command.offset_from(now) / JOINT_REACH).clamp(-1, 1), gripper], -1)


def _euler_xyz(rotation: Tensor) -> Tensor:
    """Angles of R = Rx Ry Rz, ``(..., 3)``."""
    return torch.stack(
        [
            torch.atan2(-rotation[..., 1, 2], rotation[..., 2, 2]),
            torch.asin(rotation[..., 0, 2].clamp(-1, 1)),
            torch.atan2(-rotation[..., 0, 1], rotation[..., 0, 0]),
        ],
        -1,
    )
