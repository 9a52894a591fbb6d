"""Discrete sides: the entropy of one is the most information that anything can have about it, and equal rows stay equal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import NamedTuple

import torch
from torch import Tensor

from infoatlas_rl.transforms import fixed

SAMPLES_PER_VALUE = 8
"""Below so many samples for every different row, the entropy of the samples says little about that of their distribution."""


COPIES = 0.98
"""Where two sides have so many of the different rows that all have together, equal rows are copies."""


class RowEntropy(NamedTuple):
    """Of the rows of data sets, ``(b,)`` each."""

    entropy: Tensor  # nats
    kinds: Tensor  # how many rows are different
    spread: Tensor  # standard deviation of -log p over the rows: that of the entropy is this over sqrt(n)


def row_entropy(rows: Tensor) -> RowEntropy:
    """Entropy of samples ``(b, n, d)`` as if their rows were values of a discrete variable, with the correction of Miller
    and Madow for its bias. Where all are different it is log n."""
    n = rows.shape[1]
    begins, index, start = _runs(row_numbers(rows).sort(-1).values, 1e-9)
    ends = torch.cat([begins[:, 1:], begins[:, :1]], -1)
    # At the last of equal rows, how many they are.
    counts = torch.where(ends, index - start + 1, 1).double()
    kinds = begins.sum(-1)
    mean = (counts * counts.log()).sum(-1) / n
    variance = (counts * counts.log().square()).sum(-1) / n - mean.square()
    correction = torch.where(kinds < n, (kinds - 1) / (2 * n), 0.0)
    entropy = (math.log(n) - mean + correction).clamp(min=0.0)  # of a constant it is 0 but for rounding
    return RowEntropy(entropy.to(rows), kinds, variance.clamp(min=0.0).sqrt().to(rows))


def most_information(entropies: Sequence[RowEntropy], n: int, levels: Sequence[float]) -> Tensor:
    """Upper limits of quantiles of the MI, ``(b, len(levels))``: the same quantiles of the entropy of a discrete side, as n
    samples know it, or infinity; of two such sides the smaller ones. None is above the logarithm of the number of values.

    Args:
        entropies: what :func:`row_entropy` returned for both sides of n samples.
    """
    z = torch.tensor([NormalDist().inv_cdf(level) for level in levels]).to(entropies[0].entropy)
    limits = []
    for entropy, kinds, spread in (tuple(t.unsqueeze(-1) for t in of_side) for of_side in entropies):
        # Of values that are equally frequent the spread is 0, and the entropy of samples is off by about its bias.
        limit = entropy + z * spread / math.sqrt(n) + torch.where(z > 0, (kinds - 1) / (2 * n), 0.0)
        limit = torch.minimum(limit.clamp(min=0.0), kinds.to(limit).log())
        limits.append(torch.where(kinds * SAMPLES_PER_VALUE <= n, limit, math.inf))
    return torch.minimum(*limits)


def first_equal(rows: Tensor) -> Tensor:
    """Of every row of samples ``(b, n, d)`` the place of one that is equal to it, ``(b, n)``: the same of all equal ones."""
    numbers, order = row_numbers(rows.detach()).sort(dim=-1, stable=True)
    _, index, start = _runs(numbers, 1e-12 * numbers.abs().amax(-1, keepdim=True))
    first = torch.zeros_like(index).scatter(-1, order, order.gather(-1, start))
    same = (rows == rows.gather(1, first.unsqueeze(-1).expand_as(rows))).all(-1)
    return torch.where(same, first, index)


def distinct_rows(*sides: Tensor) -> Tensor | None:
    """Which rows of a data set of several sides ``(n, d)`` are no copies of others, ``(n,)``, as a bootstrap or a join makes
    them. None where all of them are none, or where equal rows are values of discrete variables: these come often, or without the
    other sides being equal, or are multiples of one number, as integers and what was rounded are."""
    n, rows = len(sides[0]), torch.cat(sides, dim=1)[None]
    numbers = row_numbers(rows).sort(-1).values
    if bool((numbers.diff(dim=-1) > 1e-12 * numbers.abs().amax()).all()):
        return None
    index = torch.arange(n, device=rows.device)
    distinct = first_equal(rows)[0] == index
    kinds = int(distinct.sum())
    if kinds == n or kinds * SAMPLES_PER_VALUE <= n:
        return None
    continuous = 0
    for side in sides:
        alone = int((first_equal(side[None])[0] == index).sum())
        continuous += alone >= COPIES * kinds and not on_a_grid(side)
        if continuous == 2:
            return distinct
    return None


def on_a_grid(side: Tensor) -> bool:
    """Whether the values of all columns of ``(n, d)`` are multiples of one number apart."""
    for column in side.T:
        gaps = column.double().unique().diff()
        steps = gaps / gaps.min() if len(gaps) else gaps
        if bool(((steps - steps.round()).abs() > 0.01).any()):
            return False
    return True


def with_equal_rows(projected: Tensor, rows: Tensor) -> Tensor:
    """Samples ``(b, n, k)`` that are equal where the rows ``(b, n, d)`` are that they were computed from; a matrix product makes
    them differ in the last digit, by their place, and ranks would take that for dependence."""
    chosen = projected.detach().gather(1, first_equal(rows).unsqueeze(-1).expand_as(projected))
    return projected + (chosen - projected.detach())


def _runs(ordered: Tensor, tolerance: float | Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of numbers ``(b, n)`` in their order: whether one is no longer equal to the one before, its place, and the place of the
    first of those equal to it."""
    index = torch.arange(ordered.shape[1], device=ordered.device).expand(ordered.shape)
    apart = ordered.diff(dim=-1) > tolerance
    begins = torch.cat([torch.ones_like(index[:, :1], dtype=torch.bool), apart], -1)
    return begins, index, torch.where(begins, index, 0).cummax(-1).values


def row_numbers(rows: Tensor) -> Tensor:
    """Rows of ``(b, n, d)`` as numbers, ``(b, n)``: equal rows give equal numbers but for rounding, different ones almost
    surely do not."""
    return rows.double() @ _direction(rows.shape[2]).to(rows.device)


@fixed
def _direction(columns: int) -> Tensor:
    return torch.randn(columns, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
