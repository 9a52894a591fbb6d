"""Dependence that is to grow: canonical information, and a contrast where both sides share a space; differentiable.

Canonical information is that of the batch (:mod:`infoatlas_rl.estimator.information`). Its gradient goes through the whitening,
so that directions of little variance count as much as others, which keeps a code from losing them.

Canonical information is blind to invertible maps, but neighbours and linear probes are not. Two views in one space are
therefore also contrasted: InfoNCE with the cosine of x_i and y_j, centred, over all pairs of the batch (van den Oord et al.,
2018), a lower bound of the mutual information, of at most log n. Of several temperatures the one is taken with which the bound
is largest; columns of little variance grow.
Canonical information of more than a quarter of log n weighs as if it was that: else the contrast, which cannot say more than
log n, would not be heard.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from infoatlas_rl.estimator.information import canonical_information

TEMPERATURES = (0.03, 0.05, 0.1, 0.2, 0.5)
TRIED_ON = 128
"""Samples of a batch, at most, that the temperature is chosen on."""
BLOCK = 1024
"""Samples that are contrasted with each other, at most: the pairs of all would not fit into memory."""
CANONICAL_SHARE = 0.2
"""Of canonical information in the objective for views; the rest is the contrast."""
MOST_CANONICAL = 0.25
"""Times log n: canonical information in nats, from which on its weight falls."""
NOTHING = 1e-12
"""Share of the largest number of a batch that has no direction."""
LARGE = 1e15
"""Samples beyond it are brought into another unit, which changes neither of the two: their squares might be infinite."""


def dependence(x: Tensor, y: Tensor, *, views: bool, given: Tensor | None = None) -> Tensor:
    """What is maximised, in nats, ``(b,)``, of paired samples ``(b, n, dx), (b, n, dy)``; ``views``: in one space, dx = dy. Given
    z, ``(b, n, dz)``, it is conditional and without a contrast."""
    x, y = _in_range(x), _in_range(y)
    canonical = canonical_information(x, y, None if given is None else _in_range(given))
    if given is not None or not views:
        return canonical
    most = MOST_CANONICAL * math.log(x.shape[1])
    weight = CANONICAL_SHARE * (most / canonical.detach().clamp(min=most))
    return weight * canonical + (1 - CANONICAL_SHARE) * contrast(x, y)


def _in_range(side: Tensor) -> Tensor:
    largest = side.detach().abs().amax((1, 2), keepdim=True)
    return side / torch.where(largest > LARGE, largest, 1.0)


def contrast(x: Tensor, y: Tensor) -> Tensor:
    """InfoNCE with cosines of centred samples, both ways, in nats, ``(b,)``."""
    x, y = (_directions(side - side.mean(1, keepdim=True)) for side in (x, y))
    blocks = [_contrast(a, c) * (a.shape[1] / x.shape[1]) for a, c in zip(x.split(BLOCK, 1), y.split(BLOCK, 1), strict=True)]
    return torch.stack(blocks).sum(0)


def _directions(side: Tensor) -> Tensor:
    """Samples of length 1; what is next to nothing beside the largest stays short, and where all is nothing the gradient is not
    huge."""
    largest = side.detach().abs().amax((1, 2), keepdim=True)
    return F.normalize(side / torch.where(largest > 0, largest, 1 / NOTHING), dim=-1, eps=NOTHING)


def _contrast(x: Tensor, y: Tensor) -> Tensor:
    cosines = x @ y.mT
    with torch.no_grad():
        tried = torch.stack([_bound(cosines[:, :TRIED_ON, :TRIED_ON] / t) for t in TEMPERATURES])
        temperature = torch.tensor(TEMPERATURES, device=x.device, dtype=x.dtype)[tried.argmax(0)]
    return _bound(cosines / temperature.view(-1, 1, 1))


def _bound(logits: Tensor) -> Tensor:
    """InfoNCE both ways, ``(b, n, n)`` to ``(b,)``, in nats."""
    normaliser = (logits.logsumexp(-1) + logits.logsumexp(-2)).mean(-1) / 2
    return logits.diagonal(dim1=-2, dim2=-1).mean(-1) - normaliser + math.log(logits.shape[-1])
