"""Conditional information against known truths."""

import numpy as np
import pytest

from infoatlas_rl import estimate_mi


def normal(n, d, seed):
    return np.random.default_rng(seed).normal(size=(n, d))


def test_what_a_common_cause_explains_is_gone():
    z = normal(2000, 2, 0)
    x, y = z + normal(2000, 2, 1), z + normal(2000, 2, 2)
    # Of each column corr(x, y) = 1/2: I(x; y) = -log(1 - 1/4) = 0.29, and nothing given z.
    assert estimate_mi(x, y).mi == pytest.approx(0.29, abs=0.05)
    found = estimate_mi(x, y, given=z)
    assert found.mi < 0.05  # three standard errors of a difference of two estimates of 0.3 and 0.7 nats
    assert found.interval[0] == 0
    assert (found.dims, found.given) == ((2, 2), 2)
    assert str(found).startswith("conditional MI = ")


def test_what_a_common_effect_hides_is_seen():
    x, z = normal(2000, 1, 0), normal(2000, 1, 1)
    y = x + z + normal(2000, 1, 2)
    # y - z is x with as much noise: log(2) / 2 nats, where unconditionally it is log(3 / 2) / 2.
    assert estimate_mi(x, y).mi == pytest.approx(0.203, abs=0.04)
    found = estimate_mi(x, y, given=z)
    assert found.mi == pytest.approx(0.347, abs=0.06)
    assert found.interval[0] < 0.347 < found.interval[1]
    assert estimate_mi(x, y, given=z, units="bits").mi == pytest.approx(found.mi / np.log(2))


def test_classes_of_any_side():
    rng = np.random.default_rng(0)
    label = rng.integers(3, size=2000)
    words = np.array(["low", "middle", "high"])[label]
    x, y = label + 0.3 * rng.normal(size=2000), label + 0.3 * rng.normal(size=2000)
    found = estimate_mi(x, y, given=words, classes="given")  # what they share is the label
    assert found.interval[0] == 0
    assert found.mi < 0.05
    assert found.given == 3
    # Given a number that says nothing, a label is as informative as without.
    alone = estimate_mi(x, words, classes="y")
    known = estimate_mi(x, words, given=rng.normal(size=2000), classes=["y"])
    assert known.mi == pytest.approx(alone.mi, abs=0.1)
    assert estimate_mi(words, y, given=x, classes="x").dims == (3, 1)
    with pytest.raises(TypeError, match=r"given cannot be read as an array of numbers \(class labels: classes='given'\)"):
        estimate_mi(x, y, given=words)


def test_frames_in_other_orders_are_refused():
    pandas = pytest.importorskip("pandas")
    x, y, z = (pandas.Series(normal(100, 1, seed)[:, 0]) for seed in range(3))
    with pytest.raises(ValueError, match="x and y have different indexes"):
        estimate_mi(x, y.sort_values(), given=z)
    with pytest.raises(ValueError, match=r"x and given have different indexes.*given.loc\[x.index\]"):
        estimate_mi(x, y, given=z.sort_values())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"permutations": 9}, "permutations is not possible with given"),
        ({"slices": 5}, "slices is not possible with given"),
        ({"classes": "z"}, "classes has to be of x, y and given, one or several of them, or both for x and y, not 'z'"),
        ({"classes": 5}, "classes has to be of x, y and given, one or several of them, or both for x and y, not 5"),
        ({"given": np.full(100, np.nan)}, "given contains NaN or infinity"),
        ({"given": np.zeros((100, 19))}, "y and given together, may have at most 20"),
        ({"given": np.zeros((99, 1))}, "x has shape"),
    ],
)
def test_what_is_not_possible_is_refused(options, message):
    x, y = normal(100, 1, 0), normal(100, 2, 1)
    with pytest.raises(ValueError, match=message):
        estimate_mi(x, y, **{"given": np.zeros((100, 1)), **options})
