"""Rules that place key states without information: even spacing, minima of speed, movements of the gripper."""

import numpy as np

from infoatlas_rl.keystates import evenly_spaced, velocity_minima
from infoatlas_rl.keystates.rules import approaches, gripper_changes, last_state, waypoints


def test_evenly_spaced_key_states_end_with_the_last_step():
    np.testing.assert_array_equal(evenly_spaced([101, 11], 4), [[25, 50, 75, 100], [2, 5, 8, 10]])
    np.testing.assert_array_equal(last_state([101, 11]), [[100], [10]])


def test_velocity_minima_are_the_pauses():
    pieces = [np.linspace(0, 1, 20), np.ones(7), np.linspace(1, 3, 20), np.full(5, 3.0), np.linspace(3, 4, 20)]
    trajectory = np.concatenate(pieces)[:, None]
    (found,) = velocity_minima([trajectory], 3)
    assert np.abs(found - [23, 49, 71]).max() <= 2
    (found,) = velocity_minima([trajectory], 2)
    assert len(found) == 2


def test_gripper_changes_are_the_ends_of_its_movements():
    width = np.concatenate([np.full(10, 0.08), np.linspace(0.08, 0.04, 5), np.full(10, 0.04), np.linspace(0.04, 0.08, 5)])
    (found,) = gripper_changes([width])
    np.testing.assert_array_equal(found, [14, 29])


def corner():
    """Along x for 30 steps, then along y, farther, for 40."""
    first, second = np.linspace([0, 0], [1, 0], 31), np.linspace([1, 0], [1, 2], 41)
    return np.concatenate([first, second[1:]])


def test_waypoints_are_the_corners_of_a_path():
    np.testing.assert_array_equal(waypoints([corner()], 2)[0], [30, 70])
    assert waypoints([np.linspace([0, 0], [1, 1], 20)], 4)[0][-1] == 19


def test_approaches_begin_where_a_path_turns_back():
    back = np.concatenate([np.linspace([0, 0], [1, 0], 31), np.linspace([1, 0], [-1, 0.2], 41)[1:]])
    (found,) = approaches([back], 2)
    assert np.abs(found - [30, 70]).max() <= 2
    assert approaches([np.linspace([0, 0], [1, 1], 20)], 4)[0].tolist() == [19]


def test_the_shortest_trajectories_have_their_last_state():
    found = velocity_minima([np.array([[0.0], [1.0]]), np.array([[0.0]]), np.array([[0.0], [1.0], [3.0]])], 3)
    assert [steps.tolist() for steps in found] == [[1], [0], [2]]
