"""The parts of key-state discovery, compared with values computed by hand: information, penalties."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from infoatlas_rl.keystates import KeyStateConfig, KeyStateFinder, TrajectorySet
from infoatlas_rl.keystates.measurements import Measurement


class Known:
    """An estimator that knows the information of a place: ``information(share of the motions after it)``."""

    def __init__(self, information):
        self.information = information

    def mi(self, after, motion):
        return self.information(after.mean((1, 2)).double())

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
    config = KeyStateConfig(
        **{"concepts": 2, "epochs": 2, "samples": 100, "candidates": 60, "order_weight": 0.0, "rest_weight": 0.0, **options}
    )
    return KeyStateFinder(TrajectorySet(trajectories or halves()), Known(information), config)


def test_the_information_of_key_states_is_what_the_estimator_measured_there():
    run = finder(lambda after: torch.full_like(after, 0.3), concepts=3)
    figures = list(run.fit())
    assert run.key_states().information == pytest.approx([0.3, 0.3])
    assert [row["information"] for row in figures] == pytest.approx([0.3, 0.3])


def test_information_between_measurements_is_their_mean_weighted_by_distance():
    run = finder(lambda after: after, concepts=4)
    run.cuts = [0, 10, 20, 30, run.ticks]
    run._curves = {
        1: [Measurement((0, 20), np.array([9.0, 11.0]), np.array([0.2, 0.6]))],
        2: [Measurement((10, 30), np.array([20.0, 21.0]), np.array([0.5, 0.1]))],
    }
    near = np.exp(-0.5)  # one tick away, and the kernel is one tick wide
    found = run._information()
    assert found[:2] == pytest.approx([0.4, (0.5 + 0.1 * near) / (1 + near)])
    assert np.isnan(found[2])  # nothing was measured for the third


def test_the_score_is_the_weighted_information_less_the_penalties():
    run = finder(lambda after: after, mi_weight=2.0, order_weight=0.3, spread_weight=0.7, rest_weight=0.4)
    places = np.arange(5, 30)
    score = run._score(0, run.ticks, places, [Measurement((0, run.ticks), places.astype(float), np.full(len(places), 0.4))])
    off_the_middle = (run.clock.phase[places] - (run.clock.phase[0] + run.clock.phase[run.ticks]) / 2) ** 2
    assert run.clock.spread[places].max() > 0.02  # the penalty is worth something
    assert run.clock.rest[places].max() > 0.01  # so is the reward
    expected = 2.0 * 0.4 + 0.4 * run.clock.rest[places] - 0.3 * off_the_middle - 0.7 * run.clock.spread[places]
    np.testing.assert_allclose(score[places], expected, atol=1e-8)
    assert np.isneginf(np.delete(score, places)).all()


def test_key_states_are_drawn_to_where_demonstrations_are_at_the_same_time():
    """The information is largest, if only by a little, where a quarter is left; the corner is where they are together."""
    places = {}
    for weight in (0.0, 2.0):
        run = finder(lambda after: 0.3 - 0.1 * (after - 0.25) ** 2, spread_weight=weight)
        list(run.fit())
        places[weight] = run.cuts[1] / run.ticks
    assert places[0.0] > 0.65
    assert places[2.0] == pytest.approx(0.5, abs=0.05)  # two ticks
