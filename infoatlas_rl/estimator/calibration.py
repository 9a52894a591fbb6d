"""Stage 7, calibration: quantiles of the true MI given everything that the forward pass knows about a data set.

A variational bound is loose where samples are few for the dimension, and optimistic where the critic has been fitted to
noise. How much depends on the data set, and can be learned, because on the atlas the truth is known: a small network maps
statistics of the forward pass to quantiles of the MI (the idea of MIST), trained with the pinball loss. A second one maps
the summary of the data set to the share of the true gradient that the gradient of the bound amounts to.
"""

from __future__ import annotations

import math
from statistics import NormalDist

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infoatlas_rl.estimator.bounds import donsker_varadhan, log_mean_exp, smile
from infoatlas_rl.estimator.critic import Critic
from infoatlas_rl.estimator.grid import grid_information
from infoatlas_rl.estimator.neighbours import distance_correlation, pointwise_information

LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
"""Quantile levels; the middle one is the calibrated estimate, the outer ones are the 90 % interval."""

LARGEST = 100.0
"""No quantile is above it, in nats: of few samples in many dimensions an interval may be as long as that of all problems that the
head has seen, the largest of which had 94."""
DISAGREEMENT = 1.6
"""Standard deviations of the members' medians, on the scale that they are trained on, by which the outermost quantiles move
outwards, and those between in proportion: on the atlas members agree, on data that are unlike it they do not, and there intervals
would be too short."""
_NORMAL = tuple(NormalDist().inv_cdf(level) / NormalDist().inv_cdf(LEVELS[-1]) for level in LEVELS)

FEW, MANY = 4, 32
"""Neighbours of nearest-neighbour estimates."""
QUERIES, REFERENCE = 1024, 4096
"""Samples around which few of them are looked for, and among which."""
BINS = 6, 16
MOST_TIES = 0.01
"""Share of equal values in a column up to which a grid of ranks is looked at."""
STATISTICS = 52
"""Length of what :func:`statistics` returns."""
SIZES = slice(-9, -4)
"""Of these: log(n / 500), log dx, log dy, dx dy / (2 n) and (dx + dy) / n."""


@torch.no_grad()
def statistics(critic: Critic) -> Tensor:
    """What is known about the MI of each data set after the forward pass, ``(b, STATISTICS)``: first the bound.

    Bounds of the critic, of its Gaussian base, and two-fold for several ridges; the spread of the critic; Gaussian MI of
    canonical correlations, in-sample, shrunk and held-out; nearest-neighbour estimates, also as corrections of the critic;
    information on a grid of ranks, of radii, too, where all dependence of a Student-t is; linear dependence and that of
    distances; entropies of the sides, which are small where they are discrete; ties.
    """
    n, dims = critic.joint.shape[1], [d.squeeze(-1).float().clamp(min=1) for d in critic.maps.dims]
    joint, product = critic.joint, critic.product
    columns = [
        donsker_varadhan(joint, product),
        *critic.two_fold.clamp(min=-1).unbind(-1),
        donsker_varadhan(critic.base_joint, critic.base_product),
        smile(joint, product),
        joint.std(-1),
        joint.median(-1).values,
        product.std(-1),
        # Effective share of the product samples that carry the bound.
        (2 * log_mean_exp(product) - log_mean_exp(2 * product)) / 5,
        joint.quantile(0.05, dim=-1),
        joint.quantile(0.95, dim=-1),
    ]
    linear, nonlinear = critic.maps.linear, critic.maps.nonlinear
    for correlations in (
        linear.rho,
        linear.held_out,
        critic.parameters.rho,
        nonlinear.correlations,
        nonlinear.held_out,
        nonlinear.correlations[:, :2],
        nonlinear.held_out[:, :2],
    ):
        columns.append(_gaussian_information(correlations))
    (u, p), (v, q) = critic.coordinates
    weight = nonlinear.held_out.clamp(0, 1).unsqueeze(1)
    in_nonlinear = pointwise_information(p * weight, q * weight, (FEW, MANY))
    for local in (
        pointwise_information(u, v, (FEW,), QUERIES, REFERENCE),
        pointwise_information(u, v, (MANY,)),
        in_nonlinear,
    ):
        correction = local - joint[:, : local.shape[-1]]
        columns += [*local.mean(-1), *correction.mean(-1)]
    columns.append(in_nonlinear[0].std(-1))
    radii = [z.square().sum(-1, keepdim=True) for z in critic.normal]
    scalars = (torch.cat([r, variates[..., :2], linear[..., :1]], -1) for r, linear, variates in zip(radii, (u, v), (p, q)))
    ties = [*critic.scores[0].ties(), *critic.scores[1].ties()]
    # Ranks of equal values are in the order of the samples on both sides, as if these were dependent.
    continuous = torch.stack(ties).amax(0) < MOST_TIES
    columns += (grid_information(*scalars, BINS).movedim(1, -1).flatten(0, 1) * continuous).unbind(0)
    # Of independent Gaussian columns the squared radius has the variance 2 d.
    columns += [(r.squeeze(-1).var(-1) / (2 * d)).clamp(min=1e-4).log() for r, d in zip(radii, dims)]
    columns += [distance_correlation(u, v) * math.sqrt(n), _linear_dependence(*critic.normal)]
    columns += [of_side.entropy for of_side in critic.entropies]
    (dx, dy), size = dims, torch.full_like(dims[0], math.log(min(n, 10_000) / 500))
    columns += [size, dx.log(), dy.log(), dx * dy / (2 * n), (dx + dy) / n]
    columns += ties
    return torch.stack([c.float() for c in columns], dim=-1)


def _gaussian_information(correlations: Tensor) -> Tensor:
    return -0.5 * torch.log1p(-(correlations.clamp(0, 0.9999) ** 2)).sum(-1)


