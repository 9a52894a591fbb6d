import math

import torch

from infoatlas_rl.estimator.bounds import donsker_varadhan
from infoatlas_rl.estimator.critic import gaussian_base, look_ahead, solve_last_layer
from infoatlas_rl.estimator.hypernetwork import RIDGES, CriticParameters


def test_base_is_the_gaussian_log_ratio_up_to_a_constant(rng):
    rho = torch.tensor([[0.8, 0.3]])
    u, v = torch.randn(1, 50, 2, generator=rng), torch.randn(1, 50, 2, generator=rng)
    covariance = torch.eye(4)
    covariance[:2, 2:] = covariance[2:, :2] = torch.diag(rho[0])
    joint = torch.distributions.MultivariateNormal(torch.zeros(4), covariance)
    margin = torch.distributions.Normal(0, 1)
    ratio = joint.log_prob(torch.cat([u, v], -1)) - margin.log_prob(u).sum(-1) - margin.log_prob(v).sum(-1)
    difference = ratio - gaussian_base(u, v, rho)
    torch.testing.assert_close(difference, difference[:, :1].expand_as(difference), atol=1e-4, rtol=0)


def parameters(m: int, ridge: float, dtype: torch.dtype = torch.float32) -> CriticParameters:
    prior, ridges = torch.zeros(1, m, dtype=dtype), torch.full((1, m), ridge, dtype=dtype)
    return CriticParameters(torch.empty(0), torch.empty(0), prior, ridges.log(), torch.empty(0))


def solve(joint: torch.Tensor, product: torch.Tensor, given: CriticParameters, steps: int) -> torch.Tensor:
    """The last layer where there is no base."""
    values = joint, product, *(torch.zeros(side.shape[:2], dtype=side.dtype) for side in (joint, product))
    joint, product, _, base_product = values
    return solve_last_layer(joint, product, base_product, given, look_ahead(*values, given).curvature, steps)


def gaussian_features(rng, n: int = 4000, rho: float = 0.7):
    """Joint and product samples of a correlated pair, with the features of its true log ratio."""

    def features(x, y):
        return torch.stack([torch.ones_like(x), x * y, x**2 + y**2], dim=-1)

    x, e, other = torch.randn(3, 1, n, generator=rng)
    y = rho * x + (1 - rho**2) ** 0.5 * e
    return features(x, y), features(x, other), rho


def test_solved_last_layer_is_the_true_log_ratio(rng):
    joint, product, rho = gaussian_features(rng, n=40_000)
    w = solve(joint, product, parameters(3, 1e-6), steps=40)
    # Large-sample solution; with 40 000 samples the weights are good to a few per cent.
    assert abs(w[0, 1] - rho / (1 - rho**2)) < 0.06
    assert abs(w[0, 2] + 0.5 * rho**2 / (1 - rho**2)) < 0.04


def test_a_few_steps_come_close_to_the_maximum_of_the_bound(rng):
    joint, product, _ = gaussian_features(rng)

    def bound(steps):
        w = solve(joint, product, parameters(3, 1e-4), steps)
        return donsker_varadhan(joint @ w[0], product @ w[0])

    assert bound(3) > 0.95 * bound(60)


def test_the_solution_is_where_the_penalised_bound_is_largest(rng):
    joint, product, _ = gaussian_features(rng, n=400)
    ridge = torch.tensor([0.5, 2.0, 1.0])
    w = solve(joint, product, parameters(3, 1.0)._replace(log_ridge=ridge.log()[None]), steps=60).detach().requires_grad_()
    bound = (joint @ w[0]).mean() - torch.logsumexp(product @ w[0], -1).mean()
    (bound - 0.5 * (ridge * w**2).sum()).backward()
    assert w.detach().abs().max() > 0.1
    torch.testing.assert_close(w.grad, torch.zeros_like(w), atol=1e-4, rtol=0)


def test_no_step_leads_below_the_start(rng):
    # Strong dependence in few samples: the quadratic model of the bound is poor, and Newton steps overshoot.
    joint, product, _ = gaussian_features(rng, n=40, rho=0.999)
    given = parameters(3, 1e-6)
    for steps in range(2, 8):
        w = solve(joint, product, given, steps)
        penalty = 0.5e-6 * (w**2).sum()
        assert donsker_varadhan(joint @ w[0], product @ w[0]) - penalty >= 0


def test_solution_stays_at_the_prior_under_an_infinite_ridge(rng):
    joint, product, _ = gaussian_features(rng, n=200)
    prior = torch.tensor([[0.1, -0.2, 0.3]])
    given = parameters(3, 1e9)._replace(prior_mean=prior)
    w = solve(joint, product, given, steps=3)
    torch.testing.assert_close(w, prior, atol=0.02, rtol=0)


def test_gradient_of_the_solution_is_implicit_differentiation(rng):
    joint, product, _ = gaussian_features(rng, n=500)
    joint, product = joint.double(), product.double()
    direction = torch.randn(joint.shape, generator=rng).double()
    # The curvature is that at the prior mean: here near the solution.
    given = parameters(3, 0.1, torch.float64)
    given = given._replace(prior_mean=solve(joint, product, parameters(3, 1e-3, torch.float64), steps=60))

    def solution(shift):
        return solve(joint + shift * direction, product, given, steps=60)[0, 1]

    shift = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(solution(shift), shift)
    h = 1e-3
    numerical = (solution(torch.tensor(h)) - solution(torch.tensor(-h))) / (2 * h)
    # The Hessian of the solver averages two covariances that agree only at a well-specified optimum.
    torch.testing.assert_close(slope, numerical.to(slope), rtol=0.25, atol=1e-3)


def test_bounds_on_the_other_half_are_honest_about_features_of_noise(rng):
    # Independent samples and 40 random features: in-sample the bound is far above zero, on the other half it is not.
    joint, product = torch.randn(8, 200, 40, generator=rng), torch.randn(8, 800, 40, generator=rng)
    zeros = torch.zeros(8, 200), torch.zeros(8, 800)
    given = parameters(40, 1e-3)
    given = given._replace(**{f: getattr(given, f).expand(8, -1) for f in ("prior_mean", "log_ridge")})
    start = look_ahead(joint, product, *zeros, given)
    weights = solve_last_layer(joint, product, zeros[1], given, start.curvature, steps=6)
    assert donsker_varadhan(*(torch.einsum("bnm,bm->bn", side, weights) for side in (joint, product))).mean() > 0.08
    two_fold = start.two_fold.mean(0)
    assert two_fold.shape == (len(RIDGES),)
    assert two_fold[0] < -0.05
    # The stronger the ridge, the less is believed.
    assert bool((two_fold.diff() > 0).all())
    assert abs(float(two_fold[-1])) < 0.01


def test_bounds_on_the_other_half_find_what_is_there(rng):
    joint, product, rho = gaussian_features(rng)
    zeros = torch.zeros(joint.shape[:2])
    two_fold = look_ahead(joint, product, zeros, zeros, parameters(3, 1e-3)).two_fold[0]
    truth = -0.5 * math.log(1 - rho**2)
    # One Newton step from nothing comes near the optimum of these features.
    assert 0.7 * truth < float(two_fold[0]) < 1.1 * truth
    assert float(two_fold[-1]) < 0.3 * truth
