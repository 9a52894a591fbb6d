"""Dependence that is to grow: canonical information, and a contrast where both sides share a space; differentiable.

Canonical information is that of the batch (:mod:`infoatlas_rl.estimator.information`). Its gradient goes through the whitening,
so that directions of little variance count as much as others, which keeps a code from collapsing.

Canonical information is blind to invertible maps, but neighbours and linear probes are not. Two views in one space are
therefore also contrasted: InfoNCE with the cosine of x_i and y_j over all pairs of the batch (van den Oord et al., 2018), a lower
bound of the mutual information, of at most log n.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from infoatlas_rl.estimator.information import canonical_information

TEMPERATURE = 0.2
BLOCK = 1024
"""Samples that are contrasted with each other, at most: the pairs of all would not fit into memory."""
CANONICAL_SHARE = 0.2
"""Of canonical information in the objective for views; the rest is the contrast."""


def dependence(x: Tensor, y: Tensor, *, views: bool) -> Tensor:
    """What is maximised, in nats, ``(b,)``, of paired samples ``(b, n, dx), (b, n, dy)``; ``views``: in one space, dx = dy."""
    canonical = canonical_information(x, y)
    return CANONICAL_SHARE * canonical + (1 - CANONICAL_SHARE) * contrast(x, y) if views else canonical


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
