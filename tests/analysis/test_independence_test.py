"""The test of independence: its level under independence, and its power."""

import numpy as np
import pytest

from infoatlas_rl import independence_test


def normal(n, d, seed):
    return np.random.default_rng(seed).normal(size=(n, d))


# At most a tenth of the p-values is below 0.1 in expectation; so many or more of them have a chance below 0.5 %.
@pytest.mark.parametrize(("n", "d", "sets", "too_many"), [(60, 3, 40, 10), (128, 30, 8, 5)])
def test_p_values_of_independent_data_are_not_too_small(n, d, sets, too_many):
    p = np.array([independence_test(normal(n, d, 2 * s), normal(n, d, 2 * s + 1), permutations=39).p_value for s in range(sets)])
    assert (p <= 0.1).sum() < too_many
    assert p.min() >= 2 / 40


def test_curved_and_thinly_spread_dependence_is_seen():
    x = normal(400, 2, 0)
    circle = np.stack([np.hypot(*x.T), normal(400, 1, 1)[:, 0]], axis=1)
    found = independence_test(x, circle, permutations=199)
    assert found.p_value == 2 / 200
    assert found.statistic > 0.1
    wide = normal(400, 64, 2)
    thin = wide.mean(1, keepdims=True) * 2 + normal(400, 64, 3)  # every pair of columns has a correlation of 0.03
    found = independence_test(wide, thin, permutations=199)
    assert found.p_value <= 0.02
    assert "p = 0.01" in str(found)


def test_class_labels_and_seeds():
    x = normal(200, 1, 0)[:, 0]
    labels = np.where(x > 0.5, "a", np.where(x > -0.5, "b", "c"))
    first = independence_test(x, labels, classes="y", permutations=99)
    assert first.p_value == 2 / 100
    assert independence_test(x, labels, classes="y", permutations=99) == first


def test_what_cannot_be_tested_is_refused():
    with pytest.raises(ValueError, match="permutations has to be at least 1"):
        independence_test(normal(50, 1, 0), normal(50, 1, 1), permutations=0)
    with pytest.raises(ValueError, match="n = 12 samples; a test of 1 and 1 dimensions needs at least 16"):
        independence_test(normal(12, 1, 0), normal(12, 1, 1))
    with pytest.raises(ValueError, match="n = 100 samples; a test of 30 and 1 dimensions needs at least 128"):
        independence_test(normal(100, 30, 0), normal(100, 1, 1))
