"""Stage 5, the critic: Gaussian-copula base plus learned features whose last layer is solved, not generated.

With canonical coordinates u, v, shrunk correlations rho and features h the critic of one data set is::

    t(x, y) = base(x, y) + w . h(x, y)
    base    = sum_i [ rho_i u_i v_i - rho_i^2 (u_i^2 + v_i^2) / 2 ] / (1 - rho_i^2)      (up to a constant)

The weights w maximise the penalised Donsker-Varadhan bound, which is concave in w, by a few Newton steps with the curvature H
at the start::

    w <- w + (H + L)^-1 (E_p h - E_q~ h - L (w - w_0)),     q~ ~ product samples weighted by exp t

w_0 and L are generated; the level of L after a look at what last layers of several levels, solved on one half of the samples,
say about the other half. For H the mean of the covariances of h under q~ and under the joint samples p is taken: they agree at
the optimum, where q~ = p, and the latter does not collapse when few product samples carry all the weight.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from infoatlas_rl.estimator.canonical import Maps
from infoatlas_rl.estimator.copula import NormalScores
from infoatlas_rl.estimator.discrete import RowEntropy, row_entropy
from infoatlas_rl.estimator.hypernetwork import RIDGES, CriticParameters

HESSIAN_ROWS = 1024
"""Samples of each half that the curvature is computed from, at most: it only has to point the steps in the right direction."""


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


class Start(NamedTuple):
    """The last layer before anything is solved, and what halves of the samples say about it."""

    curvature: Tensor  # (b, m, m), H at the prior mean
    two_fold: Tensor  # (b, len(RIDGES)): bound of last layers of one half on the other


@torch.no_grad()
def look_ahead(joint: Tensor, product: Tensor, base_joint: Tensor, base_product: Tensor, parameters: CriticParameters) -> Start:
    """Curvature, and what ridges of several levels give: for each, a Newton step on one half of the samples, evaluated with
    the Donsker-Varadhan bound on the other half, both ways.

    Args:
        joint, product: features of joint samples ``(b, n, m)`` and of product samples ``(b, k n, m)``.
        base_joint, base_product: the critic without them, ``(b, n)`` and ``(b, k n)``.
    """
    n, shifts = joint.shape[1], product.shape[1] // joint.shape[1]
    w, relative = parameters.prior_mean, (parameters.log_ridge - parameters.log_ridge.mean(-1, keepdim=True)).exp()
    t_joint = base_joint + torch.einsum("bnm,bm->bn", joint, w)
    t_product = base_product + torch.einsum("bnm,bm->bn", product, w)
    first = torch.arange(n, device=w.device) < n // 2
    members = torch.stack([first, ~first])  # (halves, n)
    in_product = members.repeat(1, shifts)
    tilt = t_product.unsqueeze(1).masked_fill(~in_product, -math.inf)  # (b, halves, k n)
    share = (members / members.sum(1, keepdim=True)).to(joint)
    gradient = share @ joint - tilt.softmax(-1) @ product  # (b, halves, m)
    curvature = torch.stack([_curvature(joint, product, t_product, half) for half in (slice(n // 2), slice(n // 2, n))], 1)
    level = torch.tensor(RIDGES, device=w.device, dtype=w.dtype).view(-1, 1, 1, 1) / members.sum(1, keepdim=True)
    ridge = torch.diag_embed(level * relative.unsqueeze(1) + 1e-4)
    factor = torch.linalg.cholesky(curvature + ridge)  # (levels, b, halves, m, m)
    move = torch.cholesky_solve(gradient.unsqueeze(-1), factor).squeeze(-1)
    move = rearrange(move, "levels b halves m -> b m (halves levels)")
    # Values of the moved critics, of which those count that were moved by the other half.
    moved_joint, moved_product = (rearrange(t, "b n (h l) -> b h l n", h=2) for t in (joint @ move, product @ move))
    moved_joint = (moved_joint + t_joint[:, None, None]) * share.flip(0).unsqueeze(1)
    other = in_product.flip(0).unsqueeze(1)
    moved_product = (moved_product + t_product[:, None, None]).masked_fill(~other, -math.inf)
    bound = moved_joint.sum(-1) - (moved_product.logsumexp(-1) - other.sum(-1).to(joint).log())
    return Start(curvature.mean(1), bound.mean(1))


def _curvature(joint: Tensor, product: Tensor, t_product: Tensor, half: slice) -> Tensor:
    """H of one half of the samples, from some of them."""
    n, shifts = joint.shape[1], product.shape[1] // joint.shape[1]
    size = half.stop - (half.start or 0)
    some = slice(half.start, (half.start or 0) + min(size, HESSIAN_ROWS))
    used = min(max(HESSIAN_ROWS // size, 1), shifts)
    rows, t = (v.unflatten(1, (shifts, n))[:, :used, some].flatten(1, 2) for v in (product, t_product))
    joint = joint[:, some]
    uniform = torch.full_like(t[:, : joint.shape[1]], 1 / joint.shape[1])
    return 0.5 * (_covariance(joint, uniform) + _covariance(rows, t.softmax(-1)))


def solve_last_layer(
    joint: Tensor,
    product: Tensor,
    base_product: Tensor,
    parameters: CriticParameters,
    curvature: Tensor,
    steps: int,
) -> Tensor:
    """The last layer w ``(b, m)`` of the critic by Newton steps with one curvature.

    All but the last step run without gradients, and the curvature is held fixed: differentiating one Newton step
    through its residual alone is implicit differentiation at the fixed point. Of all iterates the one with the best
    penalised bound is returned, so that an overshooting step cannot do harm.
    """
    ridge, prior = parameters.ridge, parameters.prior_mean
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
        factor = torch.linalg.cholesky(curvature + torch.diag_embed(ridge + 1e-4))
        best = w = prior
        t_product = tilted(w)
        best_score = penalised_bound(w, t_product)
        for _ in range(steps - 1):
            w = w - torch.cholesky_solve(residual(w, t_product).unsqueeze(-1), factor).squeeze(-1)
            t_product = tilted(w)
            score = penalised_bound(w, t_product)
            best = torch.where((score > best_score).unsqueeze(-1), w, best)
            best_score = torch.maximum(score, best_score)
    best, factor = best.detach(), factor.detach()
    last = best - torch.cholesky_solve(residual(best, tilted(best)).unsqueeze(-1), factor).squeeze(-1)
    with torch.no_grad():
        improved = penalised_bound(last, tilted(last)) >= best_score
        value = torch.where(improved.unsqueeze(-1), last, best).detach()
    return value + (last - last.detach())


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
    phases: Tensor  # (b, n, count)

    def at(self, index: Tensor) -> Side:
        return Side(*(t.index_select(1, index) for t in self))


@dataclass(frozen=True)
class Critic:
    """The critic that was written for a batch of data sets, and its values on them.

    It is normalised to ``E_q[exp t] = 1`` on these data, so that t estimates the pointwise MI itself.
    """

    scores: tuple[NormalScores, NormalScores]
    normal: tuple[Tensor, Tensor]  # the normal scores of the data, (b, n, dx) and (b, n, dy); constant
    maps: Maps
    parameters: CriticParameters
    weights: Tensor  # (b, m), last layer
    two_fold: Tensor  # (b, len(RIDGES)): bounds of last layers of one half of the samples on the other
    normaliser: Tensor  # (b, 1), log E_q[exp t] before it was subtracted; constant
    features: tuple[Tensor, Tensor]  # of joint and of product samples, (b, n, m) and (b, N, m)
    coordinates: tuple[Coordinates, Coordinates]  # canonical coordinates of the data
    joint: Tensor  # (b, n): t(x_i, y_i) on the data it was written for
    product: Tensor  # (b, N): t(x_i, y_j) on the data it was written for
    base_joint: Tensor  # (b, n), Gaussian base alone
    base_product: Tensor  # (b, N)
    see: Callable[[Tensor, Tensor], tuple[Side, Side]]  # normal scores of new samples to their sides
    pair: Callable[[Side, Side], tuple[Tensor, Tensor]]  # pairs of sides to features (b, q, m) and Gaussian base (b, q)

    @cached_property
    def entropies(self) -> list[RowEntropy]:
        """Of the rows of both sides, see :func:`row_entropy`."""
        return [row_entropy(side) for side in self.normal]

    def sides(self, x: Tensor, y: Tensor) -> tuple[Side, Side]:
        """New samples ``(b, q, dx), (b, q, dy)`` as the critic sees them; not differentiable with respect to them."""
        return self.see(self.scores[0].scores(x).float(), self.scores[1].scores(y).float())

    def values(self, side_x: Side, side_y: Side) -> tuple[Tensor, Tensor]:
        """Values of the critic and of its Gaussian base at pairs, ``(b, q)`` each."""
        features, base = self.pair(side_x, side_y)
        return base + torch.einsum("bnm,bm->bn", features, self.weights) - self.normaliser, base
