"""Tracks of points on the limbs of a skeleton that is written here."""

import json

import numpy as np
import pytest

pytest.importorskip("scipy")

from infoatlas_rl.tasks.suites import mocap_data
from infoatlas_rl.tasks.suites.mocap_data import JOINTS, UPRIGHT, limb_tracks, read_clip, read_skeleton

OFFSETS = {"chest": "0 4 0", "neck": "0 2 0", "right_hip": "0 0 1", "right_knee": "0 -4 0", "right_ankle": "0 -4 0"}
PARENTS = {"chest": "root", "neck": "chest", "right_hip": "root", "right_knee": "right_hip", "right_ankle": "right_knee"}


@pytest.fixture
def skeleton(tmp_path):
    """Four times as large as in metres: a trunk of one, legs of one and one; all other limbs are at the chest."""
    parts = ['<robot name="man"><link name="base"/><link name="hand"/>']
    for name in ("root", *JOINTS):
        shape = '<box size="0.8 0.4 0.4"/>' if name == "right_ankle" else '<capsule length="2" radius="0.4"/>'
        shape = '<sphere radius="0.4"/>' if name == "neck" else shape
        parts.append(f'<link name="{name}"><collision><origin xyz="0 0 0"/><geometry>{shape}</geometry></collision></link>')
        parent = "base" if name == "root" else PARENTS.get(name, "chest")
        joint = f'<origin xyz="{OFFSETS.get(name, "0 0 0")}"/><parent link="{parent}"/><child link="{name}"/>'
        parts.append(f'<joint name="{name}">{joint}</joint>')
    path = tmp_path / "man.urdf"
    path.write_bytes("".join([*parts, "</robot>"]).encode() + b"\0")
    return read_skeleton(path)


def clip(tmp_path, **turned):
    """Two frames that stand at (1, 2, 3); in the second one joints are turned."""
    frames = []
    for frame in range(2):
        numbers = [0.1, 1.0, 2.0, 3.0]
        for name in ("root", *JOINTS):
            hinge = name.endswith(("knee", "elbow"))
            numbers += turned[name] if frame and name in turned else [0.0] if hinge else [1.0, 0.0, 0.0, 0.0]
        frames.append(numbers)
    path = tmp_path / "clip.txt"
    path.write_text(json.dumps({"Loop": "none", "Frames": frames}))
    return read_clip(path)


def test_limbs_are_where_their_joints_put_them(tmp_path, skeleton):
    half = np.sqrt(0.5)
    motion = clip(tmp_path, right_knee=[np.pi / 2], chest=[half, half, 0.0, 0.0])  # a quarter turn about z, and one about x
    tracks = limb_tracks(skeleton, motion, 4000)
    middle = {name: track.mean(1) @ UPRIGHT.T for name, track in tracks.items()}  # as in the file, y up
    np.testing.assert_allclose(tracks["neck"].mean(1)[0] - tracks["chest"].mean(1)[0], [0, 0, 0.5], atol=0.02)
    assert tracks["neck"].shape == (2, 4000, 3)
    np.testing.assert_allclose(middle["chest"][0], [1, 3, 3], atol=0.02)
    np.testing.assert_allclose(middle["neck"][0], [1, 3.5, 3], atol=0.02)
    np.testing.assert_allclose(middle["right_ankle"][0], [1, 0, 3.25], atol=0.02)
    np.testing.assert_allclose(middle["neck"][1], [1, 3, 3.5], atol=0.02)
    np.testing.assert_allclose(middle["right_ankle"][1], [2, 1, 3.25], atol=0.02)  # the shin points along x


def test_points_are_on_the_surface_and_rigid(tmp_path, skeleton):
    tracks = limb_tracks(skeleton, clip(tmp_path, root=[0.0, 1.0, 0.0, 0.0]), 50)
    for track in tracks.values():
        apart = np.linalg.norm(track[:, :1] - track, axis=-1)
        np.testing.assert_allclose(apart[0], apart[1], atol=1e-12)
    head = tracks["neck"][0] @ UPRIGHT.T - [1, 3.5, 3]
    np.testing.assert_allclose(np.linalg.norm(head, axis=1), 0.1)
    foot = np.abs(tracks["right_ankle"][0] @ UPRIGHT.T - [1, 0, 3.25]) / [0.1, 0.05, 0.05]
    np.testing.assert_allclose(foot.max(1), 1)


def test_without_the_package_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setattr(mocap_data, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install -c constraints\.txt -e '\.\[robot,mocap\]'"):
        mocap_data.data_folder()
