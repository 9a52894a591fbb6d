"""Cuts of a few demonstrations, moved to where the demonstrations agree.

Key states of five demonstrations are a few steps off in this one or that, and what is cut early in one and late in another leads
to no place. So every cut is moved, in each demonstration in turn, within some steps of where it was found, to where the pose of
the gripper (or of what it carries) varies least in the frame of the object that the stretch before it belongs to. That is the
conditional part of the mutual information of :mod:`~infoatlas_rl.policies.references`: what is left to say of the pose when the
object is known. A cut stays on its side of where the gripper opens or closes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from infoatlas_rl.maniskill.tasks import Task
from infoatlas_rl.policies.references import (
    ACCURACY,
    ENOUGH,
    Course,
    Reference,
    find_references,
    frame_of,
    looking_alike,
    way,
)
from infoatlas_rl.policies.scene import Pose, rotation_vector

REACH = 15
"""Steps by which a cut is moved at most."""
STAYING = 0.01
"""Nats that a cut has to gain for every step it is moved."""
ROUNDS = 3
"""How often each demonstration has its turn."""


def agreeing_cuts(courses: Sequence[Course], cuts: NDArray[np.int64], task: Task) -> NDArray[np.int64]:
    """Cuts ``(n, k)`` of n courses, all but the last of each moved to where the courses agree; as they are if there are too few
    of them to tell."""
    cuts = cuts.copy()
    if len(courses) < ENOUGH:
        return cuts
    for number in range(cuts.shape[1] - 1):
        reference = find_references(courses, cuts[:, : number + 2], task)[number]
        if reference.actor is not None:
            cuts[:, number] = _agreed(courses, cuts, number, reference, task)
    return cuts


def _agreed(
    courses: Sequence[Course], cuts: NDArray[np.int64], number: int, reference: Reference, task: Task
) -> NDArray[np.int64]:
    """One cut ``(n,)`` of each of the courses, by coordinate descent."""
    found = cuts[:, number]
    windows = [_window(course, row, number) for course, row in zip(courses, cuts, strict=True)]
    paths = _seen(courses, cuts, number, reference, task)

    def disagreement(steps: list[int]) -> float:
        poses = np.stack([path[step] for path, step in zip(paths, steps, strict=True)])
        parts = zip((poses[:, :3], poses[:, 3:]), ACCURACY, strict=True)
        nats = sum(1.5 * math.log(max(float(part.var(0, ddof=1).mean()), least**2)) for part, least in parts)
        return nats + STAYING * float(np.abs(np.array(steps) - found).sum())

    steps = found.tolist()
    for _ in range(ROUNDS):
        before = list(steps)
        for i, window in enumerate(windows):
            steps[i] = min(window, key=lambda step: disagreement([*steps[:i], step, *steps[i + 1 :]]))
        if steps == before:
            break
    return np.array(steps)


def _window(course: Course, row: NDArray[np.int64], number: int) -> list[int]:
    """Steps to which a cut may be moved: after the cut before, before the next, and not past a step at which the gripper opens or
    closes; only where it is if the stretch before it has no steps."""
    step, (first, end) = int(row[number]), course.stretches(row)[number]
    changes = np.flatnonzero(np.diff(np.sign(course.gripper))) + 1
    low = max([first + 1, step - REACH, *changes[changes <= step].tolist()])
    high = min([int(row[number + 1]) - 1, step + REACH, len(course) - 1, *changes[changes >= step].tolist()])
    return list(range(low, high + 1)) if end > first and low <= step <= high else [step]


def _seen(
    courses: Sequence[Course], cuts: NDArray[np.int64], number: int, reference: Reference, task: Task
) -> list[NDArray[np.float64]]:
    """Where the gripper has been led to, or what it carries is, when a course is cut at each of its t steps, in the frame of the
    reference ``(t + 1, 6)``: positions and rotation vectors; of all that looks alike, as it is nearest to the first course at its
    cut."""
    found: list[NDArray[np.float64]] = []
    nearest_to: Pose | None = None
    for course, row in zip(courses, cuts, strict=True):
        first, step = min(course.stretches(row)[number][0], len(course) - 1), int(row[number])
        if reference.carried is None:
            led = Pose.cat([course.tcp[:1], course.commands])  # cut at c, a stretch ends with the command before
        else:
            led = Pose.cat([course.actors[reference.carried], course.actors[reference.carried][-1:]])
        path = frame_of(course.actors[reference.actor][first], reference.turns).inverse() @ led
        nearest_to = path[step] if nearest_to is None else nearest_to
        options = looking_alike(path, reference, task)
        chosen = options[int(np.argmin([float(way(nearest_to, option[step])) for option in options]))]
        turns = rotation_vector(chosen.rotation @ nearest_to.rotation.mT)
        found.append(np.concatenate([chosen.position.numpy(), turns.numpy()], axis=1).astype(np.float64))
    return found
