import torch

from infoatlas_rl.estimator.bounds import donsker_varadhan
from infoatlas_rl.estimator.critic import gaussian_base, solve_last_layer, two_fold_bound
from infoatlas_rl.estimator.hypernetwork import CriticParameters


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
    """Undamped: the sigmoid of 30 is one."""
    prior, ridges = torch.zeros(1, m, dtype=dtype), torch.full((1, m), ridge, dtype=dtype)
    return CriticParameters(torch.empty(0), torch.empty(0), prior, ridges.log(), torch.full((1, 1), 30.0, dtype=dtype))


def gaussian_features(rng, n: int = 4000, rho: float = 0.7):
    """Joint and product samples of a correlated pair, with the features of its true log ratio."""

    def features(x, y):
        return torch.stack([torch.ones_like(x), x * y, x**2 + y**2], dim=-1)

    x, e, other = torch.randn(3, 1, n, generator=rng)
    y = rho * x + (1 - rho**2) ** 0.5 * e
    return features(x, y), features(x, other), rho


def test_solved_last_layer_is_the_true_log_ratio(rng):
    joint, product, rho = gaussian_features(rng, n=40_000)
    zeros = torch.zeros(joint.shape[:2])
    w = solve_last_layer(joint, product, zeros, zeros, parameters(3, 1e-6), steps=12).weights
    # Large-sample solution; with 40 000 samples the weights are good to a few per cent.
    assert abs(w[0, 1] - rho / (1 - rho**2)) < 0.06
    assert abs(w[0, 2] + 0.5 * rho**2 / (1 - rho**2)) < 0.04


def test_a_few_steps_come_close_to_the_maximum_of_the_bound(rng):
    joint, product, _ = gaussian_features(rng)
    zeros = torch.zeros(joint.shape[:2])

    def bound(steps):
        w = solve_last_layer(joint, product, zeros, zeros, parameters(3, 1e-4), steps).weights
        return donsker_varadhan(joint @ w[0], product @ w[0])

    assert bound(3) > 0.95 * bound(20)


def test_no_step_leads_below_the_start(rng):
    # Strong dependence in few samples: the quadratic model of the bound is poor, and Newton steps overshoot.
    joint, product, _ = gaussian_features(rng, n=40, rho=0.999)
    zeros = torch.zeros(joint.shape[:2])
    given = parameters(3, 1e-6)
    for steps in range(2, 8):
        w = solve_last_layer(joint, product, zeros, zeros, given, steps).weights
        penalty = 0.5e-6 * (w**2).sum()
        assert donsker_varadhan(joint @ w[0], product @ w[0]) - penalty >= 0


def test_solution_stays_at_the_prior_under_an_infinite_ridge(rng):
    joint, product, _ = gaussian_features(rng, n=200)
    prior = torch.tensor([[0.1, -0.2, 0.3]])
    given = parameters(3, 1e9)._replace(prior_mean=prior)
    w = solve_last_layer(joint, product, torch.zeros(1, 200), torch.zeros(1, 200), given, steps=3).weights
    torch.testing.assert_close(w, prior, atol=0.02, rtol=0)


def test_gradient_of_the_solution_is_implicit_differentiation(rng):
    joint, product, _ = gaussian_features(rng, n=500)
    joint, product = joint.double(), product.double()
    zeros = torch.zeros(joint.shape[:2], dtype=torch.float64)
    direction = torch.randn(joint.shape, generator=rng).double()
    given = parameters(3, 0.1, torch.float64)

    def solution(shift):
        return solve_last_layer(joint + shift * direction, product, zeros, zeros, given, steps=30).weights[0, 1]

    shift = torch.zeros((), dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(solution(shift), shift)
    h = 1e-3
    numerical = (solution(torch.tensor(h)) - solution(torch.tensor(-h))) / (2 * h)
    # The Hessian of the solver averages two covariances that agree only at a well-specified optimum.
    torch.testing.assert_close(slope, numerical.to(slope), rtol=0.25, atol=1e-3)


def test_two_fold_bound_is_honest_about_features_of_noise(rng):
    # Independent samples and 40 random features: in-sample the bound is far above zero, two-fold it is not.
    joint, product = torch.randn(8, 200, 40, generator=rng), torch.randn(8, 800, 40, generator=rng)
    zeros = torch.zeros(8, 200), torch.zeros(8, 800)
    given = parameters(40, 1e-3)
    given = given._replace(**{f: getattr(given, f).expand(8, -1) for f in ("prior_mean", "log_ridge", "step_logit")})
    solution = solve_last_layer(joint, product, *zeros, given, steps=4)
    t_joint, t_product = (torch.einsum("bnm,bm->bn", side, solution.weights) for side in (joint, product))
    assert donsker_varadhan(t_joint, t_product).mean() > 0.08
    assert two_fold_bound(solution, joint, product, t_joint, t_product, given).mean() < 0


def test_damping_shortens_the_steps(rng):
    joint, product, _ = gaussian_features(rng)
    zeros = torch.zeros(joint.shape[:2])
    damped = parameters(3, 1e-4)._replace(step_logit=torch.full((1, 1), -4.0))
    full, short = (solve_last_layer(joint, product, zeros, zeros, p, steps=2).weights for p in (parameters(3, 1e-4), damped))
    assert short.norm() < 0.1 * full.norm()
