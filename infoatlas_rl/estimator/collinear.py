"""Columns that nearly follow from others of their side, as the end of an interval beside its start.

Mutual information does not change when a side goes through an invertible linear map, but what looks at the ranks of single
columns sees of two columns that are nearly the same only what they have in common. So such a column is replaced by what a linear
regression on those before it leaves; but not where it is the same one in other units, as its logarithm.
"""

from __future__ import annotations

import torch
from torch import Tensor

ROWS, LEAST, MOST = 20, 0.01, 0.2
"""The rest takes the place of a column if its share of the variance is below ``ROWS / n``, but at least and at most so much: from
few samples ranks do not even show what two columns with a correlation of 0.9 differ in."""
ROUNDING = 1e3
"""Times the variance that rounding leaves, below which the rest is none."""


FUNCTION = 0.5
"""Coefficient from which on what is left is a function of another column, and says nothing."""
SOME = 2048
"""Rows that show whether there are such columns."""


@torch.no_grad()
def without_collinear(samples: Tensor) -> Tensor:
    """Samples ``(b, n, d)``, the nearly collinear columns of which are replaced, in double precision; others as they are."""
    n, d = samples.shape[1:]
    if d == 1 or n < 2 * d or not bool(_left(samples[:, :: -(-n // SOME)], n)[1].any()):
        return samples
    rest, near = _left(samples, n)
    return torch.where(near & ~_functions(samples, rest, near), rest, samples.double())


def _functions(samples: Tensor, rest: Tensor, near: Tensor) -> Tensor:
    """Of which columns the rest is a function of one column before: other units of it, as its logarithm. By the coefficient of
    Chatterjee (2021), which is 1 for functions and 0 for noise; ``(b, 1, d)``."""
    found = torch.zeros_like(near)
    n = samples.shape[1]
    for column in near.any(0)[0].nonzero().flatten().tolist():
        ranks = rest[..., column].argsort(dim=-1).argsort(dim=-1).double()
        for other in range(column):
            steps = ranks.gather(1, samples[..., other].argsort(dim=-1)).diff(dim=-1).abs().sum(-1)
            found[:, 0, column] |= 1 - 3 * steps / (n**2 - 1) > FUNCTION
    return found


def _left(samples: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """What the columns before leave of every column, up to a factor, and where that takes its place, ``(b, 1, d)``."""
    columns = samples.double()
    columns = columns / columns.abs().amax(1, keepdim=True).clamp(min=torch.finfo(columns.dtype).tiny)
    single = (samples.float() == samples).all(1, keepdim=True)  # numbers of single precision
    columns = columns - columns.mean(1, keepdim=True)
    scale = columns.square().mean(1, keepdim=True).sqrt()
    varies = scale > 0
    rounding = torch.where(single, torch.finfo(torch.float32).eps, torch.finfo(torch.float64).eps) / torch.where(
        varies, scale, 1.0
    )
    q, r = torch.linalg.qr(columns / torch.where(varies, scale, 1.0))
    share = r.diagonal(dim1=-2, dim2=-1).square().unsqueeze(1) / columns.shape[1]
    nothing = ROUNDING * columns.shape[2] * torch.where(varies, rounding, 0.0).square().amax(2, keepdim=True)
    return q, varies & (share > nothing) & (share < min(max(ROWS / n, LEAST), MOST))
