"""MaxMI's objective by gradient ascent, with an estimator whose information is known."""

import numpy as np
import pytest
import torch

from infoatlas_rl import InfoAtlasLoss
from infoatlas_rl.baselines.mine import MINELoss
from infoatlas_rl.keystates import KeyStateConfig, KeyStateFinder, MaxMIFinder, TrajectorySet, make_finder, maxmi


class Peaked:
    """Information that is largest where the first column of the states is at a given value."""

    def __init__(self, value):
        self.value = value

    def mi(self, now, before):
        return 2 - (now[..., 0].mean(1) - self.value).square()

    def reseed(self, seed):
        pass

    def extra_repr(self):
        return ""


def lines(count=24, steps=60):
    rng = np.random.default_rng(0)
    return [np.linspace([-1.0, 0.5], [1.0, -0.5], steps) + 0.002 * rng.normal(size=(steps, 2)) for _ in range(count)]


def finder(estimator, **options):
    return MaxMIFinder(TrajectorySet(lines()), estimator, KeyStateConfig(**{"concepts": 2, "method": "maxmi", **options}))


@pytest.mark.parametrize("share", [0.2, 0.75])
def test_the_gradient_sees_a_maximum_that_is_far_away(share):
    run = finder(Peaked(share * 2 * 3**0.5 - 3**0.5))  # in standard deviations of a uniform column
    assert abs(run.cuts[1] / run.ticks - share) > 0.2
    figures = list(run.fit())
    assert run.cuts[1] / run.ticks == pytest.approx(share, abs=0.08)  # nearer, it tells less than 0.08 nats more
    assert figures[-1]["information"] > figures[0]["information"]
    assert run.key_states().steps.shape == (24, 2)


def test_consecutive_key_states_keep_their_gap(monkeypatch):
    monkeypatch.setattr(maxmi, "GAP", 0.2)
    run = finder(Peaked(0.0), concepts=3)
    list(run.fit())
    first, second = run.clock.phase[run.cuts[1]], run.clock.phase[run.cuts[2]]
    assert second - first == pytest.approx(0.2, abs=0.06)  # expected times keep it, and maxima are a tick or three off them


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path):
    whole = finder(Peaked(1.0))
    list(whole.fit())
    interrupted = finder(Peaked(1.0)).fit(tmp_path / "checkpoint.pt")
    for _ in range(3):
        next(interrupted)
    resumed = finder(Peaked(1.0))
    resumed.load(tmp_path / "checkpoint.pt")
    list(resumed.fit())
    assert torch.equal(resumed.logits, whole.logits)


def test_whole_states_are_compared_whatever_the_estimator_was_set_to(trajectories):
    estimator = InfoAtlasLoss(slices=1, k=20, sides="y")
    config = KeyStateConfig(concepts=3, method="maxmi")
    run = make_finder(TrajectorySet(trajectories), estimator, config)
    assert isinstance(run, MaxMIFinder)
    assert (run.estimator.sides, run.estimator.slices, run.estimator.k) == ("both", 25, 5)
    assert estimator.sides == "y"
    assert run._ascend() > 0.3  # states two ticks apart say much about each other
    assert type(make_finder(TrajectorySet(trajectories), estimator, KeyStateConfig())) is KeyStateFinder


def test_it_runs_with_a_critic_that_is_trained_in_every_step(trajectories):
    run = MaxMIFinder(TrajectorySet(trajectories), MINELoss(20), KeyStateConfig(concepts=3, method="maxmi"))
    assert run.measure_steps(1) > 0


def test_what_it_cannot_do_is_refused(trajectories):
    with pytest.raises(ValueError, match=r"say discovery\.concepts=K"):
        MaxMIFinder(TrajectorySet(trajectories), None, KeyStateConfig(method="maxmi"))
    with pytest.raises(ValueError, match="5 trajectories; MI between their states needs at least 20"):
        MaxMIFinder(TrajectorySet(trajectories[:5]), None, KeyStateConfig(concepts=3, method="maxmi"))
    with pytest.raises(ValueError, match="method has to be stages or maxmi, not 'foo'"):
        KeyStateConfig(method="foo")


def test_more_key_states_than_ticks_are_refused():
    short = TrajectorySet(lines(steps=8))
    with pytest.raises(ValueError, match=r"10 concepts with a gap of 0\.05 do not fit into one trajectory of 8 ticks"):
        MaxMIFinder(short, None, KeyStateConfig(concepts=10, method="maxmi"))
