"""Nearest-neighbour statistics of a data set: local information that global features miss.

The estimator of Kraskov, Stoegbauer & Grassberger (2004, algorithm 1), pointwise and in nats, with Euclidean distances
within each side::

    i(x_i, y_i) = psi(k) + psi(N) - psi(n_x + 1) - psi(n_y + 1)

where ``n_x`` counts the samples that are closer to x_i than the k-th neighbour of (x_i, y_i) is. Neighbours of some of the
samples only, by brute force: one matrix product, which below a few thousand samples beats a k-d tree.
"""

from __future__ import annotations

import torch
from torch import Tensor

NOISE = 1e-2
QUERIES = 256
REFERENCE = 2048


def pointwise_information(u: Tensor, v: Tensor, neighbours: tuple[int, ...]) -> Tensor:
    """Pointwise MI in nats at the first ``QUERIES`` of n samples ``u: (b, n, p), v: (b, n, q)``, for every number of
    neighbours: ``(len(neighbours), b, queries)``. Neighbours are looked for among the first ``REFERENCE`` samples."""
    generator = torch.Generator().manual_seed(0)
    # Noise breaks ties, as the authors advise; without it neighbours within an atom would not be defined.
    u, v = (
        t + NOISE * torch.randn(t.shape[1:], generator=generator, dtype=torch.float32).to(t)
        for t in (u[:, :REFERENCE], v[:, :REFERENCE])
    )
    n = u.shape[1]
    queries = min(n, QUERIES)
    d_x, d_y = _squared_distances(u, queries), _squared_distances(v, queries)
    joint = torch.maximum(d_x, d_y)
    neighbours = tuple(min(k, n - 1) for k in neighbours)
    nearest = joint.topk(max(neighbours), dim=-1, largest=False).values
    out = []
    for k in neighbours:
        radius = nearest[..., k - 1 : k]
        counts = [(d < radius).sum(-1, dtype=torch.float32) for d in (d_x, d_y)]
        digamma = [torch.digamma(c + 1) for c in counts]
        out.append(torch.digamma(torch.tensor(float(k))) + torch.digamma(torch.tensor(float(n))) - digamma[0] - digamma[1])
    return torch.stack(out)


def distance_correlation(u: Tensor, v: Tensor) -> Tensor:
    """Correlation of the distances among the first ``QUERIES`` samples after the means of rows and columns are taken away,
    ``(b,)`` (Szekely & Rizzo, 2013, without the bias of distances from a sample to itself); 0 on average for independent data."""
    sides = []
    for points in (u[:, :QUERIES], v[:, :QUERIES]):
        n = points.shape[1]
        distances = _squared_distances(points, n).sqrt()
        distances.diagonal(dim1=-2, dim2=-1).zero_()
        row = distances.sum(-1, keepdim=True) / (n - 2)
        centred = distances - row - row.mT + distances.sum((-2, -1), keepdim=True) / ((n - 1) * (n - 2))
        centred.diagonal(dim1=-2, dim2=-1).zero_()
        sides.append(centred)
    a, b = sides
    return (a * b).sum((-2, -1)) * (a.square().sum((-2, -1)) * b.square().sum((-2, -1)) + 1e-12).rsqrt()


def _squared_distances(points: Tensor, queries: int) -> Tensor:
    """``(b, queries, n)``, infinite from a sample to itself."""
    square, one = points.square().sum(-1, keepdim=True), torch.ones_like(points[..., :1])
    asked = torch.cat([-2 * points, square, one], dim=-1)[:, :queries]
    distances = asked @ torch.cat([points, one, square], dim=-1).mT
    distances.clamp_(min=0).diagonal(dim1=-2, dim2=-1).fill_(torch.inf)
    return distances
