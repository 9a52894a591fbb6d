"""Stage 3, canonical coordinates: linear, then nonlinear canonical correlation analysis (CCA).

MI is invariant under invertible linear maps of x and of y. Whitening both sides and rotating to canonical variates
(Hotelling, 1936) therefore loses nothing and leaves one tidy family of inputs::

    cov(u) = I,   cov(v) = I,   cov(u, v) = diag(rho),   rho_1 >= rho_2 >= ... >= 0

The same analysis on learned features f(u), g(v) of each side, with a ridge L, finds the pairs of nonlinear functions
that are most correlated: the leading singular functions of the density ratio (Hirschfeld, Gebelein, Renyi)::

    p(x, y) / (p(x) p(y)) - 1  ~  f(x)^T T g(y),   T = (F + L)^-1 C (G + L)^-1        (F, G, C: second moments)

They unroll curved dependences before the critic sees them. Both maps are data-dependent first layers in closed form,
and both are held fixed when gradients are taken.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from infoatlas_rl.layers import SideNetwork


class LinearCanonical(NamedTuple):
    """Affine maps to canonical coordinates: ``u = (z_x - mean_x) @ map_x``, likewise y, and the correlations rho."""

    mean_x: Tensor  # (b, 1, dx)
    mean_y: Tensor  # (b, 1, dy)
    map_x: Tensor  # (b, dx, dx)
    map_y: Tensor  # (b, dy, dy)
    rho: Tensor  # (b, min(dx, dy)), descending, in [0, 1]

    def x(self, z_x: Tensor) -> Tensor:
        return (z_x - self.mean_x) @ self.map_x

    def y(self, z_y: Tensor) -> Tensor:
        return (z_y - self.mean_y) @ self.map_y


def linear_canonical(z_x: Tensor, z_y: Tensor, ridge: float) -> LinearCanonical:
    """Canonical correlation analysis of a batch of data sets ``(b, n, dx), (b, n, dy)``; not differentiable.

    ``ridge`` is added to both covariances, so constant and duplicated columns give finite maps.
    """
    x, y = z_x.detach().double(), z_y.detach().double()
    mean_x, mean_y = x.mean(1, keepdim=True), y.mean(1, keepdim=True)
    x, y = x - mean_x, y - mean_y
    n = x.shape[1]
    chol_x, chol_y = (
        torch.linalg.cholesky(side.mT @ side / n + ridge * torch.eye(side.shape[-1], dtype=side.dtype, device=side.device))
        for side in (x, y)
    )
    u, rho, v_t = torch.linalg.svd(_whiten_cross(x.mT @ y / n, chol_x, chol_y))
    u, v = _fix_signs(u, v_t.mT)
    map_x = torch.linalg.solve_triangular(chol_x.mT, u, upper=True)
    map_y = torch.linalg.solve_triangular(chol_y.mT, v, upper=True)
    return LinearCanonical(*(t.float() for t in (mean_x, mean_y, map_x, map_y, rho.clamp(max=1.0))))


class NonlinearCanonical(NamedTuple):
    """Ridge-regularised CCA of two feature sets: variates ``p = f @ map_x``, ``q = g @ map_y``."""

    map_x: Tensor  # (b, m, r), not differentiable
    map_y: Tensor  # (b, m, r), not differentiable
    correlations: Tensor  # (b, r), descending, shrunk by the ridge; not differentiable
    chol_x: Tensor  # (b, m, m)
    chol_y: Tensor  # (b, m, m)
    cross: Tensor  # (b, m, m)

    def density_ratio_operator(self) -> Tensor:
        """T of the module docstring, ``(b, m, m)``; differentiable with respect to the features."""
        half = torch.cholesky_solve(self.cross, self.chol_x)
        return torch.cholesky_solve(half.mT, self.chol_y).mT


def nonlinear_canonical(f: Tensor, g: Tensor, ridge: Tensor, variates: int) -> NonlinearCanonical:
    """CCA of centred features ``f, g: (b, n, m)`` with a diagonal ridge ``(b, m)``.

    The leading ``variates`` pairs are found by subspace iteration with a few matrix products: an m x m SVD would cost
    more than everything else in the forward pass.
    """
    n = f.shape[1]
    penalty = torch.diag_embed(ridge)
    chol_x = torch.linalg.cholesky(f.mT @ f / n + penalty)
    chol_y = torch.linalg.cholesky(g.mT @ g / n + penalty)
    cross = f.mT @ g / n
    with torch.no_grad():
        left, correlations, right = _leading_singular(_whiten_cross(cross, chol_x, chol_y), variates)
        map_x = torch.linalg.solve_triangular(chol_x.mT, left, upper=True)
        map_y = torch.linalg.solve_triangular(chol_y.mT, right, upper=True)
    return NonlinearCanonical(map_x, map_y, correlations, chol_x, chol_y, cross)


class Maps(NamedTuple):
    """Everything that is fitted on the context before the critic: both canonical maps and the summary."""

    linear: LinearCanonical
    nonlinear: NonlinearCanonical
    centre: tuple[Tensor, Tensor]  # of the features of x and of y, (b, 1, m)
    scale: tuple[Tensor, Tensor]
    rho: Tensor  # (b, min(dx, dy)), shrunk
    summary: Tensor  # (b, s)


class CanonicalEncoder(nn.Module):
    """Fits the canonical maps of a data set and applies them.

    Args:
        max_dim: D, to which coordinates are padded with zeros (zero columns change neither MI nor any of the maps).
        width: of the feature network of a side.
        features: learned features of a side; the coordinates themselves are always among the features.
        variates: r, number of nonlinear canonical variates.
        ridge: of the linear analysis.
    """

    def __init__(self, max_dim: int, width: int, features: int, variates: int, ridge: float) -> None:
        super().__init__()
        self.max_dim, self.variates, self.ridge = max_dim, variates, ridge
        self.sizes = max_dim + 3
        self.summary_size = self.sizes + variates
        self.shrinkage = Shrinkage(max_dim)
        self.side = SideNetwork(max_dim, self.sizes, width, features)
        self.log_ridge = nn.Parameter(torch.zeros(max_dim + features))
        self.ridge_level = nn.Sequential(nn.Linear(self.sizes, 32), nn.SiLU(), nn.Linear(32, 1))

    def fit(self, z_x: Tensor, z_y: Tensor, *, differentiable: bool) -> tuple[Maps, tuple[Tensor, Tensor]]:
        """Fit all maps on normal scores ``(b, n, dx), (b, n, dy)``.

        Returns:
            the maps, and the standardised features of both sides, ``(b, n, D + m)`` each. The features are always
            differentiable with respect to the scores, the maps with respect to anything only if ``differentiable``.
        """
        n = z_x.shape[1]
        linear = linear_canonical(z_x, z_y, self.ridge)
        # Constant columns do not count: appending some must not change anything.
        dx, dy = ((z.amax(1) > z.amin(1)).sum(-1, keepdim=True) for z in (z_x, z_y))
        size = torch.full_like(linear.rho[:, :1], math.log(n / 500) / 2)
        sizes = torch.cat([self.pad(linear.rho), size, dx / self.max_dim, dy / self.max_dim], dim=-1)
        f, g = self.features(linear.x(z_x), sizes), self.features(linear.y(z_y), sizes)
        with torch.set_grad_enabled(differentiable):
            centre = f.mean(1, keepdim=True), g.mean(1, keepdim=True)
            scale = f.std(1, keepdim=True) + 1e-3, g.std(1, keepdim=True) + 1e-3
        f, g = (f - centre[0]) / scale[0], (g - centre[1]) / scale[1]
        with torch.set_grad_enabled(differentiable), torch.autocast(z_x.device.type, enabled=False):
            # To start with, a prior worth fifty samples.
            log_ridge = self.log_ridge + self.ridge_level(sizes).float() + math.log(50 / n)
            nonlinear = nonlinear_canonical(f, g, log_ridge.clamp(-12, 4).exp(), self.variates)
            rho = self.shrinkage(linear.rho, n, dx, dy).clamp(max=0.995)
        maps = Maps(linear, nonlinear, centre, scale, rho, torch.cat([sizes, nonlinear.correlations], dim=-1))
        return maps, (f, g)

    def features(self, coordinates: Tensor, sizes: Tensor) -> Tensor:
        """Coordinates, zero padded, and learned features of one side, ``(b, n, D + m)``."""
        coordinates = self.pad(coordinates)
        return torch.cat([coordinates, self.side(coordinates, sizes).float()], dim=-1)

    def standardised(self, maps: Maps, z_x: Tensor, z_y: Tensor) -> tuple[Tensor, Tensor]:
        """Features of both sides as the nonlinear analysis saw them."""
        sizes = maps.summary[:, : self.sizes]
        f = (self.features(maps.linear.x(z_x), sizes) - maps.centre[0]) / maps.scale[0]
        g = (self.features(maps.linear.y(z_y), sizes) - maps.centre[1]) / maps.scale[1]
        return f, g

    def pad(self, t: Tensor) -> Tensor:
        return nn.functional.pad(t, (0, self.max_dim - t.shape[-1]))


class Shrinkage(nn.Module):
    """Shrinks sample canonical correlations, which are inflated at small n, towards zero: ``(b, r)`` to ``(b, r)``."""

    def __init__(self, max_dim: int, width: int = 32) -> None:
        super().__init__()
        self.max_dim = max_dim
        self.net = nn.Sequential(nn.Linear(6, width), nn.SiLU(), nn.Linear(width, 1))
        nn.init.zeros_(self.net[-1].weight)
        nn.init.constant_(self.net[-1].bias, 3.0)

    def forward(self, rho: Tensor, n: int, dx: Tensor, dy: Tensor) -> Tensor:
        # Upper edge of the correlations of independent data (Wachter, 1980).
        edge = ((dx * (n - dy).clamp(min=1)).sqrt() + (dy * (n - dx).clamp(min=1)).sqrt()) / n
        edge = edge.clamp(max=1).expand_as(rho)
        index = torch.arange(rho.shape[-1], device=rho.device, dtype=rho.dtype).expand_as(rho) / self.max_dim
        size = torch.full_like(rho, math.log(n / 500) / 2)
        columns = [rho, rho.logit(eps=1e-3) / 3, rho - edge, edge, index, size]
        return rho * self.net(torch.stack(columns, dim=-1)).squeeze(-1).sigmoid()


def _whiten_cross(cross: Tensor, chol_x: Tensor, chol_y: Tensor) -> Tensor:
    half = torch.linalg.solve_triangular(chol_x, cross, upper=False)
    return torch.linalg.solve_triangular(chol_y, half.mT, upper=False).mT


def _leading_singular(matrix: Tensor, count: int, *, extra: int = 4, iterations: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    """Leading singular triplets ``(b, m, r), (b, r), (b, m, r)`` by subspace iteration from a fixed start."""
    columns = matrix.shape[-1]
    start = torch.randn(columns, min(count + extra, columns), generator=torch.Generator().manual_seed(0)).to(matrix)
    basis = matrix @ start
    for _ in range(iterations):
        basis = matrix @ (matrix.mT @ torch.linalg.qr(basis).Q)
    basis = torch.linalg.qr(basis).Q
    u, s, v_t = torch.linalg.svd(basis.mT @ matrix, full_matrices=False)
    left, right = _fix_signs(basis @ u[..., :count], v_t[..., :count, :].mT)
    return left, s[..., :count], right


def _fix_signs(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Singular vectors are known up to a sign per pair: make the largest entry of each left one positive, so that
    rounding does not decide. Unpaired columns follow their own largest entry."""
    paired = min(left.shape[-1], right.shape[-1])
    sign_left, sign_right = (
        side.gather(-2, side.abs().argmax(dim=-2, keepdim=True)).sign() + (side.abs().amax(dim=-2, keepdim=True) == 0)
        for side in (left, right)
    )
    sign_right = torch.cat([sign_left[..., :paired], sign_right[..., paired:]], dim=-1)
    return left * sign_left, right * sign_right
