"""A demonstration replayed in a new scene: its stretches between key states, each moved with what it belongs to.

As in MimicGen (Mandlekar et al. 2023), where people mark the subtasks by hand and say which object each belongs to. Here key
states mark them, and the object is found (:mod:`~infoatlas_rl.policies.references`). A stretch is moved as its reference is: from
where that was when the stretch began to where it is now. What the gripper carries is moved likewise, and the gripper with it as
it holds it now. The gap between the end of one stretch and the beginning of the next is closed along the first part of the
latter, and no step is longer than those of the demonstration. The arm follows by the simulator's inverse kinematics. Objects that
are heavier than in the demonstration sink, and slip: while something is carried, the commands make up for it, little by little.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from infoatlas_rl.maniskill.envs import read_geometry
from infoatlas_rl.maniskill.tasks import Geometry, Task
from infoatlas_rl.policies.references import (
    METRES_PER_RADIAN,
    Course,
    Reference,
    actor_poses,
    step_lengths,
    symmetry_rotations,
    way,
)
from infoatlas_rl.policies.scene import Pose, rotation_matrix, rotation_vector, turned

CLOSED = 0.7
"""Share of a stretch after which its gap is closed."""
PATIENCE = 15
"""Steps at the end in which the scene may come to rest."""
WITHIN = 0.002, 0.02
"""A pose is reached to this, in m and rad."""
SIZE_COUNTS = 20.0
"""A demonstration with an object of another size fits a scene as badly as one that has to be moved so many times as far: moved, a
path leads where it led, but a longer peg meets the hole elsewhere."""
MAKING_UP = 0.1
"""Share of the distance to where something carried should be that each step adds to the commands."""
MOST_ADDED = 0.02
"""What is added in all is at most this, in m."""
FINGERS = 0.04, 0.04
"""Joints of the open gripper, in m; they do not matter to the kinematics of the arm."""


@dataclass(frozen=True)
class Plan:
    """What is replayed: n courses, their cuts ``(n, k)``, and the k references of their stretches."""

    courses: Sequence[Course]
    cuts: NDArray[np.int64]
    references: Sequence[Reference]


@dataclass(frozen=True)
class Outcome:
    """What came of the replays in a scene: of the one that solved it, or of the first."""

    reason: str | None
    """Why it failed; None if the task is solved."""
    ends: tuple[int, ...]
    """Steps after which each of the stretches ended."""
    replays: int = 1
    """Demonstrations that were replayed, one after the other."""


class Replay:
    """Replays a plan in one scene after the other.

    Args:
        env: of ``pd_joint_pos``, made with :func:`~infoatlas_rl.maniskill.envs.make_env`; or a recorder around one.
    """

    def __init__(self, env: Any, task: Task, plan: Plan) -> None:
        self.env, self.task, self.plan = env, task, plan

    def __call__(self, seed: int) -> Outcome:
        """Replay in scene ``seed`` the demonstration that fits it best; if that does not solve it, the next best from the
        beginning, until one does. If none does, what came of the first."""
        self.env.reset(seed=seed)
        geometry = read_geometry(self.env, self.task)
        outcomes: list[Outcome] = []
        for number in self._order(self._actors(geometry), geometry):
            if outcomes:
                self.env.reset(seed=seed)
            outcomes.append(self._replayed(self.plan.courses[number], self.plan.cuts[number], geometry))
            if outcomes[-1].reason is None:
                break
        told = outcomes[-1] if outcomes[-1].reason is None else outcomes[0]
        return replace(told, replays=len(outcomes))

    def _replayed(self, course: Course, cuts: NDArray[np.int64], geometry: Geometry | None) -> Outcome:
        """Replay a course, cut at ``cuts (k,)``, in a scene that was just reset."""
        arm = Arm(self.env)
        joints, steps, ends, solved = arm.joints(), 0, [], False
        now, added = arm.pose(joints), torch.zeros(3)
        for number, (first, end) in enumerate(course.stretches(cuts)):
            if end > first:
                reference = self.plan.references[number]
                if reference.carried is None:
                    now, added = Pose(now.position + added, now.rotation), torch.zeros(3)
                path, places = self._moved(course, first, end, reference, now, arm.gripper(), self._actors(geometry))
                for t, begins, target in _paced(now, path, course.pace):
                    if places is not None and begins and course.gripper[first + t] < 0:
                        added = _more(added, places[t] - self._actors(geometry)[reference.carried].position)
                    joints = arm.follow(Pose(target.position + added, target.rotation), joints, course.joints[first + t])
                    if joints is None:
                        return Outcome(f"stretch {number + 1} leads out of reach", tuple(ends))
                    solved, steps = self._step(joints, float(course.gripper[first + t])), steps + 1
                now = path[-1]
            ends.append(steps)
        while not solved and steps < ends[-1] + PATIENCE:
            solved, steps = self._step(joints, float(course.gripper[-1])), steps + 1
        if solved and steps > self.task.horizon:
            return Outcome(f"longer than {self.task.horizon} steps", tuple(ends))
        return Outcome(None if solved else "replayed, task not solved", tuple(ends))

    def _step(self, joints: NDArray[np.float64], gripper: float) -> bool:
        *_, info = self.env.step(np.append(joints, gripper).astype(np.float32))
        return bool(info["success"])

    def _actors(self, geometry: Geometry | None) -> dict[str, Pose]:
        state = {name: values.cpu().numpy() for name, values in self.env.unwrapped.get_state_dict()["actors"].items()}
        return {name: pose[0] for name, pose in actor_poses(state, self.task, geometry).items()}

    def _order(self, actors: dict[str, Pose], geometry: Geometry | None) -> list[int]:
        """Courses by how far their references have to be moved, and how far their object is from this one in size; the nearest
        first."""
        used = {(reference.actor, reference.turns) for reference in self.plan.references if reference.actor is not None}

        def effort(course: Course) -> float:
            cost = 0.0 if geometry is None else SIZE_COUNTS * float(np.linalg.norm(geometry.half_size - course.half_size))
            for name, turns in used:
                there, here = course.actors[name][0], actors[name]
                cost += float((here.position - there.position).norm())
                turn = here.rotation @ symmetry_rotations(self.task, name) @ there.rotation.mT
                cost += METRES_PER_RADIAN * float(rotation_vector(turn).norm(dim=-1).min()) * turns
            return cost

        return np.argsort([effort(course) for course in self.plan.courses], kind="stable").tolist()

    def _moved(
        self, course: Course, first: int, end: int, reference: Reference, now: Pose, tcp: Pose, actors: dict[str, Pose]
    ) -> tuple[Pose, Tensor | None]:
        """The commands of a stretch of t steps in this scene, and where what is carried should be before each of them ``(t, 3)``.

        ``now`` is the command before, ``tcp`` the gripper. Carried, a thing should be as far behind the command before as it was
        in the demonstration.
        """
        commands = course.commands[first:end]
        if reference.carried is None:
            path, _ = self._with_reference(commands, course, first, reference, now, actors)
            return _joined(path, now, _shares(commands)), None
        shown, carried = course.actors[reference.carried], actors[reference.carried]
        held, held_now = course.tcp[first].inverse() @ shown[first], tcp.inverse() @ carried
        path, turn = self._with_reference(commands @ held, course, first, reference, carried, actors)
        path = _joined(path @ held_now.inverse(), now, _shares(commands))
        before = np.maximum(np.arange(first, end) - 1, 0)
        behind = shown.position[first:end] - (course.commands[before] @ held).position
        led = Pose.cat([now[None], path[:-1]]) @ held_now
        return path, led.position + turned(behind, turn)

    def _with_reference(
        self, path: Pose, course: Course, first: int, reference: Reference, now: Pose, actors: dict[str, Pose]
    ) -> tuple[Pose, Tensor]:
        """The path of something that is at ``now``, moved as the reference is, and the rotation by which it was turned."""
        if not reference.turns:
            kept = now.rotation @ path.rotation[0].mT @ path.rotation  # the rotation goes on from what it is
            if reference.actor is None:
                return Pose(path.position, kept), torch.eye(3)
            moved_by = actors[reference.actor].position - course.actors[reference.actor][first].position
            return Pose(path.position + moved_by, kept), torch.eye(3)
        there, here = course.actors[reference.actor][first], actors[reference.actor]

        def moved(turn: Tensor, flip: Tensor) -> Pose:
            return Pose(here.position + turned(path.position - there.position, turn), turn @ path.rotation @ flip)

        turns = here.rotation @ symmetry_rotations(self.task, reference.actor) @ there.rotation.mT
        options = [(moved(turn, flip), turn) for turn in turns for flip in reference.flips]
        # Of all ways that look the same, the one for which the least is turned.
        return min(options, key=lambda option: float(rotation_vector(option[0].rotation[-1] @ now.rotation.mT).norm()))


def _more(added: Tensor, distance: Tensor) -> Tensor:
    """What is added to the commands ``(3,)``, after one more step in which what is carried is so far from where it should be."""
    added = added + MAKING_UP * distance
    return added * (MOST_ADDED / max(float(added.norm()), MOST_ADDED))


def _shares(path: Pose) -> Tensor:
    """Share of the way of a path that is behind each of its poses, ``(t,)``."""
    behind = torch.cat([torch.zeros(1), step_lengths(path).cumsum(0)])
    return behind / behind[-1] if float(behind[-1]) > 1e-6 else torch.linspace(0, 1, len(behind))


def _joined(path: Pose, now: Pose, shares: Tensor) -> Pose:
    """The path, begun at ``now``: the gap is closed along it, as a cosine of the share of the way."""
    left = (0.5 + 0.5 * torch.cos(torch.pi * (shares / CLOSED).clamp(max=1))).unsqueeze(-1)
    turn = rotation_vector(now.rotation @ path.rotation[0].mT)
    return Pose(path.position + left * (now.position - path.position[0]), rotation_matrix(left * turn) @ path.rotation)


def _paced(now: Pose, path: Pose, pace: float) -> Iterator[tuple[int, bool, Pose]]:
    """The poses of a path, and as many on the way to each as keep every step below ``pace``; with the number of the pose, and
    whether the way to it begins."""
    for t in range(len(path.position)):
        target = path[t]
        offset = target.offset_from(now)
        count = max(1, int(np.ceil(float(way(now, target)) / pace)))
        for k in range(1, count):
            yield t, k == 1, now.offset_by(offset * (k / count))
        yield t, count == 1, target
        now = target


class Arm:
    """The Panda of an environment that was just reset: its joints, and those that bring its gripper to a pose."""

    def __init__(self, env: Any) -> None:
        self.agent = env.unwrapped.agent
        articulation = self.agent.robot._objs[0]
        self.model = articulation.create_pinocchio_model()
        self.link = next(i for i, link in enumerate(articulation.links) if link.name.endswith("panda_hand_tcp"))
        self.root = articulation.pose
        self.limits = articulation.get_qlimits()[:7]

    def joints(self) -> NDArray[np.float64]:
        """``(7,)``"""
        return self.agent.robot.get_qpos()[0].cpu().numpy().astype(np.float64)[:7]

    def gripper(self) -> Pose:
        """Where the gripper is."""
        return _pose(self.agent.tcp.pose.sp)

    def pose(self, joints: NDArray[np.float64]) -> Pose:
        """Where the gripper is with other joints."""
        self.model.compute_forward_kinematics(np.append(joints, FINGERS))
        return _pose(self.root * self.model.get_link_pose(self.link))

    def follow(self, target: Pose, *starts: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """Joints ``(7,)`` with which the gripper is at ``target``, sought from one of ``starts`` after the other; None if there
        are none within their limits."""
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = target.rotation.numpy(), target.position.numpy()
        wanted, moving = self.root.inv() * type(self.root)(matrix), np.array([1] * 7 + [0] * 2, dtype=np.int32)
        for start in starts:
            found, _, error = self.model.compute_inverse_kinematics(
                self.link, wanted, np.append(start, FINGERS), moving, eps=1e-4, max_iterations=100, dt=0.5, damp=1e-4
            )
            found = found[:7]
            there = np.linalg.norm(error[:3]) < WITHIN[0] and np.linalg.norm(error[3:]) < WITHIN[1]
            if there and (found >= self.limits[:, 0]).all() and (found <= self.limits[:, 1]).all():
                return found
        return None


def _pose(pose: Any) -> Pose:
    matrix = torch.tensor(pose.to_transformation_matrix(), dtype=torch.float32)
    return Pose(matrix[:3, 3], matrix[:3, :3])
