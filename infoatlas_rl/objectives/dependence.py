"""Dependence that is to grow: canonical information, and a contrast where both sides share a space; differentiable.

Canonical information is the mutual information of a Gaussian with the canonical correlations of the batch, in nats, and a lower
bound of it where margins are Gaussian::

    I_c = -1/2 log det(I - M M^T),      M = (C_x + r I)^(-1/2) C_xy (C_y + r I)^(-1/2)

Its gradient goes through the whitening, so that directions of little variance count as much as others, which keeps a code from
collapsing. The ridge ``r`` grows with d / n: what a batch cannot tell from noise is not rewarded.

Canonical information is blind to invertible maps, but neighbours and linear probes are not. Two views in one space are
therefore also contrasted: InfoNCE with the cosine of x_i and y_j over all pairs of the batch (van den Oord et al., 2018), a lower
bound of the mutual information, of at most log n.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

RIDGE = 2.0
"""Times d / n, as a share of the mean variance of a side."""
TEMPERATURE = 0.2
BLOCK = 1024
"""Samples that are contrasted with each other, at most: the pairs of all would not fit into memory."""
CANONICAL_SHARE = 0.2
"""Of canonical information in the objective for views; the rest is the contrast."""


def dependence(x: Tensor, y: Tensor, *, views: bool) -> Tensor:
    """What is maximised, in nats, ``(b,)``, of paired samples ``(b, n, dx), (b, n, dy)``; ``views``: in one space, dx = dy."""
    canonical = canonical_information(x, y)
    return CANONICAL_SHARE * canonical + (1 - CANONICAL_SHARE) * contrast(x, y) if views else canonical


def canonical_information(x: Tensor, y: Tensor) -> Tensor:
    """I_c of the module docstring, in nats, ``(b,)``."""
    n = x.shape[1]
    (x, factor_x), (y, factor_y) = (_whitening(side) for side in (x, y))
    cross = torch.linalg.solve_triangular(factor_x, x.mT @ y / n, upper=False)
    cross = torch.linalg.solve_triangular(factor_y, cross.mT, upper=False)  # (b, dy, dx)
    square = cross @ cross.mT if cross.shape[1] <= cross.shape[2] else cross.mT @ cross
    identity = torch.eye(square.shape[-1], dtype=square.dtype, device=square.device)
    # I - M M^T is positive definite: the ridge keeps all correlations below 1.
    return -torch.linalg.cholesky(identity - square).diagonal(dim1=-2, dim2=-1).log().sum(-1)


def contrast(x: Tensor, y: Tensor) -> Tensor:
    """InfoNCE with cosines, both ways, in nats, ``(b,)``."""
    x, y = F.normalize(x, dim=-1), F.normalize(y, dim=-1)
    blocks = [_contrast(a, c) * (a.shape[1] / x.shape[1]) for a, c in zip(x.split(BLOCK, 1), y.split(BLOCK, 1), strict=True)]
    return torch.stack(blocks).sum(0)


def _contrast(x: Tensor, y: Tensor) -> Tensor:
    b, n = x.shape[:2]
    logits = x @ y.mT / TEMPERATURE
    own = torch.arange(n, device=x.device).expand(b, n)
    losses = [F.cross_entropy(t, own, reduction="none").mean(-1) for t in (logits, logits.mT)]
    return math.log(n) - (losses[0] + losses[1]) / 2


def _whitening(side: Tensor) -> tuple[Tensor, Tensor]:
    """Centred samples, and the Cholesky factor of their covariance with its ridge."""
    n, d = side.shape[1:]
    side = side - side.mean(1, keepdim=True)
    covariance = side.mT @ side / n
    level = covariance.diagonal(dim1=-2, dim2=-1).mean(-1) * (RIDGE * d / n) + torch.finfo(side.dtype).tiny ** 0.5
    ridge = level[:, None, None] * torch.eye(d, dtype=side.dtype, device=side.device)
    return side, torch.linalg.cholesky(covariance + ridge)
