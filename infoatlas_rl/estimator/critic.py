"""Stage 5, the critic: Gaussian-copula base plus learned features whose last layer is solved, not generated.

With canonical coordinates u, v, shrunk correlations rho and features h the critic of one data set is::

    t(x, y) = base(x, y) + w . h(x, y)
    base    = sum_i [ rho_i u_i v_i - rho_i^2 (u_i^2 + v_i^2) / 2 ] / (1 - rho_i^2)      (up to a constant)

The weights w maximise the penalised Donsker-Varadhan bound, which is concave in w, by a few damped Newton steps::

    w <- w + a (H + L)^-1 (E_p h - E_q~ h - L (w - w_0)),     q~ ~ product samples weighted by exp t

The step size a, w_0 and L are generated. For H the mean of the covariances of h under q~ and under the joint samples p is
taken: they agree at the optimum, where q~ = p, and the latter does not collapse when few product samples carry all the
weight.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from infoatlas_rl.estimator.bounds import donsker_varadhan
from infoatlas_rl.estimator.canonical import Maps
from infoatlas_rl.estimator.copula import NormalScores
from infoatlas_rl.estimator.hypernetwork import CriticParameters

HESSIAN_ROWS = 8192
"""Samples that the Hessian is computed from, at most: it only has to point the steps in the right direction."""


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


class Solution(NamedTuple):
    """The solved last layer, and what is needed to ask how it would have come out on half of the samples."""

    weights: Tensor  # (b, m)
    factor: Tensor  # (b, m, m), Cholesky factor of the penalised Hessian; not differentiable


def solve_last_layer(
    joint: Tensor, product: Tensor, base_joint: Tensor, base_product: Tensor, parameters: CriticParameters, steps: int
) -> Solution:
    """The last layer w of the critic by damped Newton steps.

    All but the last step run without gradients, and the Hessian is held fixed: differentiating one Newton step
    through its residual alone is implicit differentiation at the fixed point. Of all iterates the one with the best
    penalised bound is returned, so that an overshooting step cannot do harm.

    Args:
        joint, product: features of joint samples ``(b, n, m)`` and of product samples ``(b, N, m)``.
        base_joint, base_product: the critic without them, ``(b, n)`` and ``(b, N)``.
    """
    ridge, prior, step = parameters.ridge, parameters.prior_mean, parameters.step_size
    mean_joint = joint.mean(1)

    def tilted(w: Tensor) -> Tensor:
        return base_product + torch.einsum("bnm,bm->bn", product, w)

    def residual(w: Tensor, t_product: Tensor) -> Tensor:
        expected = torch.einsum("bnm,bn->bm", product, torch.softmax(t_product, dim=-1))
        return expected - mean_joint + ridge * (w - prior)

    def penalised_bound(w: Tensor, t_product: Tensor) -> Tensor:
        return (mean_joint * w).sum(-1) - t_product.logsumexp(-1) - 0.5 * (ridge * (w - prior) ** 2).sum(-1)

    with torch.no_grad():
        # All of this is held fixed; no_grad says so to reverse mode, detach to forward mode.
        floor = torch.diag_embed(ridge + 1e-4)
        uniform = torch.full_like(base_joint[:, :HESSIAN_ROWS], 1 / min(base_joint.shape[1], HESSIAN_ROWS))
        covariance_joint = _covariance(joint[:, :HESSIAN_ROWS], uniform)
        best = w = prior
        t_product = tilted(w)
        best_score = penalised_bound(w, t_product)
        for _ in range(steps - 1):
            tilt = torch.softmax(t_product[:, :HESSIAN_ROWS], dim=-1)
            covariance_tilted = _covariance(product[:, :HESSIAN_ROWS], tilt)
            factor = torch.linalg.cholesky(0.5 * (covariance_joint + covariance_tilted) + floor)
            w = w - step * torch.cholesky_solve(residual(w, t_product).unsqueeze(-1), factor).squeeze(-1)
            t_product = tilted(w)
            score = penalised_bound(w, t_product)
            best = torch.where((score > best_score).unsqueeze(-1), w, best)
            best_score = torch.maximum(score, best_score)
    best, factor = best.detach(), factor.detach()
    last = best - step * torch.cholesky_solve(residual(best, tilted(best)).unsqueeze(-1), factor).squeeze(-1)
    with torch.no_grad():
        improved = penalised_bound(last, tilted(last)) >= best_score
        value = torch.where(improved.unsqueeze(-1), last, best).detach()
    return Solution(value + (last - last.detach()), factor)


@torch.no_grad()
def two_fold_bound(
    solution: Solution, joint: Tensor, product: Tensor, t_joint: Tensor, t_product: Tensor, parameters: CriticParameters
) -> Tensor:
    """Donsker-Varadhan bound ``(b,)`` of last layers that were moved to the optimum of one half of the samples by a Newton
    step from the joint solution, each evaluated on the other half: what of the bound is due to fitting the last layer.

    ``t_joint, t_product``: values of the critic on both.
    """
    n = t_joint.shape[1]
    first = torch.arange(n, device=t_joint.device) < n // 2
    first_product = first.repeat(t_product.shape[1] // n)
    penalty = parameters.ridge * (solution.weights - parameters.prior_mean)
    bounds = []
    for half, half_product in ((first, first_product), (~first, ~first_product)):
        tilt = torch.softmax(t_product.masked_fill(~half_product, -math.inf), dim=-1)
        gradient = torch.einsum("bnm,bn->bm", product, tilt) - joint[:, half].mean(1) + penalty
        move = -torch.cholesky_solve(gradient.unsqueeze(-1), solution.factor).squeeze(-1)
        moved_joint = (t_joint + torch.einsum("bnm,bm->bn", joint, move))[:, ~half]
        moved_product = (t_product + torch.einsum("bnm,bm->bn", product, move))[:, ~half_product]
        bounds.append(donsker_varadhan(moved_joint, moved_product))
    return (bounds[0] + bounds[1]) / 2


def _covariance(features: Tensor, weights: Tensor) -> Tensor:
    """Weighted covariance ``(b, m, m)`` in full precision; bfloat16 would not stay positive definite."""
    with torch.autocast(features.device.type, enabled=False):
        features = features.float()
        weighted = features * weights.float().unsqueeze(-1)
        mean = weighted.sum(1, keepdim=True)
        return weighted.mT @ features - mean.mT @ mean


class Coordinates(NamedTuple):
    """Canonical coordinates of the samples of one side."""

    linear: Tensor  # (b, n, d)
    nonlinear: Tensor  # (b, n, r)


class Side(NamedTuple):
    """The samples of one side as the critic sees them."""

    coordinates: Tensor  # (b, n, min(dx, dy)), linear canonical coordinates that have a partner
    variates: Tensor  # (b, n, r), nonlinear canonical variates
    embedding: Tensor  # (b, n, width), modulated

    def at(self, index: Tensor) -> Side:
        return Side(*(t.index_select(1, index) for t in self))


@dataclass(frozen=True)
class Critic:
    """The critic that was written for a batch of data sets, and its values on them.

    It is normalised to ``E_q[exp t] = 1`` on these data, so that t estimates the pointwise MI itself.
    """

    scores: tuple[NormalScores, NormalScores]
    maps: Maps
    parameters: CriticParameters
    solution: Solution  # last layer
    normaliser: Tensor  # (b, 1), log E_q[exp t] before it was subtracted; constant
    features: tuple[Tensor, Tensor]  # of joint and of product samples, (b, n, m) and (b, N, m)
    coordinates: tuple[Coordinates, Coordinates]  # canonical coordinates of the data
    joint: Tensor  # (b, n): t(x_i, y_i) on the data it was written for
    product: Tensor  # (b, N): t(x_i, y_j) on the data it was written for
    base_joint: Tensor  # (b, n), Gaussian base alone
    base_product: Tensor  # (b, N)
    see: Callable[[Tensor, Tensor], tuple[Side, Side]]  # normal scores of new samples to their sides
    pair: Callable[[Side, Side], tuple[Tensor, Tensor]]  # pairs of sides to features (b, q, m) and Gaussian base (b, q)

    def sides(self, x: Tensor, y: Tensor) -> tuple[Side, Side]:
        """New samples ``(b, q, dx), (b, q, dy)`` as the critic sees them; not differentiable with respect to them."""
        return self.see(self.scores[0].scores(x).float(), self.scores[1].scores(y).float())

    def values(self, side_x: Side, side_y: Side) -> tuple[Tensor, Tensor]:
        """Values of the critic and of its Gaussian base at pairs, ``(b, q)`` each."""
        features, base = self.pair(side_x, side_y)
        return base + torch.einsum("bnm,bm->bn", features, self.solution.weights) - self.normaliser, base

    def two_fold_bound(self) -> Tensor:
        """See :func:`two_fold_bound`."""
        return two_fold_bound(self.solution, *self.features, self.joint, self.product, self.parameters)
