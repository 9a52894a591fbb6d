"""Trajectories on common ticks: even in distance, standardised, and the same in every unit."""

import numpy as np
import pytest

from infoatlas_rl.keystates import Alignment, TrajectorySet
from infoatlas_rl.keystates.trajectories import column_scales, interpolate


def test_ticks_are_even_in_distance_not_in_time():
    # Half of the steps at a fifth of the speed: they get far less than half of the ticks.
    slow, fast = np.linspace(0, 1, 40, endpoint=False), np.linspace(1, 6, 40)
    trajectory = np.concatenate([slow, fast])[:, None]
    data = TrajectorySet([trajectory] * 20)
    assert data.states.shape == (20, 80, 1)
    assert data.step_of_tick[0, 0] == 0
    assert data.step_of_tick[0, -1] == 79
    assert (np.diff(data.step_of_tick[0]) > 0).all()
    assert (data.step_of_tick[0] < 40).mean() < 0.35


def test_resampling_keeps_the_ends_and_standardises(trajectories):
    data = TrajectorySet(trajectories)
    everything = np.concatenate(trajectories)
    first = (np.stack([t[0] for t in trajectories]) - everything.mean(0)) / everything.std(0)
    np.testing.assert_allclose(data.states[:, 0], first, atol=1e-5)
    last = (np.stack([t[-1] for t in trajectories]) - everything.mean(0)) / everything.std(0)
    np.testing.assert_allclose(data.states[:, -1], last, atol=1e-5)


def test_constant_columns_are_left_out_and_small_ones_stay_small(trajectories):
    rng = np.random.default_rng(0)
    widened = [np.hstack([t, np.full((len(t), 1), 7.0), 1e-4 * rng.normal(size=(len(t), 1))]) for t in trajectories]
    data = TrajectorySet(widened)
    assert data.dim == 5
    assert data.resample(widened[:3]).states.shape[2] == 5
    assert data.states[..., 4].std() < 0.02  # not blown up to 1


def test_what_single_precision_rounds_is_constant(trajectories):
    rng = np.random.default_rng(0)
    jitter = [np.hstack([t, 0.3 + 2e-8 * rng.normal(size=(len(t), 1))]) for t in trajectories]
    assert TrajectorySet([t.astype(np.float32) for t in jitter]).dim == 4
    assert TrajectorySet(jitter).dim == 5  # double precision knows better


def test_interpolation_is_linear():
    states = np.arange(10.0).reshape(5, 2)
    np.testing.assert_allclose(interpolate(states, np.array([1.25, 4.0])), [[2.5, 3.5], [8.0, 9.0]])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: [*t[:-1], t[-1][:3]], "trajectory 59 has 3 steps; with delta = 2 at least 4"),
        (lambda t: [*t[:-1], t[-1][:1]], "trajectory 59 has 1 steps; with delta = 2 at least 4"),
        (lambda t: [*t[:-1], t[-1][:, :3]], r"trajectory 59 has shape \(\d+, 3\); all have to be \(steps, 4\)"),
        (lambda t: [np.full_like(t[0], np.nan), *t[1:]], "trajectory 0 contains NaN"),
        (lambda t: [np.ones_like(x) for x in t], "the states never change"),
        (lambda t: [x * 0 + i for i, x in enumerate(t)], "the states never change"),
        (lambda t: [], "no trajectories"),
    ],
)
def test_bad_trajectories_are_named(trajectories, spoil, message):
    with pytest.raises(ValueError, match=message):
        TrajectorySet(spoil(trajectories))


def test_a_trajectory_at_rest_among_others_is_no_fault(trajectories):
    data = TrajectorySet([*trajectories, np.repeat(trajectories[0][:1], 30, axis=0)])
    assert np.isfinite(data.states).all()
    assert Alignment(data.states).positions.shape == (61, data.ticks)


@pytest.mark.parametrize("unit", [2.0**-600, 2.0**-100, 2.0**-30, 2.0**600])
def test_the_unit_of_the_states_changes_nothing(trajectories, unit):
    # Powers of two, so that not even the last digit differs; with others it may.
    rests = [np.hstack([t, np.full((len(t), 1), 0.7)]) for t in trajectories]
    ours, theirs = TrajectorySet(rests), TrajectorySet([unit * t for t in rests])
    np.testing.assert_array_equal(ours.states, theirs.states)
    np.testing.assert_array_equal(ours.step_of_tick, theirs.step_of_tick)


def test_trajectories_in_a_tiny_unit_are_not_said_to_rest(trajectories):
    states = TrajectorySet([1e-30 * t for t in trajectories]).states
    np.testing.assert_allclose(states, TrajectorySet(trajectories).states, atol=1e-5)


@pytest.mark.parametrize("unit", [1.0, 1e-30, 1e30])
def test_a_constant_column_is_constant_with_a_large_offset_and_rounding_noise(trajectories, unit):
    rng = np.random.default_rng(0)
    noisy = [unit * np.hstack([t, 1e6 + 1e-9 * rng.normal(size=(len(t), 1)), np.zeros((len(t), 1))]) for t in trajectories]
    assert np.isinf(column_scales(noisy)[1]).tolist() == [False] * 4 + [True, True]


def test_ordinary_scales_are_standard_deviations_to_the_last_digit(trajectories):
    everything = np.concatenate(trajectories)
    mean, scale = column_scales(trajectories)
    np.testing.assert_array_equal(mean, everything.mean(0))
    np.testing.assert_array_equal(scale, everything.std(0))
