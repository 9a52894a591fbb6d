"""The test of independence: its level under independence, and its power."""

import numpy as np
import pytest

from infoatlas_rl import independence_test
from infoatlas_rl.analysis.independence import _within


def normal(n, d, seed):
    return np.random.default_rng(seed).normal(size=(n, d))


# At most a tenth of the p-values is below 0.1 in expectation; so many or more of them have a chance below 0.5 %.
@pytest.mark.parametrize(("n", "d", "sets", "too_many"), [(60, 3, 40, 10), (128, 30, 8, 5)])
def test_p_values_of_independent_data_are_not_too_small(n, d, sets, too_many):
    p = np.array([independence_test(normal(n, d, 2 * s), normal(n, d, 2 * s + 1), permutations=39).p_value for s in range(sets)])
    assert (p <= 0.1).sum() < too_many
    assert p.min() >= 1.25 / 40


def test_curved_and_thinly_spread_dependence_is_seen():
    x = normal(400, 2, 0)
    circle = np.stack([np.hypot(*x.T), normal(400, 1, 1)[:, 0]], axis=1)
    found = independence_test(x, circle, permutations=199)
    assert found.p_value == pytest.approx(5 / 200)  # only the critic sees it, which has a fifth of the level
    assert found.z_score > 5
    assert found.statistic > 0.1
    wide = normal(400, 64, 2)
    thin = wide.mean(1, keepdims=True) * 2 + normal(400, 64, 3)  # every pair of columns has a correlation of 0.03
    found = independence_test(wide, thin, permutations=199)
    assert found.p_value == pytest.approx(1.25 / 200)
    assert "p = 0.00625" in str(found)


def test_class_labels_and_seeds():
    x = normal(200, 1, 0)[:, 0]
    labels = np.where(x > 0.5, "a", np.where(x > -0.5, "b", "c"))
    first = independence_test(x, labels, classes="y", permutations=99)
    assert first.p_value == pytest.approx(1.25 / 100)
    assert independence_test(x, labels, classes="y", permutations=99) == first


def test_what_cannot_be_tested_is_refused():
    with pytest.raises(ValueError, match="permutations has to be at least 1"):
        independence_test(normal(50, 1, 0), normal(50, 1, 1), permutations=0)
    with pytest.raises(ValueError, match="n = 12 samples; a test needs at least 16"):
        independence_test(normal(12, 1, 0), normal(12, 1, 1))


def test_few_rows_of_many_columns_are_tested_by_correlations():
    x = normal(60, 30, 0)
    found = independence_test(x, x[:, :5] + normal(60, 5, 1), permutations=99)
    assert np.isnan(found.statistic)
    assert found.p_value == 0.01
    assert (
        sum(
            independence_test(normal(60, 30, seed), normal(60, 2, 100 + seed), permutations=19).p_value <= 0.05
            for seed in range(20)
        )
        < 5
    )


def test_a_share_of_the_level_costs_little_far_beyond_it():
    for z in (1.5, 2.0, 5.0, 30.0):
        assert z - 1.3 < _within(z, 0.2) < _within(z, 0.8) < z
    assert _within(1.0, 1.0) == pytest.approx(1.0)
    assert _within(60.0, 0.2) == 60.0
    assert 8 - _within(8.0, 0.2) == pytest.approx(np.log(5) / 8, rel=0.05)


def test_a_list_of_classes_is_refused():
    with pytest.raises(ValueError, match="classes has to be x, y or both"):
        independence_test(np.arange(100) % 3, np.arange(100.0), classes=["x"])


@pytest.mark.parametrize(("option", "value"), [("permutations", 2.5), ("permutations", 0), ("seed", None), ("seed", 2**70)])
def test_options_that_are_no_integers_are_named(option, value):
    with pytest.raises(ValueError, match=f"{option} has to be"):
        independence_test(np.arange(100.0), np.arange(100.0), **{option: value})


def test_the_score_of_what_is_below_its_permutations_is_a_little_below_zero():
    # p over a share of the level is above 1 there, which is no standard deviation of -7.
    assert [_within(z, 0.8) for z in (-0.9, -0.5)] == [-0.9, -0.5]
    assert _within(0.5, 0.2) == 0.0
    scores = [_within(z, 0.2) for z in np.linspace(-3, 6, 50)]
    assert scores == sorted(scores)
    assert _within(5.0, 0.8) == pytest.approx(4.96, abs=0.01)
