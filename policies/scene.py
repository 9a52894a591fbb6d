"""What a policy sees: the poses in a scene, symmetry-aware relative features of them, and displacements of them.

A 100-D state (``infoatlas_rl.maniskill.states``) is reduced to the poses of gripper, object and target, since everything
else in it follows from them. Two things are then done with the poses:

* **Features** are relative: where the object is from the gripper, where the gripper would have to go to bring the object
  to its target, each at three scales. A cube looks the same in 24 rotations and a peg in four, so the
  rotation of an object is the one nearest to the gripper among all that look the same. What looks the same is said of a task in
  its description.
* **Displacements** make new training samples: the gripper (and what it holds) is moved rigidly by a little, or the object
  is turned in the hand, and the commanded poses stay where they were in the world. A policy that is trained on them
  corrects its errors instead of adding them up; no simulator is needed for it.

Lengths in m, rotations as matrices or rotation vectors (rad), everything in the world frame unless noted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from infoatlas_rl.maniskill.states import STATE_INDEX
from infoatlas_rl.maniskill.tasks import Task

LENGTH_SCALES = (0.3, 0.05, 0.008)
"""Lengths are seen as tanh(length / scale), in m: across the table, a hand's breadth, the tolerance of a task."""
ANGLE_SCALES = (1.0, 0.1)
"""Rotation vectors likewise, in rad."""


@dataclass(frozen=True)
class Pose:
    """Poses of any batch shape: ``position (..., 3)`` and ``rotation (..., 3, 3)``."""

    position: Tensor
    rotation: Tensor

    @classmethod
    def cat(cls, poses: Sequence[Pose]) -> Pose:
        """Batches one after the other."""
        return cls(torch.cat([pose.position for pose in poses]), torch.cat([pose.rotation for pose in poses]))

    def __matmul__(self, other: Pose) -> Pose:
        return Pose(self.position + turned(other.position, self.rotation), self.rotation @ other.rotation)

    def inverse(self) -> Pose:
        back = self.rotation.mT
        return Pose(-turned(self.position, back), back)

    def __getitem__(self, index: object) -> Pose:
        return Pose(self.position[index], self.rotation[index])

    def offset_from(self, other: Pose) -> Tensor:
        """``(..., 6)``: translation and rotation vector in the world frame that lead from ``other`` to this pose."""
        return torch.cat([self.position - other.position, rotation_vector(self.rotation @ other.rotation.mT)], -1)

    def offset_by(self, offset: Tensor) -> Pose:
        """The pose that :meth:`offset_from` leads to."""
        return Pose(self.position + offset[..., :3], rotation_matrix(offset[..., 3:]) @ self.rotation)


@dataclass(frozen=True)
class Scene:
    """The poses and sizes in a batch of states."""

    tcp: Pose
    object: Pose
    target: Pose
    tip: Tensor
    """``(..., 3)``, the point of the object that has to reach the target, in the frame of the object."""
    sizes: Tensor
    """``(..., 4)``: half extents of the object, clearance."""
    width: Tensor
    """``(..., 1)``, distance between the fingers."""
    joints: Tensor
    """``(..., 7)``, positions of the arm's joints, in rad."""

    @classmethod
    def from_states(cls, states: Tensor) -> Scene:
        """Read 100-D states ``(..., 100)``."""

        def part(name: str) -> Tensor:
            return states[..., STATE_INDEX[name]]

        moved, target = pose_in_states(states, "object"), pose_in_states(states, "target")
        tip = target.position - part("tip_to_target") - moved.position
        return cls(
            tcp=pose_in_states(states, "tcp"),
            object=moved,
            target=target,
            tip=turned(tip, moved.rotation.mT),
            sizes=torch.cat([part("object_half_size"), part("clearance")], -1),
            width=part("gripper_width"),
            joints=part("qpos")[..., :7],
        )

    def __getitem__(self, index: object) -> Scene:
        return Scene(**{part.name: getattr(self, part.name)[index] for part in fields(self)})

    @classmethod
    def cat(cls, scenes: Sequence[Scene]) -> Scene:
        """Batches one after the other."""
        poses = {name: Pose.cat([getattr(scene, name) for scene in scenes]) for name in ("tcp", "object", "target")}
        others = {name: torch.cat([getattr(scene, name) for scene in scenes]) for name in ("tip", "sizes", "width", "joints")}
        return cls(**poses, **others)

    @property
    def tip_position(self) -> Tensor:
        """``(..., 3)``, the tip in the world."""
        return self.object.position + turned(self.tip, self.object.rotation)

    def displaced(self, offset: Tensor, held: Tensor) -> Scene:
        """The gripper moved by ``offset (..., 6)``, with the object where ``held (..., 1)`` is true; joints stay as they are."""
        tcp = self.tcp.offset_by(offset)
        carried = tcp @ self.tcp.inverse() @ self.object
        return replace(
            self,
            tcp=tcp,
            object=Pose(
                torch.where(held, carried.position, self.object.position),
                torch.where(held.unsqueeze(-1), carried.rotation, self.object.rotation),
            ),
        )

    def slipped(self, slip: Pose) -> Scene:
        """The object moved in the hand by ``slip``, a pose in the frame of the gripper."""
        return replace(self, object=self.tcp @ slip @ self.tcp.inverse() @ self.object)


