"""Motion capture that a package ships: the humanoid clips of pybullet (zlib licence), as tracks of points on the limbs.

The files are text: frames of joint rotations, and the skeleton with the shapes of its limbs. pybullet itself is not imported.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

Array = NDArray[np.float64]

SIDE = ("hip", "knee", "ankle", "shoulder", "elbow")
JOINTS = ("chest", "neck", *(f"right_{name}" for name in SIDE), *(f"left_{name}" for name in SIDE))
"""In the order of the numbers of a frame; before them the duration and the root."""
LIMBS = ("root", *JOINTS)
UPRIGHT = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
"""The files have y up."""
SCALE = 0.25
"""The skeleton is four times as large as the motions."""


class Limb(NamedTuple):
    """A body of the skeleton, in metres, in the frame of its joint."""

    parent: str
    offset: Array
    """Of the joint in the frame of the parent."""
    centre: Array
    shape: str
    """Of its surface: sphere, capsule (along y) or box."""
    size: Array
    """Half extents of a box; radius and half length of a sphere or capsule."""


def data_folder() -> Path:
    """Where pybullet's data are.

    Raises:
        ValueError: it is not installed.
    """
    package = find_spec("pybullet_data")
    if package is None or package.origin is None:
        raise ValueError("suite=mocap reads files that pybullet ships: pip install -c constraints.txt -e '.[robot,mocap]'")
    return Path(package.origin).parent


def read_skeleton(path: Path) -> dict[str, Limb]:
    """The limbs of ``humanoid.urdf``."""
    tree = ET.fromstring(path.read_bytes().rstrip(b"\0").decode())
    joints = {joint.find("child").get("link"): joint for joint in tree.iter("joint")}
    limbs = {}
    for link in tree.iter("link"):
        name, collision = link.get("name"), link.find("collision")
        if name not in LIMBS:
            continue
        geometry = collision.find("geometry")[0]
        if geometry.tag == "box":
            size = _numbers(geometry.get("size")) / 2
        else:
            size = np.array([float(geometry.get("radius")), float(geometry.get("length", 0)) / 2])
        centre, offset = (_numbers(node.find("origin").get("xyz")) for node in (collision, joints[name]))
        parent = joints[name].find("parent").get("link")
        limbs[name] = Limb(parent, SCALE * offset, SCALE * centre, geometry.tag, SCALE * size)
    return limbs


def read_clip(path: Path) -> tuple[dict[str, Array], Array]:
    """Rotations ``(t, 3, 3)`` of every limb in the frame of its parent, and positions ``(t, 3)`` of the root, in metres."""
    frames = np.array(json.loads(path.read_text())["Frames"], dtype=np.float64)
    rotations, at = {"root": _rotation(frames[:, 4:8])}, 8
    for joint in JOINTS:
        if joint.endswith(("knee", "elbow")):  # hinges about z
            rotations[joint] = Rotation.from_euler("z", frames[:, at : at + 1]).as_matrix()
            at += 1
        else:
            rotations[joint] = _rotation(frames[:, at : at + 4])
            at += 4
    return rotations, frames[:, 1:4]


def limb_tracks(skeleton: dict[str, Limb], clip: tuple[dict[str, Array], Array], count: int, seed: int = 0) -> dict[str, Array]:
    """Positions ``(t, count, 3)`` in metres, z up, of random points on the surface of every limb."""
    rng = np.random.default_rng(seed)
    rotations, root = clip
    turned, placed, tracks = {}, {}, {}
    for name in LIMBS:  # parents come before children
        limb = skeleton[name]
        if name == "root":
            turned[name], placed[name] = rotations[name], root
        else:
            turned[name] = turned[limb.parent] @ rotations[name]
            placed[name] = placed[limb.parent] + turned[limb.parent] @ limb.offset
        points = limb.centre + _surface(limb, count, rng)
        tracks[name] = (placed[name][:, None] + np.einsum("tij,pj->tpi", turned[name], points)) @ UPRIGHT
    return tracks


def _surface(limb: Limb, count: int, rng: np.random.Generator) -> Array:
    direction = rng.standard_normal((count, 3))
    if limb.shape == "box":
        points = rng.uniform(-1, 1, (count, 3))
        axis = np.abs(direction).argmax(1)
        points[np.arange(count), axis] = np.sign(points[np.arange(count), axis])
        return points * limb.size
    radius, half_length = limb.size
    points = radius * direction / np.linalg.norm(direction, axis=1, keepdims=True)
    points[:, 1] += rng.uniform(-half_length, half_length, count)
    return points


def _numbers(text: str) -> Array:
    return np.array([float(number) for number in text.split()])


def _rotation(quaternion: Array) -> Array:
    """Matrices ``(t, 3, 3)`` of quaternions w, x, y, z."""
    return Rotation.from_quat(quaternion[:, [1, 2, 3, 0]]).as_matrix()
