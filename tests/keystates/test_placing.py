"""The parts of key-state discovery, compared with values computed by hand: information, score, peaks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from infoatlas_rl.keystates import KeyStateConfig, KeyStateFinder, TrajectorySet
from infoatlas_rl.keystates.placing import divided, peaks, shoulders, smooth, summits, told_apart


class Known:
    """An estimator that says what it is told of the motions: ``information(motions (b, n, d))``."""

    def __init__(self, information):
        self.information = information

    def mi(self, after, motion):
        assert after.mean() == pytest.approx(0.5)  # as many motions before a place as after it
        return self.information(motion.double())

    def reseed(self, seed):
        pass

    def extra_repr(self):
        return ""


def halves(count=24, length=41):
    """A way along x and one along y, as long as each other, each in half of the time, at a pace that differs between the
    demonstrations: only at the corner, in the middle, and at the ends are all of them at the same time."""
    pace = np.linspace(0.6, 1.7, count)
    time = np.linspace(0, 1, length // 2 + 1)
    out = []
    for first, second in zip(pace, pace[::-1], strict=True):
        x = np.concatenate([time**first, np.ones(length // 2)])
        y = np.concatenate([np.zeros(length // 2), time**second])
        out.append(np.stack([x, y], 1))
    return out


def finder(information, trajectories=None, **options):
    config = KeyStateConfig(**{"concepts": 2, "epochs": 2, "samples": 100, "rest_weight": 0.0, "noise": 0.0, **options})
    return KeyStateFinder(TrajectorySet(trajectories or halves()), Known(information), config)


def along(axis):
    """Share of the motions that go along an axis."""
    return lambda motion: (motion[..., axis] > 0.5).double().mean(1)


def test_the_information_of_key_states_is_what_the_estimator_measured_there():
    run = finder(lambda motion: torch.full((len(motion),), 0.3, dtype=torch.float64), concepts=3)
    figures = list(run.fit())
    reach = run.config.window
    np.testing.assert_allclose(run.information[reach + 4 : -reach - 4], 0.3)  # the ends are not measured, and smoothed
    assert run.key_states().information == pytest.approx([0.3, 0.3], abs=1e-3)  # smoothed into the ends
    assert [row["information"] for row in figures] == pytest.approx([0.3, 0.3], abs=1e-3)


def test_a_place_is_compared_by_the_motions_of_its_window():
    """The way turns from x to y at tick c: of the 2 w motions around t, w + c - t go along x."""
    run = finder(along(0), window=5)
    list(run.fit())
    # Motions are smeared over two ticks, and the information over one or two.
    shares = run.information
    corner = int(np.argmin(np.abs(shares - 0.5)))
    assert abs(corner - run.ticks // 2) <= 1
    assert shares[corner - 3] == pytest.approx(0.8, abs=0.1)
    assert shares[corner + 3] == pytest.approx(0.2, abs=0.1)
    assert shares[corner - 9] == pytest.approx(1.0)


def test_smoothing_is_a_mean_over_a_tick_or_two():
    values = np.zeros(21)
    values[10] = 1.0
    smoothed = smooth(values)
    assert smoothed.sum() == pytest.approx(1.0)
    assert smoothed[10] == pytest.approx(0.570, abs=1e-3)
    assert smoothed[9] / smoothed[10] == pytest.approx(np.exp(-0.5 / 0.7**2))
    np.testing.assert_allclose(smooth(np.full(9, 0.2)), 0.2)


def test_the_score_is_the_weighted_information_less_the_penalty():
    run = finder(along(1), mi_weight=2.0, spread_weight=0.7, rest_weight=0.4)
    list(run.fit())
    assert run.clock.spread.max() > 0.02  # the penalty is worth something
    assert run.clock.rest.max() > 0.01  # so is the reward
    expected = 2.0 * run.information + 0.4 * run.clock.rest - 0.7 * run.clock.spread
    np.testing.assert_allclose(run._score(), expected)


def test_peaks_are_the_largest_around_the_best_first_and_keep_their_gap():
    score, everywhere = np.zeros(100), np.arange(3, 98)
    score[[3, 20, 22, 40, 46, 97]] = [9.0, 2.0, 5.0, 3.0, 4.0, 8.0]
    assert peaks(score, everywhere, 0.05) == [97, 22, 46, 40]  # 3 is too near to the beginning, 20 no peak
    assert peaks(score, everywhere, 0.08) == [22, 46]  # half a gap is kept to the end
    assert peaks(score, np.arange(30, 90), 0.05) == [46, 40]
    assert peaks(np.full(100, 0.1), everywhere, 0.05) == []  # where all is alike there is none


def test_two_turns_that_are_one_peak_are_told_apart_where_more_are_asked_for():
    score = np.zeros(60)
    score[20:26] = [0.3, 0.31, 0.32, 0.33, 0.34, 0.4]
    telling = np.flatnonzero(score > 0)
    assert shoulders([25], 2, score, telling, 0.03) == [25, 21]
    assert shoulders([25], 5, score, telling, 0.03) == [25, 21]  # no nearer than a peak is wide
    assert shoulders([25], 1, score, telling, 0.03) == [25]


def test_the_longest_stages_are_divided_where_there_are_not_enough_peaks():
    assert divided([20, 60], 2, 100, 0.05) == [20, 60]
    assert divided([20, 60], 4, 100, 0.05) == [20, 40, 60, 80]
    with pytest.raises(ValueError, match=r"5 concepts with a gap of 0\.25 do not fit: after 3 no stage is long enough"):
        divided([30, 60], 4, 100, 0.25)


def test_summits_lie_between_ticks_and_never_beyond_a_neighbour():
    ticks = np.arange(20)
    score = -((ticks - 7.4) ** 2.0)
    assert summits(score, [0, 7, 20]) == [pytest.approx(7.4)]
    assert summits(score, [0, 6, 7, 20])[1] == pytest.approx(7.4)
    assert summits(score, [0, 7, 8, 20]) == [pytest.approx(7.4), 8.0]  # 8 is no peak
    assert summits(-((ticks - 7.49) ** 2.0), [6, 7, 8]) == [pytest.approx(7.4)]
    assert summits(np.full(20, 0.1), [0, 7, 20]) == [7.0]


@pytest.mark.parametrize("ticks", [4, 5, 6, 8, 12])
def test_key_states_of_short_trajectories_are_in_order(ticks):
    rng = np.random.default_rng(ticks)
    paths = [rng.standard_normal((ticks, 3)).cumsum(0) for _ in range(24)]
    run = finder(lambda motion: motion.std((1, 2)), paths, concepts=3, rest_weight=0.3)
    list(run.fit())
    assert (np.diff(run._ends()) > 0).all()
    assert (np.diff(run.key_states().steps) >= 0).all()


def test_key_states_are_drawn_to_where_demonstrations_are_at_the_same_time():
    """A share of the motions that grows along the way tells most at a quarter of it; the corner is where they are together."""
    places = {}
    for weight in (0.0, 30.0):
        run = finder(lambda motion: 0.2 * (along(0)(motion) > 0.99).double(), spread_weight=weight)
        list(run.fit())
        places[weight] = run.cuts[1] / run.ticks
    assert places[0.0] < 0.45
    assert places[30.0] == pytest.approx(0.5, abs=0.05)  # two ticks


@pytest.mark.parametrize(
    ("heights", "least", "counted"),
    [
        ([0.40, 0.30, 0.02], 0.0, 2),
        ([0.40, 0.13, 0.061, 0.059, 0.043], 0.0, 2),  # two at the limit, as far from what is below as from each other
        ([0.40, 0.13, 0.058, 0.062, 0.043], 0.0, 2),  # measured once more
        ([0.40, 0.13, 0.061, 0.01], 0.0, 3),
        ([0.40, 0.13, 0.059, 0.01], 0.0, 3),  # measured once more
        ([0.40, 0.13, 0.058, 0.01], 0.05, 2),  # chance tells nearly as much
        ([0.40, 0.13, 0.035, 0.01], 0.0, 2),  # a gap below what is asked for by more than the doubt is no reason
        ([0.059, 0.01], 0.0, 0),
        ([0.40, 0.09], 0.1, 1),
        ([0.09, 0.07], 0.1, 0),
        ([], 0.0, 0),
    ],
)
def test_peaks_at_the_limit_count_or_not_by_the_widest_gap(heights, least, counted):
    assert told_apart(heights, 0.0, 0.0) <= min(heights, default=0.0)
    level = told_apart(heights, 0.06, least)
    assert sum(height >= level for height in heights) == counted
    assert told_apart(heights[::-1], 0.06, least) == level
