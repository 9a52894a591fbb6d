"""Columns that are nearly the same, and rows that are copies, neither hide information nor make it up."""

import numpy as np
import pytest
import torch

from infoatlas_rl import InfoAtlas, estimate_mi, independence_test, pairwise_mi
from infoatlas_rl.estimator.collinear import without_collinear
from infoatlas_rl.estimator.discrete import distinct_rows
from infoatlas_rl.estimator.inputs import OutsideTrainingRangeWarning


def test_information_in_a_small_difference_of_two_columns_is_seen():
    rng = np.random.default_rng(0)
    a, b, noise = rng.standard_normal((3, 400))
    y = b + 0.3 * noise
    truth = 0.5 * np.log(1 + 1 / 0.09)
    alone = estimate_mi(b, y).mi
    for share in (0.1, 1e-3, 1e-6, 1e-9):  # 1.0, 0.0 and 0.0 before
        found = estimate_mi(np.stack([a, a + share * b], 1), y)
        assert found.interval[0] < truth < found.interval[1]
        assert found.mi == pytest.approx(alone, abs=0.05)
    # Start and end of intervals of a minute within a year, in seconds since 1970.
    start, length = rng.uniform(1.6e9, 1.63e9, 400), rng.exponential(60, 400)
    ends = length + 20 * noise
    times = estimate_mi(np.stack([start, start + length], 1), ends)
    assert times.mi == pytest.approx(estimate_mi(np.stack([start, length], 1), ends).mi, abs=0.05)


def test_columns_that_are_not_nearly_the_same_stay_as_they_are():
    x = torch.randn(3, 500, 4, generator=torch.Generator().manual_seed(0))
    assert without_collinear(x) is x
    units = torch.cat([x, 1.8 * x + 32, torch.exp(0.1 * x)], dim=2)
    torch.testing.assert_close(without_collinear(units), units.double())
    # What is left of single precision is rounding.
    copy = torch.cat([x, x[..., :1] + 1e-9 * x[..., 1:2]], dim=2)
    assert without_collinear(copy) is copy
    near = torch.cat([x, x[..., :1] + 0.01 * torch.randn(3, 500, 1, generator=torch.Generator().manual_seed(1))], dim=2)
    rest = without_collinear(near)
    torch.testing.assert_close(rest[..., :4], x.double())
    assert abs(float(np.corrcoef(rest[0, :, 4], x[0, :, 0])[0, 1])) < 1e-6


def test_copies_of_rows_are_no_samples():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 400))
    drawn = rng.integers(0, 400, 400)
    different = len(np.unique(drawn))
    with pytest.warns(OutsideTrainingRangeWarning, match=f"copies of others; the estimate is of the {different} different ones"):
        found = estimate_mi(x[drawn], y[drawn])
    assert found.n == different
    assert found.interval[0] == 0  # 0.3 before
    with pytest.warns(OutsideTrainingRangeWarning, match="are copies of others"):
        assert pairwise_mi({"x": x[drawn], "y": y[drawn], "c": drawn % 2 == 0}).mi[0, 1] < 0.05
    with pytest.warns(OutsideTrainingRangeWarning, match="are copies of others"):
        assert independence_test(x[drawn], y[drawn], permutations=99).p_value > 0.05
    with pytest.warns(OutsideTrainingRangeWarning, match="leave them out"):
        InfoAtlas.from_pretrained().estimate(np.stack([x[drawn]] * 2)[..., None], np.stack([y[drawn]] * 2)[..., None])


def test_equal_rows_of_discrete_variables_are_samples():
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.integers(0, 40, (400, 1))).double()
    assert distinct_rows(x, 2 * x) is None  # every value ten times
    assert distinct_rows(x, torch.from_numpy(rng.standard_normal((400, 1)))) is None
    # Fewer than eight times each, as in a bootstrap; but integers, and so 3.5 nats of 3.9 and not infinitely many.
    few = torch.from_numpy(rng.integers(0, 50, (300, 1)))
    assert distinct_rows(few, 2 * few) is None
    assert distinct_rows(0.1 * few, (0.3 * few).float()) is None
    assert estimate_mi(few[:, 0], 2 * few[:, 0]).mi == pytest.approx(np.log(50), abs=0.6)
    rounded = torch.from_numpy(rng.standard_normal((400, 2)).round(1))
    assert distinct_rows(rounded[:, :1], rounded[:, 1:]) is None
