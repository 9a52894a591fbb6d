"""Families of the atlas whose density ratio is a table: checkerboards of cells, and counts."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from infoatlas_rl.pretraining.flows import uniform

LogRatio = Callable[[Tensor, Tensor], Tensor]
"""Points ``(N, dx), (N, dy)``, before any flow, to the log density ratio ``(N,)`` of the pairs."""

Sampled = tuple[Tensor, Tensor, LogRatio]

LEVELS = 48
"""Most values of a count."""


def checkerboard(total: int, dx: int, dy: int, g: torch.Generator) -> Sampled:
    """Independent pairs of coordinates, some of them with a piecewise constant joint density on the unit square.

    Discrete values sit in the middle of their cell; rounded ones on a finer grid, which keeps the MI: within a cell x and
    y are independent.
    """
    active = 1 + int(min(dx, dy, 8) * uniform(g))
    style = uniform(g)
    discrete, rounded = style < 0.3, 0.3 <= style < 0.45
    x, y = torch.rand(total, dx, generator=g), torch.rand(total, dy, generator=g)
    grain = 1 + int(4 * uniform(g))
    tables = []
    for pair in range(active):
        rows, columns = (2 + int((3 if discrete else 40) * uniform(g) ** 2) for _ in range(2))
        tables.append(random_table(rows, columns, g))
        for side, index, size in zip((x, y), _cells(tables[-1], total, g), (rows, columns), strict=True):
            within = torch.full((total,), 0.5) if discrete else side[:, pair]
            if rounded:
                within = ((within * grain).floor() + 0.5) / grain
            side[:, pair] = (index + within.clamp(1e-3, 1 - 1e-3)) / size
    return x, y, _log_ratio_of_tables(tables)


def counts(total: int, dx: int, dy: int, g: torch.Generator) -> Sampled:
    """Independent pairs of counts, of one law in half of the problems; on the other coordinates nothing depends."""
    pairs = min(dx, dy)
    active = pairs if uniform(g) < 0.5 else 1 + int(pairs * uniform(g))
    alike = uniform(g) < 0.5
    tables: list[Tensor] = []
    columns: tuple[list[Tensor], list[Tensor]] = ([], [])
    for pair in range(max(dx, dy)):
        table = tables[0] if alike and pair else count_table(g)
        if pair >= active:
            table = table.sum(1, keepdim=True) * table.sum(0, keepdim=True)
        tables.append(table)
        for side, index, size in zip(columns, _cells(table, total, g), table.shape, strict=True):
            side.append((index + 0.5) / size)
    return torch.stack(columns[0][:dx], 1), torch.stack(columns[1][:dy], 1), _log_ratio_of_tables(tables[:pairs])


def _cells(table: Tensor, total: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Row and column ``(total,)`` of samples of a joint probability table."""
    cell = torch.multinomial(table.flatten(), total, replacement=True, generator=g)
    return cell // table.shape[1], cell % table.shape[1]


def _log_ratio_of_tables(tables: list[Tensor]) -> LogRatio:
    """Of as many pairs of coordinates as there are tables; a coordinate is within 0 and 1, all cells of a table equally wide."""
    logs = [torch.log(t / (t.sum(1, keepdim=True) * t.sum(0, keepdim=True)) + 1e-12).clamp(min=-20) for t in tables]

    def log_ratio(x: Tensor, y: Tensor) -> Tensor:
        parts = []
        for pair, table in enumerate(logs):
            i, j = ((side[:, pair] * size).long().clamp(0, size - 1) for side, size in zip((x, y), table.shape, strict=True))
            parts.append(table[i, j])
        return torch.stack(parts).sum(0)

    return log_ratio


