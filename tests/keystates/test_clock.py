"""The common clock: where demonstrations rest, and how key states settle there."""

import numpy as np
import pytest

from infoatlas_rl.keystates import TrajectorySet
from infoatlas_rl.keystates.alignment import Alignment
from infoatlas_rl.keystates.clock import RESTING, STILL, Clock, _rising, _steps

HALF = 7
"""Steps from the middle of a halt to its end."""


def halting(count=24, seed=0):
    """Ways along x, then y, with a halt of 15 steps between them that begins at a step of its own; and the middle of it."""
    rng = np.random.default_rng(seed)
    out, middles = [], []
    for _ in range(count):
        first, second = rng.integers(25, 35, size=2)
        x = np.concatenate([np.linspace(0, 1, first), np.ones(15), np.ones(second)])
        y = np.concatenate([np.zeros(first), np.zeros(15), np.linspace(0, 1, second)])
        out.append(np.stack([x, y], 1) + 1e-4 * rng.normal(size=(len(x), 2)))
        middles.append(first + HALF)
    return out, np.array(middles)


def test_rest_is_none_in_motion_and_largest_at_a_halt():
    trajectories, _ = halting()
    clock = Clock(TrajectorySet(trajectories), delta=2)
    halt = int(clock.rest.argmax())
    assert clock.rest[halt] == pytest.approx(np.log(RESTING / STILL), abs=0.2)
    assert clock.rest[halt - 8] == 0
    assert clock.rest[halt + 8] == 0


def test_a_key_state_settles_in_the_halt_of_every_demonstration():
    trajectories, middles = halting()
    clock = Clock(TrajectorySet(trajectories), delta=2)
    halt = float(clock.rest.argmax())
    for off in (-2.0, 0.0, 2.0):
        found = clock.find([halt + off, clock.trajectories.ticks - 1.0])
        assert np.abs(found[:, 0] - middles).max() <= HALF
        assert (found[:, 1] <= [len(t) - 1 for t in trajectories]).all()
    # Farther away than key states settle, they stay.
    away = clock.find([halt - 9, clock.trajectories.ticks - 1.0])
    nominal = [np.interp(halt - 9, np.arange(clock.trajectories.ticks), row) for row in clock.steps]
    np.testing.assert_array_equal(away[:, 0], np.rint(nominal))


def test_key_states_settle_in_other_demonstrations_too():
    clock = Clock(TrajectorySet(halting()[0]), delta=2)
    others, middles = halting(10, seed=3)
    found = clock.find_in(others, [float(clock.rest.argmax()), clock.trajectories.ticks - 1.0])
    assert np.abs(found[:, 0] - middles).max() <= HALF


def test_two_key_states_at_one_halt_do_not_meet():
    clock = Clock(TrajectorySet(halting()[0]), delta=2)
    halt = float(clock.rest.argmax())
    found = clock.find([halt - 3, halt + 3, clock.trajectories.ticks - 1.0])
    assert (found[:, 0] < found[:, 1]).all()


def test_motions_tell_where_a_turn_is_wherever_demonstrations_begin():
    rng = np.random.default_rng(0)
    seen_in = rng.normal(size=(2, 40))
    paths, corners = [], rng.integers(25, 35, size=24)
    for corner in corners:
        x = np.concatenate([np.arange(corner + 1.0), np.full(30, float(corner))])
        y = np.concatenate([np.zeros(corner + 1), np.arange(1.0, 31.0)])
        begin = 30 * rng.normal(size=2)  # the ways are 25 to 35 long: states tell next to nothing of the turn
        paths.append((np.stack([x, y], 1) + begin + 0.05 * rng.normal(size=(len(x), 2))) @ seen_in)
    trajectories = TrajectorySet(paths)
    clock = Clock(trajectories, delta=2)

    def spread(positions):
        rising = _rising(_steps(positions, trajectories.step_of_tick))
        return np.std([np.interp(corner, row, np.arange(len(row))) for corner, row in zip(corners, rising, strict=True)])

    # Over ten seeds and numbers of demonstrations between 0.07 and 0.5 of what states alone leave.
    assert spread(clock.alignment.positions) < 0.6 * spread(Alignment(trajectories.states).positions)
