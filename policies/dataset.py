"""Demonstrations as training samples: a window of recent states, the chunk of commands that followed, the key states."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from infoatlas_rl.checks import check_kinds
from infoatlas_rl.maniskill.demos import DemonstrationSet
from infoatlas_rl.maniskill.events import grasped
from infoatlas_rl.maniskill.recording import SOURCE_MODE
from infoatlas_rl.policies.control import Joints, commanded_joints, commanded_poses
from infoatlas_rl.policies.scene import Pose, Scene, rotation_matrix, turned

KEY_SIZE = 11
"""A key state relative to now: gripper (translation, rotation vector), object (translation), width, whether it is past."""


@dataclass(frozen=True)
class Batch:
    """b samples."""

    scenes: Scene
    """``(b, h)``, the last h steps."""
    gripper: Tensor
    """``(b, h, 1)``, the command before each of them: 1 open, -1 closed."""
    commands: Tensor
    """``(b, c, 6)``, offsets of the commanded poses from the gripper now; or ``(b, c, 7)``, of the joints from where they are."""
    closing: Tensor
    """``(b, c)``, 1 where the gripper is commanded to close."""
    keys: Tensor
    """``(b, k, 11)``, see :data:`KEY_SIZE`."""


@dataclass(frozen=True)
class Displacement:
    """How far training samples are displaced: normally distributed, with a standard deviation that is drawn log-uniformly
    between a hundredth of these and these."""

    move: float = 0.02
    """m"""
    turn: float = 0.1
    """rad"""
    slip: float = 0.004
    """m, of a held object in the hand"""
    slip_turn: float = 0.03
    """rad, of a held object in the hand"""
    share: float = 0.7
    """of samples that are displaced"""

    def __post_init__(self) -> None:
        check_kinds(self, "training.displacement.")
        for name in ("move", "turn", "slip", "slip_turn"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"training.displacement.{name} has to be 0 or more and finite, not {getattr(self, name)}")
        if not 0 <= self.share <= 1:
            raise ValueError(f"training.displacement.share has to be in [0, 1], not {self.share}")


class Windows:
    """All windows of a set of demonstrations, drawn in batches.

    Args:
        demos: recorded with ``pd_joint_pos``.
        key_steps: ``(n, k)``, steps of the key states of every demonstration.
        context: recent steps in a window.
        chunk: commands in a sample.
        hindsight: targets that are holes are moved to where the object entered.
        joints: commands are positions of joints instead of poses; samples can then not be displaced.
    """

    def __init__(
        self,
        demos: DemonstrationSet,
        key_steps: NDArray[np.int64],
        context: int,
        chunk: int,
        *,
        hindsight: bool = True,
        joints: bool = False,
    ) -> None:
        demos.require_control_mode(SOURCE_MODE, "policies learn what joint targets stand for")
        states, commands, gripper, held = [], [], [], []
        for demo in demos:
            states.append(torch.tensor(demo.states[:-1], dtype=torch.float32))
            commands.append(commanded_joints(demo) if joints else commanded_poses(demo))
            gripper.append(torch.tensor(demo.actions[:, -1], dtype=torch.float32))
            held.append(torch.tensor(grasped(demo.states, demos.task)[:-1]) & (gripper[-1] < 0))
        lengths = torch.tensor([len(s) for s in states])
        self.first = torch.repeat_interleave(lengths.cumsum(0) - lengths, lengths)
        self.last = self.first + torch.repeat_interleave(lengths, lengths) - 1
        scenes = [Scene.from_states(s) for s in states]
        if hindsight and demos.task.hole:
            scenes = [_in_hindsight(scene) for scene in scenes]
        self.scenes = Scene.cat(scenes)
        self.commands: Pose | Joints = (Joints if joints else Pose).cat(commands)
        self.gripper = torch.cat(gripper)
        self.held = torch.cat(held)
        steps = torch.as_tensor(np.ascontiguousarray(key_steps))
        # The state after the last action is not among the inputs; its key state is that of the step before.
        local = torch.minimum(steps, (lengths - 1).unsqueeze(1)) + (lengths.cumsum(0) - lengths).unsqueeze(1)
        self.keys = local.repeat_interleave(lengths, 0)
        self.context, self.chunk = context, chunk

    def __len__(self) -> int:
        return len(self.gripper)

    def sample(self, size: int, generator: torch.Generator, displacement: Displacement | None) -> Batch:
        now = torch.randint(len(self), (size,), generator=generator)
        return self.batch(now, generator, displacement)

    def batch(self, now: Tensor, generator: torch.Generator, displacement: Displacement | None = None) -> Batch:
        """The samples at the given steps ``(b,)``, displaced if asked for."""
        first, last = self.first[now, None], self.last[now, None]
        past = torch.maximum(now[:, None] + torch.arange(1 - self.context, 1), first)
        ahead = torch.minimum(now[:, None] + torch.arange(self.chunk), last)
        before = past - 1
        gripper = torch.where(before >= first, self.gripper[before], torch.ones(()))
        scenes, commands = self.scenes[past], self.commands[ahead]
        keys = self.scenes[self.keys[now]]
        if displacement is not None and displacement.share > 0:
            scenes, commands = self._displace(scenes, commands, self.held[now], generator, displacement)
        tcp, moved = scenes.tcp[:, -1:], scenes.object.position[:, -1:]
        key = torch.cat(
            [
                keys.tcp.offset_from(tcp),
                keys.object.position - moved,
                keys.width,
                (self.keys[now] < now[:, None]).float().unsqueeze(-1),
            ],
            -1,
        )
        here = Joints(scenes.joints[:, -1:]) if isinstance(commands, Joints) else tcp
        return Batch(scenes, gripper.unsqueeze(-1), commands.offset_from(here), (self.gripper[ahead] < 0).float(), key)

    def _displace(
        self, scenes: Scene, commands: Pose, held: Tensor, generator: torch.Generator, by: Displacement
    ) -> tuple[Scene, Pose]:
        size = len(held)

        def draw(largest: float) -> Tensor:
            scale = largest * 10 ** (-2 * torch.rand(size, 1, 1, generator=generator))
            return scale * torch.randn(size, 1, 3, generator=generator)

        chosen = (torch.rand(size, 1, 1, generator=generator) < by.share).float()
        held = held.view(-1, 1, 1)
        offset = torch.cat([draw(by.move), draw(by.turn)], -1) * chosen
        slip_offset = torch.cat([draw(by.slip), draw(by.slip_turn)], -1) * chosen * held
        scenes = scenes.displaced(offset, held)
        slip = Pose(slip_offset[..., :3], rotation_matrix(slip_offset[..., 3:]))
        # The object slips about its own centre, and the commands bring the object to where it would have come.
        grip = Pose((scenes.tcp.inverse() @ scenes.object).position[:, -1:], torch.eye(3).expand(size, 1, 3, 3))
        slip = grip @ slip @ grip.inverse()
        return scenes.slipped(slip), commands @ slip.inverse()


def _in_hindsight(scene: Scene) -> Scene:
    """The scene of a whole demonstration ``(t,)``, its target moved sideways to where the tip of the object entered.

    Demonstrations that only just succeed would be imitated with their error, which is as large as the clearance of a hole. In
    hindsight they are perfect demonstrations of a target that is a little to the side (Andrychowicz et al. 2017).
    """
    in_target = (scene.target.inverse() @ Pose(scene.tip_position, scene.object.rotation)).position
    entered = in_target[:, 0] > -scene.sizes[:, 0]
    if not entered.any():
        return scene
    aside = in_target[int(entered.float().argmax())] * torch.tensor([0.0, 1.0, 1.0])
    moved = scene.target.position + turned(aside, scene.target.rotation)
    return replace(scene, target=replace(scene.target, position=moved))
