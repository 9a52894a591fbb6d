"""Ground-truth events, recomputed from the states of a trajectory. They serve evaluation and pictures, never training.

Every event is the first step at which its condition holds, but for ``reached``, which is the middle of the time that the
gripper spends above the object before it goes down to grasp it. The conditions follow the ``evaluate()`` functions of the
tasks; contact forces are not recorded, so a grasp is recognised by its geometry.

=============  ==================  =====================================================================================
task           event               condition
=============  ==================  =====================================================================================
all            reached             TCP within 3 mm of its closest approach to the point 5 cm above where it will grasp
all            grasped             fingers settled on the object, not open, TCP at the object
PickCube       at_goal             cube within 2.5 cm of the goal and robot at rest (ManiSkill's success)
StackCube      above               cube A, held, within 2 cm of the axis of cube B
StackCube      placed              cube A on cube B (ManiSkill's thresholds), held or not
StackCube      released            on cube B, at rest and not held (ManiSkill's success)
PegInsertion   aligned             peg held, its head and centre within 1 cm of the axis of the hole (ManiSkill's thresholds)
PegInsertion   inserted            head of the peg 1.5 cm into the hole (ManiSkill's success)
=============  ==================  =====================================================================================
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from infoatlas_rl.maniskill.demos import Demonstration
from infoatlas_rl.maniskill.states import STATE_INDEX
from infoatlas_rl.maniskill.tasks import Task

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

ABOVE_GRASP = 0.05
"""Height of the pre-grasp pose above the grasp in ManiSkill's motion-planning solutions, in m."""
REACHED_TOLERANCE = 0.003
"""The gripper is at the pre-grasp pose while it is farther from it than at its closest approach by at most this, in m."""
ABOVE_TARGET = 0.02
"""A cube is above another when its centre is within half a cube of the axis, in m."""
HELD_DISTANCE = 0.02
"""A held object's surface is at most this far from the TCP, in m."""
SETTLED = 1e-3
"""The fingers have closed on the object when the width changes by less than this per step, in m."""
OPEN_WIDTH = 0.078
"""The fully open gripper measures 0.08 m."""
ALIGNED_OFFSET = 0.01
"""ManiSkill's threshold for a pre-inserted peg: head and centre off the axis of the hole, in m."""
STATIC_JOINT_SPEED = 0.2
"""ManiSkill's threshold for a robot at rest, in rad/s."""
STATIC_SPEED = (1e-2, 0.5)
"""ManiSkill's thresholds for an object at rest, in m/s and rad/s."""
INSERTED_DEPTH = -0.015
"""ManiSkill's threshold for an inserted peg: position of its head along the hole, in m."""


def detect_events(states: Array, task: Task) -> dict[str, int | None]:
    """Step of each of ``task.events`` in a trajectory ``(t, 100)``; None for an event that does not happen."""
    return {name: _EVENTS[name](states, task) for name in task.events}


def ground_truth(demo: Demonstration, task: Task) -> dict[str, int | None]:
    """The events of a demonstration; for a task without events, the stage ends that the motion planner noted, if any."""
    if task.events:
        return detect_events(demo.states, task)
    ends = demo.stage_ends if demo.planned else ()  # where key states were cut is no truth about key states
    return {f"stage {number}": min(end, len(demo) - 1) for number, end in enumerate(ends, start=1)}


def reached(states: Array, task: Task) -> int | None:
    """Middle of the steps at the pre-grasp pose; None without a grasp."""
    grasp = _first(grasped(states, task))
    if not grasp:
        return None
    tcp = _part(states, "tcp_position")
    distance = np.linalg.norm(tcp[:grasp] - (tcp[grasp] + [0, 0, ABOVE_GRASP]), axis=1)
    there = np.nonzero(distance <= distance.min() + REACHED_TOLERANCE)[0]
    return int(there[0] + there[-1]) // 2


def grasped(states: Array, task: Task) -> Flags:
    """The fingers have closed on the object: settled, not open, and the TCP at the object's surface or inside."""
    width = _part(states, "gripper_width")[:, 0]
    change = np.abs(np.diff(width, append=width[-1]))
    return (width < OPEN_WIDTH) & (change < SETTLED) & (_distance_to_object(states) < HELD_DISTANCE)


