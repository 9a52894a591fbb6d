import math

import pytest
import torch

from infoatlas_rl.estimator.bounds import BOUNDS, donsker_varadhan, info_nce, nwj, smile, without_outliers

RHO = 0.6
TRUTH = -0.5 * math.log(1 - RHO**2)


def true_critic(rng, n=50_000, shifts=4):
    """Values of the exact log ratio of a correlated pair on joint and product samples."""
    x, e = torch.randn(2, 1, n, generator=rng, dtype=torch.float64)
    y = RHO * x + (1 - RHO**2) ** 0.5 * e

    def t(a, b):
        return TRUTH + (RHO * a * b - RHO**2 * (a**2 + b**2) / 2) / (1 - RHO**2)

    return t(x, y), torch.cat([t(x, y.roll(i + 1, dims=-1)) for i in range(shifts)], dim=-1)


@pytest.mark.parametrize("name", ["dv", "nwj", "smile"])
def test_bound_of_the_true_critic_is_the_mutual_information(rng, name):
    # Standard error at 50 000 samples: about 0.003.
    assert abs(BOUNDS[name](*true_critic(rng)) - TRUTH) < 0.012


def test_info_nce_is_below_the_truth_and_below_log_k(rng):
    joint, product = true_critic(rng)
    value = info_nce(joint, product)
    assert 0.5 * TRUTH < value < TRUTH + 0.01
    assert value < math.log(5)
    assert info_nce(100 * torch.ones(1, 10), torch.zeros(1, 40)) <= math.log(5) + 1e-5


def test_bounds_of_a_wrong_critic_are_lower(rng):
    joint, product = true_critic(rng)
    for bound in (donsker_varadhan, nwj):
        assert bound(0.5 * joint, 0.5 * product) < TRUTH
    # Without the clip this critic would be worth less than nothing; clipped at 5 it may exceed the truth, but not by much.
    assert donsker_varadhan(5 * joint, 5 * product) < 0
    assert smile(0.5 * joint, 0.5 * product) < TRUTH


def test_one_product_sample_does_not_decide_a_value_that_is_watched(rng):
    joint, product = true_critic(rng, n=2048)
    value = donsker_varadhan(joint, without_outliers(product))
    assert value == pytest.approx(float(donsker_varadhan(joint, product)), abs=0.01)
    product[0, 0] = 12.0  # exp(12) is twenty times as much as all others have
    assert donsker_varadhan(joint, product) < -2
    assert donsker_varadhan(joint, without_outliers(product)) == pytest.approx(float(value), abs=0.01)
    few = product[:, :1000]  # of a batch: what is returned first is the estimate itself
    assert without_outliers(few).equal(few)


def test_donsker_varadhan_ignores_a_constant(rng):
    joint, product = true_critic(rng, n=100)
    torch.testing.assert_close(donsker_varadhan(joint + 7, product + 7), donsker_varadhan(joint, product))


def test_nwj_is_lower_than_donsker_varadhan_for_a_critic_that_is_not_normalised(rng):
    joint, product = true_critic(rng)
    assert nwj(joint + 0.5, product + 0.5) < donsker_varadhan(joint, product) - 0.1
    assert nwj(joint - 0.5, product - 0.5) < donsker_varadhan(joint, product) - 0.05
