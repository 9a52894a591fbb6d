"""Suite ``mocap``: which points are on the limb of a reference point? As suite ``segmentation``, on motion capture of people.

Limbs of a person move together far more than links of a robot and an object do, and in clips of two to four seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig

from infoatlas_rl.tasks.suites.mocap_data import data_folder, limb_tracks, read_clip, read_skeleton
from infoatlas_rl.tasks.suites.segmentation import POINTS, Motion, compare, table

__all__ = ["run", "table"]

CLIPS = ("cartwheel", "crawl", "dance_b", "getup_facedown", "getup_faceup", "jump", "roll", "spin")
"""Those with at least 100 frames."""
REFERENCES = ("chest", "right_elbow", "left_knee")
"""Joints of limbs with a reference point: the trunk, a forearm, a shin."""
SHOWN = 3


def run(cfg: DictConfig) -> dict[str, Any]:
    return compare(cfg, "mocap", list(_clips()), SHOWN)


def _clips() -> Iterator[Motion]:
    folder = data_folder()
    skeleton = read_skeleton(folder / "humanoid" / "humanoid.urdf")
    for clip in CLIPS:
        tracks = limb_tracks(skeleton, read_clip(folder / "data" / "motions" / f"humanoid3d_{clip}.txt"), POINTS)
        yield Motion(clip, tracks, REFERENCES)
