"""Stage 5, the critic: Gaussian-copula base plus learned features whose last layer is solved, not generated.

With canonical coordinates u, v, shrunk correlations rho and features h the critic of one data set is::

    t(x, y) = base(x, y) + w . h(x, y)
    base    = sum_i [ rho_i u_i v_i - rho_i^2 (u_i^2 + v_i^2) / 2 ] / (1 - rho_i^2)      (up to a constant)

The weights w maximise the penalised Donsker-Varadhan bound, which is concave in w, by a few Newton steps::

    w <- w + (H + L)^-1 (E_p h - E_q~ h - L (w - w_0)),     q~ ~ product samples weighted by exp t

w_0 and L are generated. For H the mean of the covariances of h under q~ and under the joint samples p is taken: they
agree at the optimum, where q~ = p, and the latter does not collapse when few product samples carry all the weight.
"""

from __future__ import annotations

import torch
from torch import Tensor

from infoatlas_rl.hypernetwork import CriticParameters


def gaussian_base(u: Tensor, v: Tensor, rho: Tensor) -> Tensor:
    """Log density ratio of a Gaussian copula in canonical coordinates, up to a constant.

    Args:
        u, v: ``(b, n, D)`` with ``D >= r``.
        rho: ``(b, r)``.

    Returns:
        ``(b, n)``
    """
    r = rho.shape[-1]
    u, v, rho = u[..., :r], v[..., :r], rho.unsqueeze(-2)
    return ((rho * u * v - 0.5 * rho**2 * (u**2 + v**2)) / (1 - rho**2)).sum(-1)


def soft_clip(values: Tensor, limit: float) -> Tensor:
    """Identity near 0, bounded by ``limit``."""
    return limit * torch.tanh(values / limit)


def solve_last_layer(
    joint: Tensor, product: Tensor, base_joint: Tensor, base_product: Tensor, parameters: CriticParameters, steps: int
) -> Tensor:
    """The last layer w of the critic, ``(b, m)``.

    All but the last Newton step run without gradients, and the Hessian is held fixed: differentiating one Newton step
    through its residual alone is implicit differentiation at the fixed point. Of all iterates the one with the best
    penalised bound is returned, so that an overshooting step cannot do harm.

    Args:
        joint, product: features of joint samples ``(b, n, m)`` and of product samples ``(b, N, m)``.
        base_joint, base_product: the critic without them, ``(b, n)`` and ``(b, N)``.
    """
    ridge = parameters.log_ridge.clamp(-12, 6).exp()
    prior = parameters.prior_mean
    mean_joint = joint.mean(1)

    def tilted(w: Tensor) -> Tensor:
        return base_product + torch.einsum("bnm,bm->bn", product, w)

    def residual(w: Tensor, t_product: Tensor) -> Tensor:
        expected = torch.einsum("bnm,bn->bm", product, torch.softmax(t_product, dim=-1))
        return expected - mean_joint + ridge * (w - prior)

    def penalised_bound(w: Tensor, t_product: Tensor) -> Tensor:
        return (mean_joint * w).sum(-1) - t_product.logsumexp(-1) - 0.5 * (ridge * (w - prior) ** 2).sum(-1)

    with torch.no_grad():
        floor = torch.diag_embed(ridge + 1e-4)
        uniform = torch.full_like(base_joint, 1 / base_joint.shape[1])
        covariance_joint = _covariance(joint, uniform)
        best = w = prior
        t_product = tilted(w)
        best_score = penalised_bound(w, t_product)
        for _ in range(steps - 1):
            covariance_tilted = _covariance(product, torch.softmax(t_product, dim=-1))
            factor = torch.linalg.cholesky(0.5 * (covariance_joint + covariance_tilted) + floor)
            w = w - torch.cholesky_solve(residual(w, t_product).unsqueeze(-1), factor).squeeze(-1)
            t_product = tilted(w)
            score = penalised_bound(w, t_product)
            best = torch.where((score > best_score).unsqueeze(-1), w, best)
            best_score = torch.maximum(score, best_score)
    last = best - torch.cholesky_solve(residual(best, tilted(best)).unsqueeze(-1), factor).squeeze(-1)
    with torch.no_grad():
        improved = penalised_bound(last, tilted(last)) >= best_score
        value = torch.where(improved.unsqueeze(-1), last, best)
    return value + (last - last.detach())


def _covariance(features: Tensor, weights: Tensor) -> Tensor:
    """Weighted covariance ``(b, m, m)`` in full precision; bfloat16 would not stay positive definite."""
    with torch.autocast(features.device.type, enabled=False):
        features = features.float()
        weighted = features * weights.float().unsqueeze(-1)
        mean = weighted.sum(1, keepdim=True)
        return weighted.mT @ features - mean.mT @ mean
