import pytest
import torch

from infoatlas_rl.estimator.copula import NormalScores


def scores(x):
    return NormalScores(x).fit_scores(x)


@pytest.mark.parametrize("monotone", [torch.exp, torch.atan, lambda t: t**3, lambda t: 5 * t - 2])
def test_scores_do_not_change_under_monotone_maps(rng, monotone):
    x = torch.randn(2, 200, 3, generator=rng, dtype=torch.float64)
    torch.testing.assert_close(scores(monotone(x)), scores(x), rtol=0, atol=0)


def test_scores_are_standard_normal(rng):
    z = scores(torch.rand(1, 2000, 1, generator=rng))
    assert abs(z.mean()) < 1e-6
    assert abs(z.std() - 1) < 0.01  # mid-ranks cut the tails at 1/(2n)


def test_ties_share_a_score_and_constants_vanish(rng):
    x = torch.randint(0, 3, (1, 300, 1), generator=rng).double()
    z = scores(x)
    assert len(z.unique()) == 3
    assert torch.equal(scores(torch.full((1, 50, 2), 3.7)), torch.zeros(1, 50, 2))


def test_new_points_at_seen_values_get_the_same_scores(rng):
    x = torch.randn(2, 100, 3, generator=rng)
    fitted = NormalScores(x)
    torch.testing.assert_close(fitted.scores(x), fitted.fit_scores(x))


def test_new_points_are_interpolated_monotonically(rng):
    fitted = NormalScores(torch.randn(1, 100, 1, generator=rng))
    z = fitted.scores(torch.linspace(-6, 6, 500).reshape(1, -1, 1))
    assert bool((z.diff(dim=1) >= 0).all())
    assert bool(torch.isfinite(z).all())


def test_slope_is_the_derivative_of_the_population_map(rng):
    # x = 3 g + 1 with g standard normal: the population map is (x - 1) / 3, so its slope is 1/3 everywhere.
    # In the bulk the window averages n^0.8 / 2 order statistics, which leaves a relative noise of a few per cent.
    x = (3 * torch.randn(1, 4000, 1, generator=rng) + 1).requires_grad_()
    scores(x).sum().backward()
    bulk = ((x - 1) / 3).abs() < 1.5
    slope = x.grad[bulk.detach()]
    assert abs(slope.mean() - 1 / 3) < 0.01
    assert slope.std() < 0.04


def test_gradient_is_finite_with_ties_and_constants():
    x = torch.cat([torch.ones(1, 64, 1), torch.arange(64).div(8, rounding_mode="floor").reshape(1, 64, 1)], dim=-1)
    x = x.double().requires_grad_()
    scores(x).square().sum().backward()
    assert bool(torch.isfinite(x.grad).all())
    assert torch.equal(x.grad[..., 0], torch.zeros(1, 64, dtype=torch.float64))