def _linear_dependence(z_x: Tensor, z_y: Tensor) -> Tensor:
    """How many standard deviations the sum of all squared correlations of normal scores ``(b, n, dx), (b, n, dy)`` is above that
    of independent data, ``(b,)``."""
    n = z_x.shape[1]
    x, y = (z - z.mean(1, keepdim=True) for z in (z_x, z_y))
    cross, own_x, own_y = x.mT @ y / n, x.mT @ x / n, y.mT @ y / n
    expected = own_x.diagonal(dim1=-2, dim2=-1).sum(-1) * own_y.diagonal(dim1=-2, dim2=-1).sum(-1)
    spread = (2 * own_x.square().sum((-2, -1)) * own_y.square().sum((-2, -1))).sqrt()
    return (n * cross.square().sum((-2, -1)) - expected) / (spread + 1e-6)


class CalibratedHead(nn.Module):
    """Statistics and summary of data sets to quantiles of their MI, and to the gain of the gradient.

    Args:
        summary: size of the summary of the canonical maps.
        members: networks whose quantiles are averaged, and moved outwards where members disagree (:data:`DISAGREEMENT`).
    """

    def __init__(self, summary: int, *, width: int = 512, members: int = 8) -> None:
        super().__init__()
        self.width, self.inputs_size = width, STATISTICS + summary
        self.register_buffer("centre", torch.zeros(self.inputs_size))
        self.register_buffer("scale", torch.ones(self.inputs_size))
        self.register_buffer("spread", torch.zeros(4))
        self.members = nn.ModuleList(_network(self.inputs_size, width, len(LEVELS)) for _ in range(members))
        self.gradient = _network(summary, 32, 1)

    def renewed(self, seed: int) -> CalibratedHead:
        """A head that nothing was fitted to yet, with the same gain of the gradient."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            head = CalibratedHead(self.inputs_size - STATISTICS, width=self.width, members=len(self.members))
        head.gradient = self.gradient
        return head

    def forward(self, statistics: Tensor, summary: Tensor) -> Tensor:
        """Quantiles ``(b, len(LEVELS))`` of the MI in nats, ascending, from 0 to ``LARGEST``."""
        members = self.scaled_quantiles(statistics, summary)
        apart = members[..., len(LEVELS) // 2].std(0, correction=0).unsqueeze(-1)
        outwards = torch.tensor(_NORMAL, device=apart.device, dtype=apart.dtype)
        return from_scale(members.mean(0) + DISAGREEMENT * apart * outwards).clamp(0, LARGEST)

    def scaled_quantiles(self, statistics: Tensor, summary: Tensor) -> Tensor:
        """Quantiles of every member on the scale that they are trained on, ``(members, b, len(LEVELS))``."""
        inputs = (self.inputs(statistics, summary) - self.centre) / self.scale
        raw = torch.stack([member(inputs.clamp(-8, 8)) for member in self.members])
        # From the middle outwards; steps are positive, so quantiles cannot cross.
        middle = len(LEVELS) // 2
        steps = F.softplus(raw - 2) * self.widening(statistics)
        centre = to_scale(statistics[:, :1].clamp(min=0)) + raw[..., middle : middle + 1]
        below = centre - steps[..., :middle].flip(-1).cumsum(-1).flip(-1)
        return torch.cat([below, centre, centre + steps[..., middle + 1 :].cumsum(-1)], dim=-1)

    def widening(self, statistics: Tensor) -> Tensor:
        """What intervals are widened by, ``(b, 1)``, a function of n and the dimensions; see pretraining."""
        return (size_features(statistics) @ self.spread).exp().unsqueeze(-1)

    def inputs(self, statistics: Tensor, summary: Tensor) -> Tensor:
        return torch.cat([torch.asinh(4 * statistics), summary], dim=-1)

    def gain(self, summary: Tensor) -> Tensor:
        """What the gradient of the bound is multiplied with so that its size is right on average, ``(b,)``."""
        return 1 / self.gradient_share(summary).clamp(0.2, 2.0)

    def gradient_share(self, summary: Tensor) -> Tensor:
        """Expected projection of the gradient of the bound on the true one, as a share of it, ``(b,)``."""
        return 1 + self.gradient(summary).squeeze(-1)


def size_features(statistics: Tensor) -> Tensor:
    """One, and the sizes that the widening is a function of, ``(b, 4)``."""
    size, log_dx, log_dy, _, ratio = statistics[:, SIZES].unbind(-1)
    return torch.stack([torch.ones_like(size), size, (log_dx + log_dy) / 2, ratio.clamp(max=2)], dim=-1)


def to_scale(mi: Tensor) -> Tensor:
    """The scale of the quantiles: relative errors count where the MI is large, absolute ones where it is small."""
    return torch.log(mi + 0.1)


def from_scale(value: Tensor) -> Tensor:
    return value.exp() - 0.1


def pinball_loss(
    quantiles: Tensor, truth: Tensor, weight: Tensor | None = None, levels: tuple[float, ...] | Tensor = LEVELS
) -> Tensor:
    """Mean pinball loss of quantiles ``(..., b, len(levels))`` of ``truth: (b,)`` on the same scale (Koenker & Bassett,
    1978), weighted by ``weight: (b,)``; a tensor of levels may differ between the truths."""
    error = truth.unsqueeze(-1) - quantiles
    level = torch.as_tensor(levels, device=quantiles.device)
    losses = torch.maximum(level * error, (level - 1) * error).mean(-1)
    return losses.mean() if weight is None else (losses * weight).mean()


def _network(inputs: int, width: int, outputs: int) -> nn.Sequential:
    last = nn.Linear(width, outputs)
    nn.init.normal_(last.weight, std=0.01)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), last)
