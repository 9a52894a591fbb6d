"""The 100-dimensional state, one layout for all described tasks, and a plain state for any other task.

The state is a function of ManiSkill's simulation state (``env.get_state_dict()``, recorded as ``env_states`` in
demonstration files) and of the sizes drawn at reset, and of nothing else. A live environment and a demonstration file
therefore give the same numbers. Lengths in m, angles in rad, velocities in m/s and rad/s, world frame unless noted.

See ``docs/state.md`` for the table of indices, which is generated from :data:`LAYOUT`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from infoatlas_rl.maniskill.panda import forward_kinematics, tcp_velocity
from infoatlas_rl.maniskill.tasks import Geometry, Part, Task

Array = NDArray[np.float64]

LAYOUT: tuple[tuple[str, int, str], ...] = (
    ("qpos", 9, "joint positions: seven arm joints, two fingers"),
    ("qvel", 9, "joint velocities"),
    ("tcp_position", 3, "tool centre point"),
    ("tcp_quaternion", 4, "w, x, y, z; sign chosen so that x >= 0 (the gripper points down)"),
    ("tcp_linear_velocity", 3, "tool centre point"),
    ("tcp_angular_velocity", 3, "tool centre point"),
    ("link3_position", 3, "shoulder"),
    ("link4_position", 3, "elbow"),
    ("link5_position", 3, "forearm"),
    ("link7_position", 3, "wrist"),
    ("hand_position", 3, "hand"),
    ("left_finger_position", 3, "left finger"),
    ("right_finger_position", 3, "right finger"),
    ("object_position", 3, "the manipulated object (cube, cube A, peg)"),
    ("object_quaternion", 4, "w, x, y, z; sign chosen so that w >= 0"),
    ("object_linear_velocity", 3, "the manipulated object"),
    ("object_angular_velocity", 3, "the manipulated object"),
    ("target_position", 3, "where the tip has to go (goal, top of cube B, hole)"),
    ("target_quaternion", 4, "w, x, y, z; sign chosen so that w >= 0"),
    ("object_half_size", 3, "half extents of the object"),
    ("clearance", 1, "radius of the hole, or tolerance of the goal"),
    ("tcp_to_object", 3, "object minus TCP"),
    ("tip_to_target", 3, "target minus tip of the object (cube centre, peg head)"),
    ("tcp_to_target", 3, "target minus TCP"),
    ("object_in_tcp", 3, "object position in the frame of the TCP"),
    ("tip_in_target", 3, "tip position in the frame of the target"),
    ("object_axis_in_tcp", 3, "x axis of the object in the frame of the TCP"),
    ("object_axis_in_target", 3, "x axis of the object in the frame of the target"),
    ("gripper_width", 1, "distance between the fingers"),
    ("tcp_object_distance", 1, "length of tcp_to_object"),
    ("tip_target_distance", 1, "length of tip_to_target"),
)

STATE_DIM = sum(size for _, size, _ in LAYOUT)


def _slices() -> dict[str, slice]:
    out, start = {}, 0
    for name, size, _ in LAYOUT:
        out[name] = slice(start, start + size)
        start += size
    return out


STATE_INDEX: dict[str, slice] = _slices()
"""Name of a part of the state to its indices: ``states[..., STATE_INDEX["gripper_width"]]``."""


VELOCITIES = ("qvel", "tcp_linear_velocity", "tcp_angular_velocity", "object_linear_velocity", "object_angular_velocity")
QUATERNIONS = ("tcp_quaternion", "object_quaternion", "target_quaternion")
AWAY = 0.06
"""The gripper has left an object when its TCP is so far from it, in m, or nearer to the next one."""


def positions(states: Array, task: Task) -> Array:
    """The columns of states ``(t, d)`` that are no velocities."""
    if task.object is None:
        return states
    return np.delete(states, np.concatenate([np.arange(STATE_DIM)[STATE_INDEX[name]] for name in VELOCITIES]), axis=1)


def without_jumps(states: Array) -> Array:
    """The 100-D states ``(t, 100)`` of a trajectory with quaternions that keep the sign that they begin with: where something
    turns by more than half a circle, the sign that makes a state unique jumps."""
    steady = states.copy()
    for name in QUATERNIONS:
        steady[:, STATE_INDEX[name]] = _steady(states[:, STATE_INDEX[name]])
    return steady


def encode_states(env_states: Mapping[str, Any], geometry: Geometry | None, task: Task) -> Array:
    """The 100-D states of one trajectory; the plain state ``(t, d)`` where the task has no object. Of a task in several parts
    they are about the object and the target of the first part that is not done.

    Args:
        env_states: ``{"actors": {name: (t, 13)}, "articulations": {name: (t, 31)}}`` as recorded by ManiSkill.
        geometry: sizes of the episode, from :func:`infoatlas_rl.maniskill.envs.read_geometry` or the demonstration.

    Returns:
        ``(t, 100)``, float64.
    """
    if task.object is None or task.target is None or geometry is None:
        return plain_states(env_states)
    robot, tcp = _robot_parts(env_states)
    states = _states_about(env_states, robot, tcp, Part(task.object, task.target, geometry), task.target_turn)
    for part in reversed(task.first):
        earlier = _states_about(env_states, robot, tcp, part)
        away, away_from_next = (s[:, STATE_INDEX["tcp_object_distance"]] for s in (earlier, states))
        arrived = earlier[:, STATE_INDEX["tip_target_distance"]] <= part.geometry.clearance
        states = np.where(arrived & (away > np.minimum(AWAY, away_from_next)), states, earlier)
    return states


def _robot_parts(env_states: Mapping[str, Any]) -> tuple[dict[str, Array], Array]:
    """What the state says of the robot, whatever it is about, and the pose of the TCP ``(t, 4, 4)``."""
    robot = _robot_state(env_states["articulations"])
    qpos, qvel = robot[:, 13:22], robot[:, 22:31]
    links = forward_kinematics(qpos, pose_matrix(robot[:, :7]))
    linear, angular = tcp_velocity(links, qvel)
    tcp = links["tcp"]
    parts = {
        "qpos": qpos,
        "qvel": qvel,
        "tcp_position": tcp[:, :3, 3],
        "tcp_quaternion": _positive(_quaternion(tcp[:, :3, :3]), component=1),
        "tcp_linear_velocity": linear,
        "tcp_angular_velocity": angular,
        **{f"{name}_position": links[name][:, :3, 3] for name in _LINKS},
        "gripper_width": qpos[:, 7:8] + qpos[:, 8:9],
    }
    return parts, tcp


def _states_about(
    env_states: Mapping[str, Any], robot: Mapping[str, Array], tcp: Array, part: Part, target_turn: float = 0.0
) -> Array:
    """The 100-D states about the object and the target of a part of a task."""
    geometry = part.geometry
    moved = _actor(env_states, part.object)
    carriers = [_actor(env_states, name) for name in part.targets]
    carrier = carriers[0].copy()
    carrier[:, :3] = np.mean([rows[:, :3] for rows in carriers], axis=0)
    object_pose = pose_matrix(moved[:, :7])
    target = pose_matrix(carrier[:, :7])
    target[:, :3, 3] = _apply(target, geometry.target_offset)
    quaternion = carrier[:, 3:7]
    if target_turn:
        target[:, :3, :3] @= Rotation.from_euler("z", target_turn, degrees=True).as_matrix()
        quaternion = _quaternion(target[:, :3, :3])
    tip = _apply(object_pose, geometry.tip_offset)

    t = len(tcp)
    to_object = object_pose[:, :3, 3] - tcp[:, :3, 3]
    to_target = target[:, :3, 3] - tip
    parts = {
        **robot,
        "object_position": moved[:, :3],
        "object_quaternion": _positive(moved[:, 3:7], component=0),
        "object_linear_velocity": moved[:, 7:10],
        "object_angular_velocity": moved[:, 10:13],
        "target_position": target[:, :3, 3],
        "target_quaternion": _positive(quaternion, component=0),
        "object_half_size": np.tile(geometry.half_size, (t, 1)),
        "clearance": np.full((t, 1), geometry.clearance),
        "tcp_to_object": to_object,
        "tip_to_target": to_target,
        "tcp_to_target": target[:, :3, 3] - tcp[:, :3, 3],
        "object_in_tcp": _into(tcp, object_pose[:, :3, 3]),
        "tip_in_target": _into(target, tip),
        "object_axis_in_tcp": _turn(tcp, object_pose[:, :3, 0]),
        "object_axis_in_target": _turn(target, object_pose[:, :3, 0]),
        "tcp_object_distance": np.linalg.norm(to_object, axis=1, keepdims=True),
        "tip_target_distance": np.linalg.norm(to_target, axis=1, keepdims=True),
    }
    return np.concatenate([parts[name] for name, _, _ in LAYOUT], axis=1)


def plain_states(env_states: Mapping[str, Any]) -> Array:
    """Joint positions of every robot and pose of every actor; with a Panda also its TCP, and the actors relative to it."""
    parts, tcp = [], None
    for name, values in env_states["articulations"].items():
        state = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
        joints = (state.shape[1] - 13) // 2
        parts.append(state[:, 13 : 13 + joints])
        if name.startswith("panda") and joints == 9:
            tcp = forward_kinematics(parts[-1], pose_matrix(state[:, :7]))["tcp"]
            parts.append(tcp[:, :3, 3])
    for values in env_states["actors"].values():
        pose = np.asarray(values, dtype=np.float64).reshape(len(values), -1)[:, :7]
        parts += [pose[:, :3], _steady(_positive(pose[:, 3:], component=int(np.abs(pose[0, 3:]).argmax())))]
        if tcp is not None:
            parts.append(_into(tcp, pose[:, :3]))
    return np.concatenate(parts, axis=1)


_LINKS = ("link3", "link4", "link5", "link7", "hand", "left_finger", "right_finger")


def _robot_state(articulations: Mapping[str, Any]) -> Array:
    for name in articulations:
        if name.startswith("panda"):
            return _rows(name, articulations[name], 31)
    raise ValueError(f"no Panda among the robots {list(articulations)}; the 100-D state is defined for the Panda")


def _actor(env_states: Mapping[str, Any], name: str) -> Array:
    actors = env_states["actors"]
    if name not in actors:
        raise ValueError(f"no actor {name!r} in the recorded states; there are {list(actors)}")
    return _rows(name, actors[name], 13)


def _rows(name: str, values: Any, size: int) -> Array:
    rows = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
    if rows.shape[1] != size:
        raise ValueError(f"{name} has {rows.shape[1]} numbers a step; {size} are needed: pose, velocity, and joints of a robot")
    return rows


def pose_matrix(pose: Array) -> Array:
    """``(t, 7)`` position and quaternion (w, x, y, z), of any length, to ``(t, 4, 4)``.

    Raises:
        ValueError: a quaternion of zeros.
    """
    if not pose[:, 3:7].any(axis=1).all():
        raise ValueError("a quaternion of zeros is no rotation")
    out = np.zeros((len(pose), 4, 4))
    out[:, :3, :3] = Rotation.from_quat(pose[:, [4, 5, 6, 3]]).as_matrix()
    out[:, :3, 3], out[:, 3, 3] = pose[:, :3], 1
    return out


def _quaternion(rotation: Array) -> Array:
    """``(t, 3, 3)`` to ``(t, 4)``, w x y z, by the eigenvector of the largest eigenvalue (Bar-Itzhack, 2000)."""
    # SciPy's Rotation gives the same to 1e-15 and takes four times as long for the one pose of a step.
    r = rotation
    k = np.zeros((len(r), 4, 4))
    k[:, 0, 0] = r[:, 0, 0] + r[:, 1, 1] + r[:, 2, 2]
    k[:, 1, 1] = r[:, 0, 0] - r[:, 1, 1] - r[:, 2, 2]
    k[:, 2, 2] = -r[:, 0, 0] + r[:, 1, 1] - r[:, 2, 2]
    k[:, 3, 3] = -r[:, 0, 0] - r[:, 1, 1] + r[:, 2, 2]
    k[:, 0, 1] = k[:, 1, 0] = r[:, 2, 1] - r[:, 1, 2]
    k[:, 0, 2] = k[:, 2, 0] = r[:, 0, 2] - r[:, 2, 0]
    k[:, 0, 3] = k[:, 3, 0] = r[:, 1, 0] - r[:, 0, 1]
    k[:, 1, 2] = k[:, 2, 1] = r[:, 0, 1] + r[:, 1, 0]
    k[:, 1, 3] = k[:, 3, 1] = r[:, 0, 2] + r[:, 2, 0]
    k[:, 2, 3] = k[:, 3, 2] = r[:, 1, 2] + r[:, 2, 1]
    return np.linalg.eigh(k)[1][:, :, -1]


def _positive(quaternion: Array, component: int) -> Array:
    """q and -q are the same rotation: choose the one with a non-negative ``component``."""
    return np.where(quaternion[:, component : component + 1] < 0, -quaternion, quaternion)


def _steady(quaternion: Array) -> Array:
    """Quaternions ``(t, 4)`` of a trajectory with the signs that are nearest to those before."""
    turns = np.where((quaternion[1:] * quaternion[:-1]).sum(1) < 0, -1.0, 1.0)
    return quaternion * np.concatenate([[1.0], np.cumprod(turns)])[:, None]


def _apply(pose: Array, point: Array) -> Array:
    return pose[:, :3, :3] @ point + pose[:, :3, 3]


def _into(pose: Array, point: Array) -> Array:
    return _turn(pose, point - pose[:, :3, 3])


def _turn(pose: Array, vector: Array) -> Array:
    return np.einsum("tji,tj->ti", pose[:, :3, :3], vector)
