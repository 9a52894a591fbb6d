"""Sides of many dimensions: informative projections in the place of random slices.

Random slices miss what few of many columns share. Here some of the rows show which projections carry information, and the others
how much: functions of x and of y that were chosen on other rows cannot have more information in expectation than x and y
themselves (data processing), so the result is a lower bound by construction. Both parts of the rows take either role.

Three kinds of projections are looked for, on normal scores; of all those are kept that are correlated on rows held out::

    linear       canonical variates with a ridge
    columns      of which one, its square or a product of two is correlated with one of the other side
    nonlinear    outputs of two small networks, trained to maximise the canonical information of each other (deep CCA, Andrew et
                 al., ICML 2013) until it no longer grows on the rows held out

What is nonlinear is often a function of what is linear: the square of a canonical variate is correlated with that of its partner,
and says nothing new. So it is kept only where a critic finds more information with it than without.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from infoatlas_rl.estimator.copula import NormalScores
from infoatlas_rl.estimator.discrete import with_equal_rows
from infoatlas_rl.estimator.information import canonical_information

LINEAR, COLUMNS, NONLINEAR = 6, 8, 6
"""Most projections of a kind; together what the network takes."""
CANDIDATES = 24
"""Pairs of a column, a square or a product and a column, the most correlated ones, that are looked at on rows held out."""
MOST_PRODUCTS = 20_000
RIDGES = (0.01, 0.1, 1.0, 10.0)
"""Of the linear analysis, as shares of the mean variance; the best one on rows held out is taken."""
WIDTH, STEPS, BATCH, RATE, DECAY = 64, 200, 512, 3e-3, 1e-2
LOOK_EVERY, PATIENCE = 20, 4
THRESHOLD = 2.5
"""Correlation on m rows held out that a projection is kept for, times m^(-1/2)."""

Map = Callable[[Tensor], Tensor]
Worth = Callable[[Tensor, Tensor], float]
"""Information in nats of samples ``(n, k), (n, l)``."""


class Projections:
    """Informative projections of x and y, found on samples ``(n, dx), (n, dy)``; apply them with :meth:`x` and :meth:`y`.

    Args:
        limit: a side with at most so many columns is left as it is.
        seed: of the networks to begin with.
        worth: decides, on the rows held out, whether nonlinear projections are kept; without, all of them are.
    """

    def __init__(self, x: Tensor, y: Tensor, limit: int, seed: int = 0, worth: Worth | None = None) -> None:
        self._scores = NormalScores(x[None]), NormalScores(y[None])
        self._whole = x.shape[1] <= limit, y.shape[1] <= limit
        with torch.no_grad():
            z_x, z_y = (s.fit_scores(side[None])[0].float() for s, side in zip(self._scores, (x, y), strict=True))
        # A value that these rows do not have, as a class of others, is none of what was found here.
        self._varies = tuple((z != z[:1]).any(0) for z in (z_x, z_y))
        held = max(len(z_x) // 4, 8)
        self._maps: tuple[list[Map], list[Map]] = ([], [])
        for find in (_linear, _columns, _nonlinear):
            seen = tuple(
                torch.cat([torch.ones_like(z[:, :1]), *(m(z) for m in maps)], 1) for z, maps in zip((z_x, z_y), self._maps)
            )
            for maps, found in zip(self._maps, find(z_x, z_y, seen, held, seed), strict=True):
                maps.append(found)
        if worth is not None:
            self._drop_nonlinear_unless_worth(x[-held:], y[-held:], worth)

    def _drop_nonlinear_unless_worth(self, x: Tensor, y: Tensor, worth: Worth) -> None:
        """By samples that no network was trained on."""
        everything = self.x(x), self.y(y)
        nonlinear = [maps.pop() for maps in self._maps]
        without = self.x(x), self.y(y)
        wider = sum(side.shape[1] for side in everything) > sum(side.shape[1] for side in without)
        if wider and worth(*everything) > worth(*without):
            for maps, found in zip(self._maps, nonlinear, strict=True):
                maps.append(found)

    def x(self, samples: Tensor) -> Tensor:
        """Projections ``(n, k)`` of samples ``(n, dx)``."""
        return self._project(samples, 0)

    def y(self, samples: Tensor) -> Tensor:
        """Projections ``(n, k)`` of samples ``(n, dy)``."""
        return self._project(samples, 1)

    @torch.no_grad()
    def _project(self, samples: Tensor, side: int) -> Tensor:
        if self._whole[side]:
            return samples
        z = self._scores[side].scores(samples[None])[0].float() * self._varies[side]
        projected = torch.cat([project(z) for project in self._maps[side]], dim=1)
        return with_equal_rows(projected[None], z[None])[0]


@torch.no_grad()
def _linear(z_x: Tensor, z_y: Tensor, seen: tuple[Tensor, Tensor], held: int, seed: int) -> tuple[Map, Map]:
    """Canonical variates with the ridge whose variates are most correlated on the last ``held`` rows; at least one."""
    best, chosen = -math.inf, (0.0, 1)
    for ridge in RIDGES:
        a, b = canonical_maps(z_x[:-held], z_y[:-held], ridge, LINEAR)
        found = _correlations(z_x[-held:] @ a, z_y[-held:] @ b)
        value = float(found.clamp(min=0).square().sum())
        if value > best:
            best, chosen = value, (ridge, max(_significant(found, held), 1))
    ridge, count = chosen
    a, b = canonical_maps(z_x, z_y, ridge, count)
    return (lambda z: z @ a), (lambda z: z @ b)


@torch.no_grad()
def _columns(z_x: Tensor, z_y: Tensor, seen: tuple[Tensor, Tensor], held: int, seed: int) -> tuple[Map, Map]:
    """Columns of both sides that are correlated, themselves, squared or multiplied with one of their own side, beyond what was
    seen of that side."""
    chosen: tuple[list[int], list[int]] = ([], [])
    found = [(*pair, 0) for pair in _screened(z_x, z_y, seen[0], held)]
    found += [(*pair, 1) for pair in _screened(z_y, z_x, seen[1], held)]
    for _, own, other, flipped in sorted(found, key=lambda pair: -pair[0]):
        for side, columns in ((flipped, own), (1 - flipped, [other])):
            new = [column for column in columns if column not in chosen[side]]
            if len(chosen[side]) + len(new) <= COLUMNS:
                chosen[side].extend(new)
    return (lambda z: z[:, chosen[0]]), (lambda z: z[:, chosen[1]])


def _screened(x: Tensor, y: Tensor, seen: Tensor, held: int) -> list[tuple[float, list[int], int]]:
    """Correlation on rows held out, columns of x, and the column of y, of pairs that are correlated there."""
    d = x.shape[1]
    first, second = torch.triu_indices(d, d).unbind(0) if d * (d + 1) // 2 <= MOST_PRODUCTS else (torch.arange(d),) * 2
    best: list[tuple[float, list[int], int]] = []
    y = _left(y, seen, held)
    known, unseen = (_standard(t) for t in (y[:-held], y[-held:]))
    for kind, (i, j) in enumerate(((torch.arange(d), torch.arange(d)), (first, second))):
        i, j = i.to(x.device), j.to(x.device)
        features = _left(x[:, i] if kind == 0 else x[:, i] * x[:, j], seen, held)
        correlations = _standard(features[:-held]).mT @ known
        index = correlations.abs().flatten().topk(min(CANDIDATES, correlations.numel())).indices
        rows, columns = index // y.shape[1], index % y.shape[1]
        again = (_standard(features[-held:][:, rows]) * unseen[:, columns]).sum(0) * correlations.flatten()[index].sign()
        for r, row, column in zip(again.tolist(), rows.tolist(), columns.tolist(), strict=True):
            if r > THRESHOLD / math.sqrt(held):
                best.append((r, sorted({int(i[row]), int(j[row])}), column))
    return best


def _left(t: Tensor, seen: Tensor, held: int) -> Tensor:
    """What is left of columns ``(n, k)`` when a linear map of what was seen is taken away, fitted without the rows held out."""
    moment = seen[:-held].mT @ seen[:-held]
    moment = moment + 1e-4 * moment.diagonal().mean() * torch.eye(len(moment), dtype=moment.dtype, device=moment.device)
    return t - seen @ torch.linalg.solve(moment, seen[:-held].mT @ t[:-held])


def _standard(t: Tensor) -> Tensor:
    """Columns of mean 0 and length 1."""
    return F.normalize(t - t.mean(0), dim=0)


def canonical_maps(x: Tensor, y: Tensor, ridge: float, count: int) -> tuple[Tensor, Tensor]:
    """Maps ``(dx, k), (dy, k)`` of centred samples to leading canonical variates; there may be more columns than samples."""
    sides = []
    for side in (x, y):
        u, s, v = torch.linalg.svd(side / math.sqrt(len(side)), full_matrices=False)
        level = ridge * float(s.square().sum() / side.shape[1]) + 1e-6
        weight = s / (s.square() + level).sqrt()
        sides.append((u * weight, v.mT / (s.square() + level).sqrt()))
    left, _, right = torch.linalg.svd(sides[0][0].mT @ sides[1][0])
    k = min(count, left.shape[0], right.shape[0])
    return sides[0][1] @ left[:, :k], sides[1][1] @ right[:k].mT


def _nonlinear(z_x: Tensor, z_y: Tensor, seen: tuple[Tensor, Tensor], held: int, seed: int) -> tuple[Map, Map]:
    """Networks that maximise canonical information of each other, and the canonical variates of their outputs."""
    generator = torch.Generator().manual_seed(seed)
    weights = [w for d in (z_x.shape[1], z_y.shape[1]) for w in _network(d, generator)]
    weights = [w.to(z_x.device).requires_grad_() for w in weights]
    half = len(weights) // 2
    optimizer = torch.optim.AdamW(weights, RATE, weight_decay=DECAY)
    known = len(z_x) - held
    best, kept, since = -math.inf, weights, 0
    with torch.enable_grad():
        for step in range(STEPS + 1):
            if step % LOOK_EVERY == 0:
                with torch.no_grad():
                    f, g = _apply(weights[:half], z_x), _apply(weights[half:], z_y)
                    a, b = canonical_maps(*((t - t.mean(0))[:known] for t in (f, g)), 0.1, NONLINEAR)
                    found = _correlations(f[known:] @ a, g[known:] @ b)
                value = float(found.clamp(min=0).square().sum())
                since = 0 if value > best else since + 1
                if value > best:
                    best, kept = value, [w.detach().clone() for w in weights]
                if since >= PATIENCE:
                    break
            rows = torch.randint(known, (min(BATCH, known),), generator=generator).to(z_x.device)
            f, g = _apply(weights[:half], z_x[rows]), _apply(weights[half:], z_y[rows])
            optimizer.zero_grad()
            (-canonical_information(f[None], g[None])).sum().backward()
            optimizer.step()
    with torch.no_grad():
        f, g = _apply(kept[:half], z_x), _apply(kept[half:], z_y)
        centres = f.mean(0), g.mean(0)
        a, b = canonical_maps((f - centres[0])[:known], (g - centres[1])[:known], 0.1, NONLINEAR)
        # Beyond what was seen of either side.
        p, q = (f - centres[0]) @ a, (g - centres[1]) @ b
        beyond = [_correlations(*(_left(t, side, held)[known:] for t in (p, q))) for side in seen]
        new = torch.minimum(*beyond) > THRESHOLD / math.sqrt(held)
        a, b = a[:, new], b[:, new]
    return (lambda z: (_apply(kept[:half], z) - centres[0]) @ a), (lambda z: (_apply(kept[half:], z) - centres[1]) @ b)


def _network(d: int, generator: torch.Generator) -> list[Tensor]:
    sizes = (d, WIDTH, WIDTH, NONLINEAR)
    weights = []
    for inputs, outputs in pairwise(sizes):
        weight = torch.randn(outputs, inputs, generator=generator, dtype=torch.float32) * math.sqrt(2 / inputs)
        weights += [weight, torch.zeros(outputs, dtype=torch.float32)]
    return weights


def _apply(weights: list[Tensor], z: Tensor) -> Tensor:
    first, bias, second, second_bias, out, out_bias = weights
    h = F.silu(F.linear(z, first, bias))
    return F.linear(F.silu(F.linear(h, second, second_bias)), out, out_bias)


def _correlations(a: Tensor, b: Tensor) -> Tensor:
    """Of paired columns, ``(k,)``."""
    return (_standard(a) * _standard(b)).sum(0)


def _significant(correlations: Tensor, held: int) -> int:
    """How many leading projections are to be kept."""
    return int((correlations > THRESHOLD / math.sqrt(held)).sum())
