"""Points on the links of the Panda and on the objects of a demonstration, and where they are at every step.

Surfaces are the collision meshes that ManiSkill ships and the boxes of the objects; poses are forward kinematics of the recorded
joints and the recorded poses of the actors. In metres, world frame.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infoatlas_rl.maniskill.demos import Demonstration
from infoatlas_rl.maniskill.panda import forward_kinematics
from infoatlas_rl.maniskill.states import pose_matrix
from infoatlas_rl.maniskill.tasks import Task

Array = NDArray[np.float64]

LINKS = (*(f"link{number}" for number in range(1, 7)), "hand", "left_finger", "right_finger")
"""Bodies of the robot that move; link 7 is one body with the hand, and left out."""
_TURNED = np.diag([-1.0, -1.0, 1.0])
"""The mesh of the right finger is that of the left one, turned about z."""


def body_points(demo: Demonstration, task: Task, count: int, seed: int = 0) -> dict[str, Array]:
    """``count`` points on every moving link and on the object of a task, ``(count, 3)`` in the frame of their body.

    Raises:
        ValueError: the task has no object of known size.
    """
    if task.object is None or demo.geometry is None:
        raise ValueError(f"{task.name} has no object of known size; points are on the objects of tasks with a 100-D state")
    rng = np.random.default_rng(seed)
    found = {link: _on_triangles(_link_mesh(link), count, rng) for link in LINKS}
    return found | {task.object: _on_box(demo.geometry.half_size, count, rng)}


def point_tracks(demo: Demonstration, points: dict[str, Array]) -> dict[str, Array]:
    """Positions ``(t, count, 3)`` of the points of every body at the t steps of a demonstration."""
    robot = next(values for name, values in demo.env_states["articulations"].items() if name.startswith("panda"))
    robot = np.asarray(robot, dtype=np.float64).reshape(len(demo), -1)
    poses = forward_kinematics(robot[:, 13:22], pose_matrix(robot[:, :7]))
    tracks = {}
    for body, local in points.items():
        pose = poses[body] if body in poses else _actor_pose(demo, body)
        tracks[body] = np.einsum("tij,pj->tpi", pose[:, :3, :3], local) + pose[:, None, :3, 3]
    return tracks


def _actor_pose(demo: Demonstration, name: str) -> Array:
    return pose_matrix(np.asarray(demo.env_states["actors"][name], dtype=np.float64).reshape(len(demo), -1)[:, :7])


def _link_mesh(link: str) -> Array:
    """Triangles ``(m, 3, 3)`` in the frame of the link, from a binary STL file."""
    package = find_spec("mani_skill")
    if package is None or package.origin is None:
        raise RuntimeError("the meshes of the Panda are part of ManiSkill: pip install -c constraints.txt -e '.[robot]'")
    name = "finger" if link.endswith("finger") else link
    folder = Path(package.origin).parent / "assets/robots/panda/franka_description/meshes/collision"
    record = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    triangles = np.fromfile(folder / f"{name}.stl", record, offset=84)["corners"].astype(np.float64)
    return triangles @ _TURNED if link == "right_finger" else triangles


def _on_triangles(triangles: Array, count: int, rng: np.random.Generator) -> Array:
    """Points, uniform by area."""
    sides = triangles[:, 1:] - triangles[:, :1]
    area = np.linalg.norm(np.cross(sides[:, 0], sides[:, 1]), axis=1)
    chosen = rng.choice(len(triangles), count, p=area / area.sum())
    share = rng.random((count, 2))
    share = np.where(share.sum(1, keepdims=True) > 1, 1 - share, share)
    return triangles[chosen, 0] + np.einsum("pk,pki->pi", share, sides[chosen])


def _on_box(half_size: Array, count: int, rng: np.random.Generator) -> Array:
    """Points on the faces of a box, uniform by area."""
    area = np.prod(half_size) / half_size
    axis = rng.choice(3, count, p=area / area.sum())
    points = rng.uniform(-1, 1, (count, 3))
    points[np.arange(count), axis] = np.sign(points[np.arange(count), axis])
    return points * half_size