def count_table(g: torch.Generator) -> Tensor:
    """A joint probability table of two counts, or labels in order, of a kind that users know: what they share and what they do
    not, a share that is seen again, a rate, an error of reading, rounded Gaussian numbers."""
    kind = uniform(g)
    if kind < 0.4:
        law = uniform(g)
        table = sum_table(*(_law(law, 0.2 + 6 * uniform(g) ** 2, LEVELS // 2, g) for _ in range(3)))
    elif kind < 0.75:
        of_x, k = _law(uniform(g), 0.5 + 7 * uniform(g), LEVELS // 2, g), torch.arange(LEVELS, dtype=torch.float32)
        x = k[: LEVELS // 2].unsqueeze(1)
        if kind < 0.6:  # every one of x is counted in y, or not
            share = 0.1 + 0.85 * uniform(g)
            chance = _binomial(x, share, k)
        else:
            rate = (x + 0.2) * (0.2 + 1.5 * uniform(g)) ** (0.3 + 0.7 * uniform(g))
            chance = (k * rate.log() - rate - torch.lgamma(k + 1)).exp()
        table = of_x.unsqueeze(1) * chance
    elif kind < 0.9:
        levels = 2 + int(5 * uniform(g))
        error = 0.02 + 0.9 * uniform(g)
        of_x = torch.rand(levels, generator=g) ** (2 * uniform(g))
        table = of_x.unsqueeze(1) * ((1 - error) * torch.eye(levels) + error / levels)
    else:
        levels, rho = 3 + int(14 * uniform(g)), 0.1 + 0.85 * uniform(g)
        z = torch.linspace(-2.2, 2.2, levels)
        table = (-(z.unsqueeze(1).square() - 2 * rho * z.unsqueeze(1) * z + z.square()) / (2 - 2 * rho**2)).exp()
    seen = table.sum(1) > 1e-9, table.sum(0) > 1e-9
    table = table[seen[0]][:, seen[1]] + 1e-12
    return table / table.sum()


def sum_table(shared: Tensor, of_x: Tensor, of_y: Tensor) -> Tensor:
    """Joint probabilities ``(2 k, 2 k)`` of c + a and c + b, of those of c, a and b, ``(k,)`` each."""
    levels = len(shared)
    own = torch.arange(2 * levels) - torch.arange(levels).unsqueeze(1)  # (c, x): what is left of x
    given = [torch.where((own >= 0) & (own < levels), law[own.clamp(0, levels - 1)], 0.0) for law in (of_x, of_y)]
    return (shared.unsqueeze(1) * given[0]).mT @ given[1]


def _law(kind: float, mean: float, levels: int, g: torch.Generator) -> Tensor:
    """Poisson, binomial or negative binomial probabilities of 0 to ``levels - 1``."""
    k = torch.arange(levels, dtype=torch.float32)
    if kind < 0.45:
        log_mass = k * math.log(mean) - torch.lgamma(k + 1)
    elif kind < 0.75:
        trials = 1 + int(10 * uniform(g) ** 2)
        return _binomial(torch.tensor([[float(trials)]]), 0.1 + 0.8 * uniform(g), k)[0]
    else:
        shape = 0.5 + 4 * uniform(g)
        log_mass = torch.lgamma(k + shape) - torch.lgamma(k + 1) + k * math.log(mean / (mean + shape))
    return log_mass.softmax(0)


def _binomial(trials: Tensor, share: float, k: Tensor) -> Tensor:
    """Probabilities ``(t, levels)`` of counts k out of so many trials ``(t, 1)``."""
    ways = torch.lgamma(trials + 1) - torch.lgamma(k + 1) - torch.lgamma((trials - k).clamp(min=0) + 1)
    return torch.where(k <= trials, ways + k * math.log(share) + (trials - k) * math.log1p(-share), -torch.inf).exp()


def random_table(rows: int, columns: int, g: torch.Generator) -> Tensor:
    """A joint probability table: smooth, banded or random, possibly with empty cells."""
    kind = uniform(g)
    if kind < 0.4:
        width = 0.05 + 0.5 * uniform(g)
        grid_x = (torch.arange(rows) + 0.5) / rows
        grid_y = (torch.arange(columns) + 0.5) / columns
        centre = torch.sin(2 * math.pi * (uniform(g) * 1.5 * grid_x + uniform(g))) * 0.5 + 0.5 if uniform(g) < 0.5 else grid_x
        table = torch.exp(-0.5 * ((grid_y - centre.unsqueeze(1)) / width) ** 2)
        table = torch.where(table < 0.3, 0.0, table) if uniform(g) < 0.5 else table
    else:
        table = torch.rand(rows, columns, generator=g) ** (0.3 + 6 * uniform(g))
        if uniform(g) < 0.5:
            table = table * (torch.rand(rows, columns, generator=g) < 0.3 + 0.7 * uniform(g))
    table = table + 1e-4 * uniform(g)
    return (table + 1e-9) / (table + 1e-9).sum()