def pose_in_states(states: Tensor, name: str) -> Pose:
    """The pose of "tcp", "object" or "target" in 100-D states ``(..., 100)``."""
    position, quaternion = states[..., STATE_INDEX[f"{name}_position"]], states[..., STATE_INDEX[f"{name}_quaternion"]]
    return Pose(position, quaternion_matrix(quaternion))


@dataclass(frozen=True)
class Symmetry:
    """How an object may be turned without looking different, and whether its rotation matters at the target."""

    rotations: Tensor
    """``(s, 3, 3)``"""
    aims: bool
    """The object has to have the rotation of its target; a cube may lie as it likes."""


def _axis_rotations() -> Tensor:
    """The 24 rotations of a cube: signed permutation matrices of determinant 1."""
    found = []
    for order in ((0, 1, 2), (1, 2, 0), (2, 0, 1), (0, 2, 1), (2, 1, 0), (1, 0, 2)):
        for signs in range(8):
            matrix = torch.zeros(3, 3)
            for row, column in enumerate(order):
                matrix[row, column] = 1.0 if signs >> row & 1 else -1.0
            if torch.linalg.det(matrix) > 0:
                found.append(matrix)
    return torch.stack(found)


ROTATIONS = {"none": torch.eye(3)[None], "cube": _axis_rotations()}
ROTATIONS["bar"] = torch.stack([r for r in ROTATIONS["cube"] if r[0, 0] == 1])


def symmetry_of(task: Task) -> Symmetry:
    return Symmetry(ROTATIONS[task.symmetry], task.aims)


def canonical(rotation: Tensor, reference: Tensor, symmetry: Symmetry) -> Tensor:
    """Of all rotations that look the same, the one nearest to ``reference``; both ``(..., 3, 3)``."""
    relative = (reference.mT @ rotation).flatten(-2)
    # trace(relative @ S) = <relative, S^T>, largest for the smallest angle.
    best = (relative @ symmetry.rotations.mT.flatten(-2).T.to(relative)).argmax(-1)
    return rotation @ symmetry.rotations.to(rotation)[best]


@dataclass(frozen=True)
class Frames:
    """What commands refer to besides the gripper: the object, and the target."""

    offsets: Tensor
    """``(..., 2, 6)``, from the gripper now to the object, and to where it has to be for the object to be at its target."""
    rotations: Tensor
    """``(..., 2, 3, 3)``, of the object (the nearest that looks the same) and of the target."""


def frames(scene: Scene, symmetry: Symmetry) -> Frames:
    """The frames of object and target in a batch of scenes ``(...)``."""
    tcp, target = scene.tcp, scene.target
    moved = canonical(scene.object.rotation, tcp.rotation, symmetry)
    tip = scene.tip_position
    if symmetry.aims:
        turn = target.rotation @ canonical(moved, target.rotation, symmetry).mT
    else:
        turn = torch.eye(3).to(moved).expand_as(moved)
    arrived = target.position + turned(tcp.position - tip, turn)
    to_object = torch.cat([scene.object.position - tcp.position, rotation_vector(moved @ tcp.rotation.mT)], -1)
    to_target = torch.cat([arrived - tcp.position, rotation_vector(turn)], -1)
    return Frames(torch.stack([to_object, to_target], -2), torch.stack([moved, target.rotation], -3))


