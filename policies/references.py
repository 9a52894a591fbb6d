"""Which object a stretch of a demonstration belongs to: the one whose pose tells most about where the gripper goes.

Demonstrations are cut at their key states. Of every stretch between two of them the mutual information is computed between the
pose of each object where the stretch begins and the pose of the gripper (or of what it has carried all along) where it ends, over
the demonstrations, under a model in which the gripper goes to one place in the frame of the object, up to Gaussian noise::

    I = 3/2 log(var p / var p_f) + 3/2 log(var r / var r_f)

with the variances of position and rotation vector in the world, and in the frame f of the object. Frames that move with the
object but keep the rotation of the world are tried as well, and they alone for a target that may be reached as one likes:
rotations of a few demonstrations agree by chance. Fewer than three demonstrations show no variance: there the object that is
nearest to the gripper is taken.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from infoatlas_rl.maniskill.demos import Demonstration
from infoatlas_rl.maniskill.states import pose_matrix
from infoatlas_rl.maniskill.tasks import Geometry, Task
from infoatlas_rl.policies.control import commanded_poses, gripper_poses
from infoatlas_rl.policies.scene import ROTATIONS, Pose, rotation_vector, turned
from infoatlas_rl.tables import Table

MOVED = 0.005
"""Objects that move less, in m, are at rest."""
CARRIED = 0.01, 0.25
"""An object is carried while it moves in the frame of the gripper by less than this, in m, and a share of its own way."""
ACCURACY = 0.002, 0.03
"""Standard deviations of positions (m) and rotations (rad) are not taken for smaller than this."""
ENDING = 0.2
"""Share of a stretch, at its end, in which the gripper is where the stretch leads to."""
TURNING = 0.5
"""Nats that the rotation of an object has to add before it counts."""
ENOUGH = 3
"""Demonstrations that show a variance."""
METRES_PER_RADIAN = 0.1
"""A turn of the gripper by 1 rad counts as a way of this length."""
MIDDLE = "target"
"""Name of the target, where it is in the middle of several actors."""
TIP = "tip"
"""Name of the point of the manipulated object that has to reach the target, where that is not its centre."""
FLIPS = torch.stack([torch.eye(3), torch.diag(torch.tensor([-1.0, -1.0, 1.0]))])
"""A gripper of two fingers that is turned by half a turn about its axis grasps the same."""


@dataclass(frozen=True)
class Course:
    """A demonstration of t steps as poses: where the gripper was told to go, and where it and everything else was then."""

    commands: Pose
    joints: NDArray[np.float64]
    """``(t, 7)``, those of the arm that the commands stand for."""
    tcp: Pose
    gripper: NDArray[np.float32]
    actors: Mapping[str, Pose]
    half_size: NDArray[np.float64]
    """``(3,)``, of the manipulated object; zeros where it is not known."""

    @classmethod
    def of(cls, demo: Demonstration, task: Task) -> Course:
        """Of a demonstration that was recorded with ``pd_joint_pos``."""
        actors = {name: values[:-1] for name, values in demo.env_states["actors"].items()}
        half_size = np.zeros(3) if demo.geometry is None else demo.geometry.half_size
        poses = actor_poses(actors, task, demo.geometry)
        joints, gripper = demo.actions[:, :7].astype(np.float64), demo.actions[:, -1]
        return cls(commanded_poses(demo), joints, gripper_poses(demo)[:-1], gripper, poses, half_size)

    def __len__(self) -> int:
        return len(self.gripper)

    @cached_property
    def pace(self) -> float:
        """Length of a fast step of the gripper, in m: 95 % are shorter."""
        return float(step_lengths(self.commands).quantile(0.95))

    def stretches(self, cuts: NDArray[np.int64]) -> list[tuple[int, int]]:
        """First steps and ends of the stretches between key states at ``cuts (k,)``, the last one up to the end; some may be
        empty."""
        ends = np.maximum.accumulate(np.append(np.clip(cuts[:-1], 0, len(self)), len(self))).tolist()
        return list(zip([0, *ends[:-1]], ends, strict=True))


@dataclass(frozen=True)
class Reference:
    """What a stretch belongs to."""

    actor: str | None
    """None: the world."""
    turns: bool = False
    """The path is turned with the actor, and not only moved."""
    carried: str | None = None
    """What the gripper carries from the beginning to the end of the stretch."""
    information: float = math.nan
    """Of the actor about the end of the stretch, in nats; NaN where there are too few demonstrations to tell."""

    @property
    def flips(self) -> Tensor:
        """Rotations of the gripper after which it holds the same: none but that it has while it carries something."""
        return FLIPS if self.carried is None else FLIPS[:1]


def find_references(courses: Sequence[Course], cuts: NDArray[np.int64], task: Task) -> list[Reference]:
    """The reference of each of the k stretches of n courses that are cut at ``cuts (n, k)``.

    Raises:
        ValueError: no object is moved in any of the demonstrations.
    """
    moving = [name for name in courses[0].actors if any(_travel(course.actors[name]) > MOVED for course in courses)]
    if not moving:
        raise ValueError(
            f"in none of the {len(courses)} demonstrations an object is moved, of {', '.join(courses[0].actors)}: there is "
            "nothing that stretches of them could belong to; demonstrations have to show the task being done"
        )
    names = [name for name in courses[0].actors if name in moving or len(courses) < 2 or _differs(courses, name)]
    parts = [course.stretches(row) for course, row in zip(courses, cuts, strict=True)]
    found: list[Reference] = []
    before = None
    for k in range(cuts.shape[1]):
        stretch = [part[k] for part in parts]
        found.append(_reference(courses, stretch, names, task, before))
        before = found[-1].carried if any(end > first for first, end in stretch) else before
    return found


def describe(cuts: NDArray[np.int64], references: Sequence[Reference]) -> Table:
    """A table of stretches."""
    rows = []
    first = 0
    for number, (reference, end) in enumerate(zip(references, cuts[0], strict=True), start=1):
        moves = "is not moved" if reference.actor is None else f"{reference.actor}{'' if reference.turns else ', not turned'}"
        known = "" if math.isnan(reference.information) else f"{reference.information:.1f}"
        rows.append([str(number), f"{first} to {end}", reference.carried or "", moves, known])
        first = end
    return Table(["stretch", "steps of the first", "carries", "moves with", "nats"], rows)


def actor_poses(actors: Mapping[str, NDArray], task: Task, geometry: Geometry | None) -> dict[str, Pose]:
    """Poses ``(t,)`` of the actors ``{name: (t, 13)}`` of a simulation state; of the target where the tip of the object has to
    go, and of the tip, where it is not the centre."""
    found = {}
    for name, values in actors.items():
        rows = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
        pose = torch.tensor(pose_matrix(rows[:, :7]), dtype=torch.float32)
        found[name] = Pose(pose[:, :3, 3].contiguous(), pose[:, :3, :3].contiguous())
    if geometry is not None:
        if len(task.targets) == 1:
            found[task.targets[0]] = _point_of(found[task.targets[0]], geometry.target_offset)
        else:
            places = torch.stack([found[name].position for name in task.targets])
            found[MIDDLE] = _point_of(Pose(places.mean(0), found[task.targets[0]].rotation), geometry.target_offset)
        if geometry.tip_offset.any():
            found[TIP] = _point_of(found[task.object], geometry.tip_offset)
    return found


def symmetry_rotations(task: Task, actor: str | None) -> Tensor:
    """Rotations ``(s, 3, 3)`` after which an actor looks as before, as far as the task is known."""
    return ROTATIONS[task.symmetry if actor in (TIP, *task.objects) else "none"]


def way(start: Pose, end: Pose) -> Tensor:
    """Length ``(...)`` of the way from one pose to another, in m, with what a turn counts as."""
    offset = end.offset_from(start)
    return offset[..., :3].norm(dim=-1) + METRES_PER_RADIAN * offset[..., 3:].norm(dim=-1)


def step_lengths(path: Pose) -> Tensor:
    """Lengths ``(t - 1,)`` of the steps of a path, in m."""
    return way(path[:-1], path[1:])


def _reference(
    courses: Sequence[Course], parts: list[tuple[int, int]], names: list[str], task: Task, before: str | None
) -> Reference:
    shown = [(course, first, end) for course, (first, end) in zip(courses, parts, strict=True) if end > first]
    if not shown:
        return Reference(None)
    carried = _carried(shown, task, before)
    itself = (carried, task.object) if carried == TIP else (carried,)
    names = [name for name in names if name not in itself]
    ends = []
    for course, first, end in shown:
        moments = np.linspace(end - 1 - ENDING * (end - 1 - first), end - 1, 4).round().astype(int)
        ends.append((course.commands if carried is None else course.actors[carried])[moments])
    frames = {name: [course.actors[name][first] for course, first, _ in shown] for name in names}
    if len(shown) < ENOUGH:
        distance = {name: _distance(frames[name], ends) for name in names}
        nearest = min(distance, key=distance.__getitem__) if names else None
        return Reference(nearest, nearest is not None and _may_turn(nearest, task), carried)
    best = Reference(None, carried=carried, information=0.0)
    world = _variances(ends, best, task)
    for name in names:
        for turns in (False, True) if _may_turn(name, task) else (False,):
            tried = Reference(name, turns, carried)
            seen = [frame_of(pose, turns).inverse() @ end for pose, end in zip(frames[name], ends, strict=True)]
            variances = _variances(seen, tried, task)
            information = sum(1.5 * math.log(w / v) for w, v in zip(world, variances, strict=True))
            if information > best.information + TURNING * turns:
                best = replace(tried, information=information)
    return best


def _carried(shown: Sequence[tuple[Course, int, int]], task: Task, before: str | None) -> str | None:
    """What moves with the gripper from the beginning to the end of a stretch, in most demonstrations, or rests with it after it
    was carried ``before`` and not let go: of the manipulated object its tip, where it has one."""
    for name in shown[0][0].actors:
        part = TIP if name == task.object and TIP in shown[0][0].actors else name
        votes = []
        for course, first, end in shown:
            pose = course.actors[name][first:end]
            way, slip = _travel(pose), _travel(course.tcp[first:end].inverse() @ pose)
            kept = part == before and np.ptp(course.gripper[max(first - 1, 0) : end]) < 1
            votes.append((way > MOVED or kept) and slip < CARRIED[0] + CARRIED[1] * way)
        if np.mean(votes) > 0.5:
            return part
    return None


def looking_alike(path: Pose, reference: Reference, task: Task) -> list[Pose]:
    """All that a path in the frame of a reference may as well be: seen from an object that looks the same, and held by a flipped
    gripper. The first of them is the path."""
    symmetry = symmetry_rotations(task, reference.actor) if reference.turns else FLIPS[:1]
    return [Pose(turned(path.position, s.mT), s.mT @ path.rotation @ flip) for s in symmetry for flip in reference.flips]


def _variances(poses: Sequence[Pose], reference: Reference, task: Task) -> tuple[float, float]:
    """Variances of position and rotation vector of m courses ``(t,)`` in the frame of a reference, mean over t; of all that looks
    alike, as it is nearest to the first."""
    first = poses[0]
    chosen = [first]
    for pose in poses[1:]:
        chosen.append(min(looking_alike(pose, reference, task), key=lambda option: float(way(first, option).mean())))
    turns = torch.stack([rotation_vector(pose.rotation @ first.rotation.mT) for pose in chosen])
    columns = torch.stack([pose.position for pose in chosen]), turns
    place, turn = (max(float(c.var(0).mean()), least**2) for c, least in zip(columns, ACCURACY, strict=True))
    return place, turn


def _distance(frames: Sequence[Pose], ends: Sequence[Pose]) -> float:
    return min(float((end.position[-1] - frame.position).norm()) for frame, end in zip(frames, ends, strict=True))


def _may_turn(actor: str, task: Task) -> bool:
    """Whether the rotation of an actor can matter: not that of a target which an object may reach as it likes."""
    return actor not in (MIDDLE, *task.targets) or actor in task.objects or task.aims


def frame_of(pose: Pose, turns: bool) -> Pose:
    """The frame of an object at a pose, with its rotation or with that of the world."""
    return pose if turns else Pose(pose.position, torch.eye(3))


def _point_of(pose: Pose, offset: NDArray[np.float64]) -> Pose:
    return Pose(pose.position + turned(torch.tensor(offset, dtype=torch.float32), pose.rotation), pose.rotation)


def _travel(pose: Pose) -> float:
    """Largest distance from where it was first, in m."""
    return float((pose.position - pose.position[0]).norm(dim=-1).max())


def _differs(courses: Sequence[Course], name: str) -> bool:
    """An actor begins elsewhere in some of the courses."""
    begins = torch.stack([course.actors[name].position[0] for course in courses])
    return float((begins - begins[0]).norm(dim=-1).max()) > MOVED
