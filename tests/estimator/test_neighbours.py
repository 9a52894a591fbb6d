import numpy as np
import pytest
import torch

from infoatlas_rl.baselines.classical import gaussian_copula, ksg
from infoatlas_rl.estimator.neighbours import QUERIES, pointwise_information
from tests.conftest import correlated

TRUTH = -0.5 * np.log(1 - 0.8**2)


def test_mean_is_the_mutual_information_of_a_gaussian_pair():
    x, y = correlated(2000, [0.8], batch=6)
    # Six data sets of 384 queries: a standard error of 0.02.
    assert pointwise_information(x, y, (3,)).mean() == pytest.approx(TRUTH, abs=0.06)


def test_it_is_the_estimator_of_kraskov_et_al_in_one_dimension():
    # With all samples asked, and columns on the same scale, both count the same neighbours.
    x, y = correlated(250, [0.8])
    x, y = ((side - side.mean(0)) / side.std(0, correction=0) for side in (x, y))
    ours = pointwise_information(x[None], y[None], (5,)).mean()
    assert float(ours) == pytest.approx(
        ksg(x.double().numpy(), y.double().numpy(), k=5), abs=0.02
    )  # 250 samples, and noise against ties
    assert QUERIES >= 250


def test_independent_samples_have_none():
    x, y = correlated(1000, [0.0, 0.0], batch=8)
    assert abs(float(pointwise_information(x, y, (3, 12)).mean())) < 0.04


def test_ties_are_finite():
    x, y = correlated(200, [0.8], batch=1)
    assert bool(torch.isfinite(pointwise_information(x.round(), y.round(), (3, 12))).all())


def test_baselines_know_a_gaussian():
    x, y = (side.double().numpy() for side in correlated(3000, [0.8]))
    assert ksg(x, y) == pytest.approx(TRUTH, abs=0.06)
    assert gaussian_copula(x, y) == pytest.approx(TRUTH, abs=0.04)
    assert gaussian_copula(np.exp(x), y**3) == pytest.approx(gaussian_copula(x, y), abs=1e-9)
