"""Points on the bodies of a demonstration: they lie on surfaces and move with their body."""

import numpy as np
import pytest

pytest.importorskip("mani_skill")

from infoatlas_rl.maniskill.demos import Demonstration
from infoatlas_rl.maniskill.points import LINKS, body_points, point_tracks
from infoatlas_rl.maniskill.tasks import TASKS, Task


def demonstration(steps: int = 30) -> Demonstration:
    """An arm whose joints swing and fingers close, and a cube that is turned and lifted."""
    t = np.linspace(0, 1, steps)[:, None]
    robot, cube = np.zeros((steps, 31)), np.zeros((steps, 13))
    robot[:, 3] = 1
    robot[:, 13:20] = np.array([0.1, 0.5, 0.0, -1.8, 0.0, 2.3, 0.8]) + 0.3 * np.sin(3 * t + np.arange(7))
    robot[:, 20:22] = 0.04 - 0.02 * t
    cube[:, 2:3], cube[:, 3:4], cube[:, 6:7] = 0.02 + 0.1 * t, np.cos(t / 2), np.sin(t / 2)
    env_states = {"actors": {"cube": cube}, "articulations": {"panda": robot}}
    task = TASKS["PickCube"]
    return Demonstration(0, 0, np.zeros((steps, 100)), np.zeros((steps - 1, 8), np.float32), task.geometry, env_states)


def test_bodies_are_rigid_and_different_bodies_are_not_one():
    demo, task = demonstration(), TASKS["PickCube"]
    tracks = point_tracks(demo, body_points(demo, task, 6))
    assert set(tracks) == {*LINKS, "cube"}
    points = np.concatenate(list(tracks.values()), axis=1)
    body = np.repeat(np.arange(len(tracks)), 6)
    spread = np.linalg.norm(points[:, :, None] - points[:, None], axis=-1).std(0)
    assert spread[body[:, None] == body].max() < 1e-9
    between = [spread[np.ix_(body == a, body == b)].max() for a in range(len(tracks)) for b in range(a)]
    assert min(between) > 1e-3


def test_points_of_a_box_are_on_its_faces_and_those_of_fingers_between_hand_and_tip():
    demo, task = demonstration(), TASKS["PickCube"]
    points = body_points(demo, task, 50)
    half = task.geometry.half_size
    assert (np.abs(points["cube"]) <= half + 1e-12).all()
    np.testing.assert_allclose(np.abs(points["cube"] / half).max(1), 1)
    tracks = point_tracks(demo, points)
    # The fingers of the open gripper are on either side of the hand: 4 cm each, less the 2 cm to which they close.
    apart = np.linalg.norm(tracks["left_finger"].mean(1) - tracks["right_finger"].mean(1), axis=-1)
    assert apart[0] - apart[-1] == pytest.approx(0.04, abs=0.002)


def test_a_seed_gives_the_same_points_and_tasks_without_an_object_are_refused():
    demo, task = demonstration(), TASKS["PickCube"]
    one, same, other = (body_points(demo, task, 5, seed)["hand"] for seed in (0, 0, 1))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)
    with pytest.raises(ValueError, match="has no object of known size"):
        body_points(demo, Task("Any", "Any-v1", 100), 5)
