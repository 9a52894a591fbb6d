"""Ground-truth events, recomputed from the states of a trajectory. They serve evaluation and pictures, never training.

Every event is the first step at which its condition holds. The conditions follow the ``evaluate()`` functions of the
tasks; contact forces are not recorded, so a grasp is recognised by its geometry.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from infoatlas_rl.maniskill.states import STATE_INDEX
from infoatlas_rl.maniskill.tasks import Task

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

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
    """First step of each of ``task.events`` in a trajectory ``(t, 100)``; None for an event that does not happen."""
    flags = {name: _FLAGS[name](states, task) for name in task.events}
    return {name: int(np.argmax(flag)) if flag.any() else None for name, flag in flags.items()}


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


_FLAGS = {"grasped": grasped, "aligned": aligned, "on_cube_b": on_cube_b, "success": success}
_SUCCESS = {"PickCube": _pick_success, "StackCube": _stack_success, "PegInsertion": _peg_success}


def _part(states: Array, name: str) -> Array:
    return states[:, STATE_INDEX[name]]


def _distance_to_object(states: Array) -> Array:
    """Distance of the TCP from the object's box, 0 inside."""
    half = _part(states, "object_half_size")
    pose = _part(states, "object_quaternion")
    local = _rotate_inverse(pose, -_part(states, "tcp_to_object"))
    return np.linalg.norm(np.maximum(np.abs(local) - half, 0), axis=1)


def _rotate_inverse(quaternion: Array, vector: Array) -> Array:
    w, u = quaternion[:, :1], -quaternion[:, 1:]
    return vector + 2 * np.cross(u, np.cross(u, vector) + w * vector)
