"""Stage 2, copula transform: every coordinate becomes a normal score.

Mutual information does not change when a coordinate goes through a strictly monotone map, so each coordinate is
replaced by ``z = Phi^-1(F_n(x))`` with the empirical distribution function ``F_n``: heavy tails, skew and scale are gone
before anything is learned (InfoAtlas, section 3.2).

Gradients. By the same invariance the map may be held fixed: ``F_n`` is treated as a constant, smooth function and
differentiated through its argument only. Forward uses exact mid-ranks; backward uses the slope of the map over a window
of neighbouring order statistics. Where that slope is too large for the number type, which it is for columns that vary
by less than about 1e-33 in single precision, it is taken as zero.
"""

from __future__ import annotations

import torch
from torch import Tensor


class NormalScores:
    """The copula map of one batch of data sets, fitted on its samples.

    Args:
        samples: ``(b, n, d)``. Ties receive the same (mid-)rank; a constant column becomes exactly zero.
    """

    def __init__(self, samples: Tensor) -> None:
        # (b, d, n): searchsorted wants the sorted axis last and contiguous.
        self.order = samples.detach().transpose(-1, -2).contiguous().sort(dim=-1)
        self.n = samples.shape[-2]

    def fit_scores(self, samples: Tensor) -> Tensor:
        """Normal scores of the samples that the map was fitted on, ``(b, n, d)``: exact ranks, and the smoothed slope of the
        same map as the derivative, in reverse and in forward mode."""
        sorted_scores = self._sorted_scores()
        scores = self._unsort(sorted_scores)
        if torch.is_grad_enabled():
            slopes = self._unsort(self._slopes(sorted_scores))
            return scores + slopes * (samples - samples.detach())
        return scores

    def scores(self, points: Tensor) -> Tensor:
        """Normal scores of new points ``(b, q, d)``, interpolated between the fitted samples; not differentiable."""
        sorted_x = self.order.values
        points = points.detach().to(sorted_x.dtype).transpose(-1, -2).contiguous()
        low, high = torch.searchsorted(sorted_x, points), torch.searchsorted(sorted_x, points, right=True)
        below = sorted_x.gather(-1, (low - 1).clamp(min=0))
        above = sorted_x.gather(-1, low.clamp(max=self.n - 1))
        gap = above / 2 - below / 2  # halves, for the difference of two large numbers may be infinite
        fraction = torch.where(gap > 0, (points / 2 - below / 2) / gap.clamp(min=torch.finfo(gap.dtype).tiny), 0.5)
        # A value that was seen sits at its mid-rank, a new one between its neighbours.
        offset = torch.where(low == high, fraction.clamp(0, 1) - 0.5, 0.0)
        return self._normal_quantile((low + high) / 2 + offset).transpose(-1, -2)

    def ties(self) -> tuple[Tensor, Tensor]:
        """Share of samples that equal another one, mean and largest over columns, ``(b,)``; constant columns do not count."""
        ties = (self.order.values.diff(dim=-1) == 0).float().mean(-1)
        varying = ties < 1
        ties = ties * varying
        return ties.sum(-1) / varying.sum(-1).clamp(min=1), ties.amax(-1)

    def _normal_quantile(self, position: Tensor) -> Tensor:
        u = (position.to(self.order.values.dtype) / self.n).clamp(0.5 / self.n, 1 - 0.5 / self.n)
        return torch.special.ndtri(u)

    def _sorted_scores(self) -> Tensor:
        """Of the order statistics; equal ones have the middle of the ranks that they take."""
        values = self.order.values
        differs = values[..., 1:] != values[..., :-1]
        ends = torch.ones_like(differs[..., :1])
        index = torch.arange(self.n, device=values.device).expand_as(values)
        first = torch.where(torch.cat([ends, differs], -1), index, 0).cummax(-1).values
        last = torch.where(torch.cat([differs, ends], -1), index, self.n).flip(-1).cummin(-1).values.flip(-1)
        return self._normal_quantile((first + last + 1) / 2)

    def _slopes(self, scores: Tensor) -> Tensor:
        """dz/dx at each order statistic, ``(b, d, n)``, over a window of about n^0.8 / 2 of them."""
        values = self.order.values
        half = max(1, round(0.5 * self.n**0.8 / 2))
        index = torch.arange(self.n, device=values.device)
        left, right = (index - half).clamp(min=0), (index + half).clamp(max=self.n - 1)
        run = values[..., right] - values[..., left]
        rise = scores[..., right] - scores[..., left]
        least = 1e4 * torch.finfo(run.dtype).tiny  # of what is divided by: leaves room for what the slopes are multiplied with
        floor = (1e-6 * (values[..., -1:] - values[..., :1])).clamp(min=least)
        return torch.where(run > floor, rise / run.clamp(min=least), 0.0)

    def _unsort(self, sorted_values: Tensor) -> Tensor:
        """From order statistics ``(b, d, n)`` to samples ``(b, n, d)``."""
        return sorted_values.scatter(-1, self.order.indices, sorted_values).transpose(-1, -2)
