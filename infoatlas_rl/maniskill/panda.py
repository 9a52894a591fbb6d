"""Forward kinematics of the Franka Emika Panda, as in ManiSkill's URDF: link frames and TCP velocity from joint values.

Computing link poses from the joint positions, rather than reading them from the simulator, is what makes the state of a
live environment and of a recorded demonstration identical.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_HALF = np.pi / 2
# Origin of each revolute joint in its parent link: rotation about x, then translation, in joint order.
_ARM = [
    (0.0, (0.0, 0.0, 0.333)),
    (-_HALF, (0.0, 0.0, 0.0)),
    (_HALF, (0.0, -0.316, 0.0)),
    (_HALF, (0.0825, 0.0, 0.0)),
    (-_HALF, (-0.0825, 0.384, 0.0)),
    (_HALF, (0.0, 0.0, 0.0)),
    (_HALF, (0.088, 0.0, 0.0)),
]
_FLANGE, _TCP, _FINGER = 0.107, 0.1034, 0.0584
_HAND_YAW = -np.pi / 4


def forward_kinematics(qpos: Array, root: Array) -> dict[str, Array]:
    """Homogeneous transforms of the links in the world frame.

    Args:
        qpos: ``(t, 9)``, seven arm joints in rad and two finger joints in m.
        root: ``(t, 4, 4)``, pose of the robot's base.

    Returns:
        ``link1 .. link7, hand, left_finger, right_finger, tcp``, each ``(t, 4, 4)``.
    """
    frames: dict[str, Array] = {}
    frame = root
    for joint, (roll, origin) in enumerate(_ARM):
        frame = frame @ _transform(_rotation_x(roll), origin) @ _about_z(qpos[:, joint])
        frames[f"link{joint + 1}"] = frame
    hand = frame @ _transform(np.eye(3), (0, 0, _FLANGE)) @ _about_z(np.full(len(qpos), _HAND_YAW))
    frames["hand"] = hand
    for name, joint, sign in (("left_finger", 7, 1), ("right_finger", 8, -1)):
        slide = np.tile(np.eye(4), (len(qpos), 1, 1))
        slide[:, 1, 3] = sign * qpos[:, joint]
        slide[:, 2, 3] = _FINGER
        frames[name] = hand @ slide
    frames["tcp"] = hand @ _transform(np.eye(3), (0, 0, _TCP))
    return frames


def tcp_velocity(frames: dict[str, Array], qvel: Array) -> tuple[Array, Array]:
    """Linear (m/s) and angular (rad/s) velocity of the TCP in the world frame, ``(t, 3)`` each, from ``qvel (t, 9)``."""
    links = np.stack([frames[f"link{joint + 1}"] for joint in range(7)])
    turns = links[:, :, :3, 2] * qvel[:, :7].T[:, :, None]
    arms = frames["tcp"][:, :3, 3] - links[:, :, :3, 3]
    return np.cross(turns, arms).sum(0), turns.sum(0)


def _transform(rotation: Array, origin: tuple[float, float, float]) -> Array:
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = rotation, origin
    return out


def _rotation_x(angle: float) -> Array:
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]])


# SciPy's Rotation takes four times as long for the one pose of a step, and there are nine turns in each.
def _about_z(angle: Array) -> Array:
    out = np.tile(np.eye(4), (len(angle), 1, 1))
    c, s = np.cos(angle), np.sin(angle)
    out[:, 0, 0], out[:, 0, 1], out[:, 1, 0], out[:, 1, 1] = c, -s, s, c
    return out
