"""Pictures of demonstrations where nothing can be rendered."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("mani_skill")

from infoatlas_rl.maniskill import pictures
from infoatlas_rl.maniskill.cameras import DrawnFrames
from infoatlas_rl.maniskill.collect import demo_path
from infoatlas_rl.maniskill.demos import load_demonstrations
from infoatlas_rl.maniskill.tasks import get_task

simulator = pytest.mark.simulator


@simulator
def test_frames_without_a_renderer_show_robot_and_objects(demo_root, tmp_path):
    task = get_task("PickCube")
    demo = load_demonstrations(demo_path(demo_root, task), task).demonstrations[0]
    camera = DrawnFrames(task)
    first, last = camera.frame(demo, 0), camera.frame(demo, len(demo) - 1)
    assert first.shape == last.shape == (320, 320, 3)
    assert (first != last).any(axis=-1).mean() > 0.005
    pictures.animation(tmp_path / "a.gif", camera, demo, np.array([10, 30]), every=20)
    with Image.open(tmp_path / "a.gif") as film:
        durations = []
        for index in range(film.n_frames):
            film.seek(index)
            durations.append(film.info["duration"])
    assert sorted(durations)[-2:] == [1000, 1000]  # pauses at the two key states
    camera.close()
