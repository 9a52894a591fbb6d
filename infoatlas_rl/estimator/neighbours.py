"""Nearest-neighbour statistics of a data set: local information that global features miss.

The estimator of Kraskov, Stoegbauer & Grassberger (2004, algorithm 1), pointwise and in nats, with Euclidean distances
within each side::

    i(x_i, y_i) = psi(k) + psi(N) - psi(n_x + 1) - psi(n_y + 1)

where ``n_x`` counts the samples that are closer to x_i than the k-th neighbour of (x_i, y_i) is. Neighbours of some of the
samples only, by brute force: one matrix product, which below a few thousand samples beats a k-d tree. The time is that of
finding neighbours, and grows with their number: many of them are looked for around few samples only.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

NOISE = 1e-2
QUERIES, REFERENCE = 256, 2048
CHUNK = 128
"""Samples whose distances to all others are in the caches together."""


def pointwise_information(
    u: Tensor, v: Tensor, neighbours: tuple[int, ...], queries: int = QUERIES, reference: int = REFERENCE
) -> Tensor:
    """Pointwise MI in nats at the first ``queries`` of n samples ``u: (b, n, p), v: (b, n, q)``, for every number of
    neighbours: ``(len(neighbours), b, queries)``. Neighbours are looked for among the first ``reference`` samples."""
    generator = torch.Generator().manual_seed(0)
    # Noise breaks ties, as the authors advise; without it neighbours within an atom would not be defined.
    u, v = (
        t + NOISE * torch.randn(t.shape[1:], generator=generator, dtype=torch.float32).to(t)
        for t in (u[:, :reference], v[:, :reference])
    )
    n = u.shape[1]
    queries = min(n, queries)
    neighbours = tuple(min(k, n - 1) for k in neighbours)
    factors, counts = (_factors(u), _factors(v)), []
    for first in range(0, queries, CHUNK):
        sides = [_squared_distances(factor, first, min(first + CHUNK, queries)) for factor in factors]
        nearest = smallest(torch.maximum(*sides), max(neighbours))
        radii = [nearest[..., k - 1 : k] for k in neighbours]
        # Compared in place, to zeros and ones as numbers: adding up truth values takes six times as long.
        counts.append(torch.stack([torch.stack([d.clone().lt_(r).sum(-1) for d in sides]) for r in radii]))
    of_k = torch.digamma(torch.tensor(neighbours, dtype=torch.float32, device=u.device)).view(-1, 1, 1)
    return of_k + torch.digamma(torch.tensor(float(n))) - torch.digamma(torch.cat(counts, -1) + 1).sum(1)


def smallest(values: Tensor, k: int) -> Tensor:
    """The k smallest of the last dimension of ``(..., n)``, ascending, ``(..., k)``: those of `topk`, in less of its time.

    The n are split into groups; all of the k smallest are in the k groups whose smallest one is smallest.
    """
    n = values.shape[-1]
    size = 2 ** int(math.log2(max(n / k, 1)) / 2)
    if size > 1:
        groups = F.pad(values, (0, -n % size), value=math.inf).unflatten(-1, (size, -1))
        best = groups.amin(-2, keepdim=True).topk(k, dim=-1, largest=False, sorted=False).indices
        values = groups.gather(-1, best.expand(*best.shape[:-2], size, k)).flatten(-2)
    return values.topk(k, dim=-1, largest=False).values


def distance_correlation(u: Tensor, v: Tensor) -> Tensor:
    """Correlation of the distances among the first ``QUERIES`` samples after the means of rows and columns are taken away,
    ``(b,)`` (Szekely & Rizzo, 2013, without the bias of distances from a sample to itself); 0 on average for independent data."""
    sides = []
    for points in (u[:, :QUERIES], v[:, :QUERIES]):
        n = points.shape[1]
        distances = _squared_distances(_factors(points), 0, n).clamp(min=0).sqrt()
        distances.diagonal(dim1=-2, dim2=-1).zero_()
        row = distances.sum(-1, keepdim=True) / (n - 2)
        centred = distances - row - row.mT + distances.sum((-2, -1), keepdim=True) / ((n - 1) * (n - 2))
        centred.diagonal(dim1=-2, dim2=-1).zero_()
        sides.append(centred)
    a, b = sides
    return (a * b).sum((-2, -1)) * (a.square().sum((-2, -1)) * b.square().sum((-2, -1)) + 1e-12).rsqrt()


def _factors(points: Tensor) -> tuple[Tensor, Tensor]:
    """Matrices ``(b, n, p + 2)`` and ``(b, p + 2, n)`` whose product are the squared distances of samples ``(b, n, p)``."""
    square, one = points.square().sum(-1, keepdim=True), torch.ones_like(points[..., :1])
    return torch.cat([-2 * points, square, one], dim=-1), torch.cat([points, one, square], dim=-1).mT.contiguous()


def _squared_distances(factors: tuple[Tensor, Tensor], first: int, last: int) -> Tensor:
    """``(b, last - first, n)`` of these samples to all, but for rounding; infinite from a sample to itself."""
    distances = factors[0][:, first:last] @ factors[1]
    distances.diagonal(first, -2, -1).fill_(torch.inf)
    return distances