def aligned(states: Array, task: Task) -> Flags:
    """Pre-inserted: the peg is held and its head and its centre are within 1 cm of the axis of the hole."""
    head = np.linalg.norm(_part(states, "tip_in_target")[:, 1:], axis=1)
    axis = _part(states, "object_axis_in_target")
    half_length = _part(states, "object_half_size")[:, :1]
    centre = np.linalg.norm((_part(states, "tip_in_target") - half_length * axis)[:, 1:], axis=1)
    return grasped(states, task) & (head < ALIGNED_OFFSET) & (centre < ALIGNED_OFFSET)


def at_goal(states: Array, task: Task) -> int | None:
    """First success from the grasp on: a scene may begin with the cube near the goal."""
    grasp = _first(grasped(states, task))
    if grasp is None:
        return None
    after = _first(success(states[grasp:], task))
    return None if after is None else grasp + after


def above_cube_b(states: Array, task: Task) -> Flags:
    """Cube A is held and above cube B, or on it."""
    offset = _part(states, "tip_to_target")
    return grasped(states, task) & (np.linalg.norm(offset[:, :2], axis=1) <= ABOVE_TARGET)


def on_cube_b(states: Array, task: Task) -> Flags:
    """Cube A is on cube B, held or not."""
    offset = _part(states, "tip_to_target")
    level = np.linalg.norm(offset[:, :2], axis=1) <= np.linalg.norm([0.02, 0.02]) + 0.005
    return level & (np.abs(offset[:, 2]) <= 0.005)


def success(states: Array, task: Task) -> Flags:
    """The task's own success condition."""
    return _SUCCESS[task.name](states, task)


def _pick_success(states: Array, task: Task) -> Flags:
    at_goal = _part(states, "tip_target_distance")[:, 0] <= _part(states, "clearance")[:, 0]
    speed = np.abs(_part(states, "qvel")[:, :7]).max(axis=1)
    return at_goal & (speed <= STATIC_JOINT_SPEED)


def _stack_success(states: Array, task: Task) -> Flags:
    linear = np.linalg.norm(_part(states, "object_linear_velocity"), axis=1) <= STATIC_SPEED[0]
    angular = np.linalg.norm(_part(states, "object_angular_velocity"), axis=1) <= STATIC_SPEED[1]
    released = _part(states, "gripper_width")[:, 0] > 2 * _part(states, "object_half_size")[:, 1] + 1e-3
    return on_cube_b(states, task) & linear & angular & released


def _peg_success(states: Array, task: Task) -> Flags:
    head = _part(states, "tip_in_target")
    radius = _part(states, "clearance")
    return (head[:, 0] >= INSERTED_DEPTH) & (np.abs(head[:, 1:]) <= radius).all(axis=1)


_SUCCESS = {"PickCube": _pick_success, "StackCube": _stack_success, "PegInsertion": _peg_success}


def _first(flags: Flags) -> int | None:
    return int(np.argmax(flags)) if flags.any() else None


def _first_of(condition: Callable[[Array, Task], Flags]) -> Callable[[Array, Task], int | None]:
    return lambda states, task: _first(condition(states, task))


_EVENTS: dict[str, Callable[[Array, Task], int | None]] = {
    "reached": reached,
    "grasped": _first_of(grasped),
    "at_goal": at_goal,
    "above": _first_of(above_cube_b),
    "placed": _first_of(on_cube_b),
    "released": _first_of(success),
    "aligned": _first_of(aligned),
    "inserted": _first_of(success),
}


def _part(states: Array, name: str) -> Array:
    return states[:, STATE_INDEX[name]]


def _distance_to_object(states: Array) -> Array:
    """Distance of the TCP from the object's box, 0 inside."""
    half = _part(states, "object_half_size")
    pose = _part(states, "object_quaternion")
    local = _rotate_inverse(pose, -_part(states, "tcp_to_object"))
    return np.linalg.norm(np.maximum(np.abs(local) - half, 0), axis=1)


def _rotate_inverse(quaternion: Array, vector: Array) -> Array:
    # Not SciPy's Rotation: that gives recorded quaternions, of float32, unit length first, and distances differ by 4e-8 m.
    w, u = quaternion[:, :1], -quaternion[:, 1:]
    return vector + 2 * np.cross(u, np.cross(u, vector) + w * vector)