def features(scene: Scene, symmetry: Symmetry) -> Tensor:
    """Relative, symmetry-aware features ``(..., f)`` of a batch of scenes; the previous gripper command is not among them."""
    tcp, target = scene.tcp, scene.target
    near = frames(scene, symmetry)
    to_object, to_target = near.offsets.unbind(-2)
    tip = scene.tip_position
    height = scene.object.position[..., 2:] - scene.sizes[..., 2:3]
    parts = [
        tcp.position / 0.3,
        3 * tcp.rotation[..., :2, 2],
        tcp.rotation[..., :2, 0],
        *_lengths(to_object[..., :3]),
        *_lengths(turned(to_object[..., :3], tcp.rotation.mT)),
        *_angles(to_object[..., 3:]),
        *_lengths(target.position - tip),
        torch.tanh((target.position - tcp.position) / LENGTH_SCALES[0]),
        scene.width / 0.08,
        torch.tanh((scene.width - 2 * scene.sizes[..., 1:2]) / 0.005),
        scene.sizes / 0.05,
        torch.tanh(height / 0.05),
        torch.tanh(height / 0.005),
    ]
    if symmetry.aims:
        parts += [
            *_lengths(turned(tip - target.position, target.rotation.mT)),
            *_lengths(turned(scene.object.position - target.position, target.rotation.mT)),
            *_lengths(to_target[..., :3]),
            *_angles(to_target[..., 3:]),
            target.rotation[..., :2, 0],
        ]
    return torch.cat(parts, -1)


def raw_features(scene: Scene) -> Tensor:
    """Joints and poses ``(..., f)`` in the world, as ManiSkill's own observation states them, with the two offsets it adds."""
    parts = [
        part for pose in (scene.tcp, scene.object, scene.target) for part in (pose.position, pose.rotation.flatten(-2)[..., :6])
    ]
    return torch.cat(
        [
            *parts,
            scene.object.position - scene.tcp.position,
            scene.target.position - scene.tip_position,
            scene.sizes,
            scene.width,
            scene.joints,
        ],
        -1,
    )


def _lengths(vector: Tensor) -> list[Tensor]:
    return [torch.tanh(vector / scale) for scale in LENGTH_SCALES]


def _angles(vector: Tensor) -> list[Tensor]:
    return [torch.tanh(vector / scale) for scale in ANGLE_SCALES]


# --- rotations --------------------------------------------------------------------------------------------------------


def turned(vector: Tensor, rotation: Tensor) -> Tensor:
    """Vectors ``(..., 3)``, each turned by its matrix ``(..., 3, 3)``."""
    return (rotation @ vector.unsqueeze(-1)).squeeze(-1)


def quaternion_matrix(quaternion: Tensor) -> Tensor:
    """Unit quaternions ``(..., 4)``, w x y z, to ``(..., 3, 3)``."""
    w, x, y, z = (quaternion / quaternion.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def rotation_matrix(vector: Tensor) -> Tensor:
    """Rotation vectors ``(..., 3)`` to matrices, by Rodrigues' formula."""
    angle = vector.norm(dim=-1, keepdim=True)
    half = angle / 2
    # sin(a/2) / a is finite at 0
    scale = torch.where(angle > 1e-6, torch.sin(half) / angle.clamp_min(1e-6), torch.full_like(angle, 0.5))
    return quaternion_matrix(torch.cat([torch.cos(half), vector * scale], -1))


def rotation_vector(matrix: Tensor) -> Tensor:
    """Rotation matrices ``(..., 3, 3)`` to rotation vectors, angles in [0, pi]."""
    skew = torch.stack(
        [
            matrix[..., 2, 1] - matrix[..., 1, 2],
            matrix[..., 0, 2] - matrix[..., 2, 0],
            matrix[..., 1, 0] - matrix[..., 0, 1],
        ],
        -1,
    )
    sine = skew.norm(dim=-1, keepdim=True) / 2
    cosine = (matrix.diagonal(dim1=-2, dim2=-1).sum(-1, keepdim=True) - 1) / 2
    angle = torch.atan2(sine, cosine)
    scale = torch.where(sine > 1e-6, angle / (2 * sine.clamp_min(1e-6)), torch.full_like(angle, 0.5))
    vector, half_turn = skew * scale, (sine < 1e-3) & (cosine < 0)
    if not half_turn.any():
        return vector
    # The skew part vanishes there; R + R^T + 2 is 4 times the outer product of the axis.
    outer = matrix + matrix.mT + 2 * torch.eye(3).to(matrix)
    largest = matrix.diagonal(dim1=-2, dim2=-1).argmax(-1)
    axis = F.normalize(outer.take_along_dim(largest[..., None, None], -1).squeeze(-1), dim=-1)
    axis = torch.where((axis * skew).sum(-1, keepdim=True) < 0, -axis, axis)
    return torch.where(half_turn, angle * axis, vector)
