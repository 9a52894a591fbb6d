"""Columns that follow exactly from the others of their side: copies, sums, differences, products, squares.

They say nothing new, and leaving them out changes no mutual information. What looks at them does not know that: ranks of a sum of
heavy tails or of a product are no linear function of the ranks of its terms, and count as further dependence.

A column is left out if it is a linear or quadratic function of those that are kept, found on some rows, and true of others.
"""

from __future__ import annotations

import torch
from torch import Tensor

ROWS = 1024
"""Rows on which functions are found, at most; all rows show whether they are true."""
PER_FUNCTION = 2
"""Rows for every coefficient of a function; with fewer only linear functions are looked for, or none."""
EXACT = 1e-9
"""Share of the variance of a column that rounding may leave."""


@torch.no_grad()
def without_derived(samples: Tensor) -> Tensor:
    """Samples ``(b, n, d)`` without the columns that follow from others, if they are the same ones in all data sets."""
    if samples.shape[2] == 1:
        return samples
    kept = _kept(samples[0])
    if len(kept) == samples.shape[2] or any(_kept(other) != kept for other in samples[1:]):
        return samples
    return samples[..., kept]


def _kept(samples: Tensor) -> list[int]:
    """Columns of samples ``(n, d)`` from which all others follow."""
    n, d = samples.shape
    everything, samples = list(range(d)), samples.double()
    samples = samples / samples.abs().amax(0).clamp(min=torch.finfo(samples.dtype).tiny)  # whose squares are finite
    two_valued = ((samples == samples.amax(0)) | (samples == samples.amin(0))).all(0)
    scale = samples.std(0, correction=0)
    columns = (samples - samples.mean(0)) / torch.where(scale > 0, scale, 1.0)
    some = columns[:: max(2, n // ROWS)]
    first, second = torch.triu_indices(d, d, device=samples.device).unbind(0)
    if PER_FUNCTION * (1 + d + len(first)) > len(some):
        first, second = first[:0], second[:0]
    if PER_FUNCTION * (1 + d) > len(some) or bool(two_valued.all()):
        return everything
    features = _features(some, first, second)
    size = features.square().mean(0).sqrt().clamp(min=1e-12)
    features = features / size
    moments = features.mT @ features / len(features)
    identity = torch.eye(len(moments), dtype=moments.dtype, device=moments.device)
    if int(torch.linalg.cholesky_ex(moments - 10 * EXACT * identity).info) == 0:
        return everything  # no feature is near a function of the others
    single = torch.eye(d, dtype=torch.bool, device=samples.device)
    made_of = torch.cat([torch.zeros_like(single[:1]), single, single[first] | single[second]])  # (features, d)
    features = _features(columns, first, second) / size
    kept = torch.ones(d, dtype=torch.bool, device=samples.device)
    for column in range(d - 1, -1, -1):
        if two_valued[column]:
            continue  # one of the columns of classes follows from the rest: these are always there
        kept[column] = False
        used = ~(made_of & ~kept).any(1)
        system, own = moments[used][:, used] + 0.01 * EXACT * identity[used][:, used], moments[used, 1 + column]
        function = torch.cholesky_solve(own.unsqueeze(1), torch.linalg.cholesky(system)).squeeze(1)
        if float(moments[1 + column, 1 + column] - own @ function) > 10 * EXACT:
            kept[column] = True
            continue
        target = features[:, 1 + column]
        left = features[:, used] @ function - target
        # In typical rows as well, for one row can have nearly all of the variance.
        exact = left.square().mean() <= EXACT * target.var() and left.abs().median() <= EXACT**0.5 * target.abs().median()
        kept[column] = not bool(exact)
    return kept.nonzero().squeeze(1).tolist()


def _features(columns: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """One, the columns, and products of them."""
    return torch.cat([torch.ones_like(columns[:, :1]), columns, columns[:, first] * columns[:, second]], 1)
