"""Information of pairs of scalars on a grid of ranks: coarse, but with less noise than neighbours, and cheap at any n."""

from __future__ import annotations

import torch
from torch import Tensor


def grid_information(a: Tensor, b: Tensor, bins: tuple[int, ...]) -> Tensor:
    """Plug-in MI in nats of paired columns ``a, b: (batch, n, k)`` on grids of equally filled rows and columns, less its bias
    under independence, (m - 1)^2 / 2n with m of them (Miller & Madow): ``(len(bins), batch, k)``."""
    n = a.shape[1]
    ranks = [_ranks(side) for side in (a, b)]
    out = []
    for m in bins:
        x, y = (rank * m // n for rank in ranks)
        cell = x * m + y
        counts = torch.zeros(a.shape[0], m * m, a.shape[2], device=a.device)
        counts.scatter_add_(1, cell, torch.ones_like(cell, dtype=counts.dtype))
        p = (counts / n).unflatten(1, (m, m))
        independent = p.sum(2, keepdim=True) * p.sum(1, keepdim=True)
        information = (p * (p.clamp(min=1e-12) / independent.clamp(min=1e-12)).log()).sum((1, 2))
        out.append(information - (m - 1) ** 2 / (2 * n))
    return torch.stack(out)


def _ranks(columns: Tensor) -> Tensor:
    """Ranks from 0 of every column ``(b, n, k)``; equal values are in the order of the samples."""
    order = columns.sort(dim=1, stable=True).indices
    places = torch.arange(columns.shape[1], device=columns.device).view(1, -1, 1).expand_as(order)
    return torch.empty_like(order).scatter_(1, order, places)
