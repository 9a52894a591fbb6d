"""Canonical information: the mutual information of a Gaussian with the canonical correlations of the samples, in nats::

    I_c = -1/2 log det(I - M M^T),      M = (C_x + r I)^(-1/2) C_xy (C_y + r I)^(-1/2)

It is a lower bound of the mutual information where margins are Gaussian, and differentiable. The ridge ``r`` is a share of the
variance of every column, so that units do not matter, and grows with d / n: what samples cannot tell from noise is not rewarded.

The conditional information given z is that of what a linear regression on z leaves of x and of y: exactly I(x; y | z) of a
Gaussian, and zero where x and y depend on each other through z alone, and linearly.
"""

from __future__ import annotations

import torch
from torch import Tensor

RIDGE = 2.0
"""Times d / n, as a share of the variance of a column."""


LEFT = 1e-3
"""Share of the variance of a column: what z explains but for less is not rewarded any more."""


def canonical_information(x: Tensor, y: Tensor, given: Tensor | None = None) -> Tensor:
    """I_c of paired samples ``(b, n, dx), (b, n, dy)``, in nats, ``(b,)``; conditional on z ``(b, n, dz)``, if that is given."""
    n = x.shape[1]
    basis = None if given is None else _basis(given)
    (x, factor_x), (y, factor_y) = (_whitening(side, basis) for side in (x, y))
    cross = torch.linalg.solve_triangular(factor_x, x.mT @ y / n, upper=False)
    cross = torch.linalg.solve_triangular(factor_y, cross.mT, upper=False)  # (b, dy, dx)
    square = cross @ cross.mT if cross.shape[1] <= cross.shape[2] else cross.mT @ cross
    identity = torch.eye(square.shape[-1], dtype=square.dtype, device=square.device)
    # I - M M^T is positive definite: the ridge keeps all correlations below 1.
    return -torch.linalg.cholesky(identity - square).diagonal(dim1=-2, dim2=-1).log().sum(-1)


def _whitening(side: Tensor, basis: Tensor | None) -> tuple[Tensor, Tensor]:
    """Centred samples, less what is in the basis of z, and the Cholesky factor of their covariance with its ridge."""
    n, d = side.shape[1:]
    side, floor, free = _centred(side), 0.0, n
    if basis is not None:
        floor = LEFT * side.square().mean(1)
        side = side - (basis @ (basis.mT @ side.double())).to(side.dtype)
        free = max(n - basis.shape[2], 1)
    covariance = side.mT @ side / n
    variance = covariance.diagonal(dim1=-2, dim2=-1)
    ridge = variance * (RIDGE * d / free) + floor + (variance.detach() == 0)
    return side, torch.linalg.cholesky(covariance + torch.diag_embed(ridge))


def _basis(given: Tensor) -> Tensor:
    """Orthonormal columns ``(b, n, dz)`` that span z."""
    z = _centred(given.double())
    covariance = z.mT @ z
    tiny = 1e-9 * covariance.diagonal(dim1=-2, dim2=-1)
    factor = torch.linalg.cholesky(covariance + torch.diag_embed(tiny + (tiny.detach() == 0)))
    return torch.linalg.solve_triangular(factor, z.mT, upper=False).mT


def _centred(side: Tensor) -> Tensor:
    """In units in which the largest value of a column is 1, so that no square is too small for the number type."""
    side = side - side.mean(1, keepdim=True)
    return side / side.detach().abs().amax(1, keepdim=True).clamp(min=torch.finfo(side.dtype).tiny)
