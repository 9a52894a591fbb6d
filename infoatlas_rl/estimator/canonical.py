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

from infoatlas_rl.estimator.layers import SideNetwork, feature_count
from infoatlas_rl.transforms import fixed

TRAINED_SAMPLES = 16
"""Of the smallest data set in pretraining."""
SMALL_RIDGE = 4.0
"""Times dx dy / n^2, of covariances of normal scores: with n near d all canonical correlations of independent data are 1."""
SMALL = 64
"""Samples from which on that ridge falls with the fourth power of n, as it does below those of training."""


class LinearCanonical(NamedTuple):
    """Affine maps to canonical coordinates: ``u = (z_x - mean_x) @ map_x``, likewise y, and the correlations rho."""

    mean_x: Tensor  # (b, 1, dx)
    mean_y: Tensor  # (b, 1, dy)
    map_x: Tensor  # (b, dx, dx)
    map_y: Tensor  # (b, dy, dy)
    rho: Tensor  # (b, min(dx, dy)), descending, in [0, 1]
    held_out: Tensor  # (b, min(dx, dy)), two-fold: maps of one half of the samples, correlations on the other
    dx: Tensor  # (b, 1), columns that are not constant: appending constant ones must not change anything
    dy: Tensor  # (b, 1)

    def x(self, z_x: Tensor) -> Tensor:
        return (z_x - self.mean_x) @ self.map_x

    def y(self, z_y: Tensor) -> Tensor:
        return (z_y - self.mean_y) @ self.map_y


def linear_canonical(z_x: Tensor, z_y: Tensor, ridge: float) -> LinearCanonical:
    """Canonical correlation analysis of a batch of data sets ``(b, n, dx), (b, n, dy)``; not differentiable.

    ``ridge``, more where samples are few for the dimension, is added to both covariances: constant and duplicated columns
    give finite maps.
    """
    x, y = z_x.detach().double(), z_y.detach().double()
    n = x.shape[1]
    dx, dy = ((z.amax(1) > z.amin(1)).sum(-1, keepdim=True) for z in (x, y))
    scale = SMALL_RIDGE * max(1.0, TRAINED_SAMPLES / n) ** 2
    ridges = (scale * scarcity(dx, dy, n)).to(x).clamp(min=ridge).repeat(3, 1)
    mean_x, mean_y = x.mean(1, keepdim=True), y.mean(1, keepdim=True)
    halves = Moments.of_halves(x - mean_x, y - mean_y)
    # The analyses of all samples and of both halves go through one batch of decompositions.
    three = Moments(*(torch.cat([whole, half]) for whole, half in zip(halves.pooled(), halves, strict=True)))
    chol_x, chol_y = (torch.linalg.cholesky(_plus_diagonal(c, ridges.expand(-1, c.shape[-1]))) for c in three[:2])
    u, rho, v_t = torch.linalg.svd(_whiten_cross(three.cross, chol_x, chol_y))
    u, v = _fix_signs(u, v_t.mT)
    map_x = torch.linalg.solve_triangular(chol_x.mT, u, upper=True)
    map_y = torch.linalg.solve_triangular(chol_y.mT, v, upper=True)
    b, r = len(x), rho.shape[-1]
    held_out = halves.swapped().correlations(map_x[b:, :, :r], map_y[b:, :, :r])
    out = (mean_x, mean_y, map_x[:b], map_y[:b], rho[:b].clamp(max=1.0), (held_out[:b] + held_out[b:]) / 2, dx, dy)
    return LinearCanonical(*(t.float() for t in out))


def scarcity(dx: Tensor, dy: Tensor, n: int) -> Tensor:
    """How little n samples say of so many dimensions ``(b, 1)``: dx dy / n^2 below 64 samples, and soon nothing above."""
    return dx * dy / n**2 * min(1.0, SMALL / n) ** 2


class Moments(NamedTuple):
    """Second moments of centred features ``f: (b, n, p), g: (b, n, q)``."""

    x: Tensor  # (b, p, p)
    y: Tensor  # (b, q, q)
    cross: Tensor  # (b, p, q)

    @classmethod
    def of_halves(cls, f: Tensor, g: Tensor) -> Moments:
        """Of the first and of the second half of the samples, ``(2 b, ., .)``."""
        half = f.shape[1] // 2
        parts = [(f[:, :half], g[:, :half]), (f[:, half:], g[:, half:])]
        moments = [(a.mT @ a / a.shape[1], c.mT @ c / a.shape[1], a.mT @ c / a.shape[1]) for a, c in parts]
        return cls(*(torch.cat(pair) for pair in zip(*moments, strict=True)))

    def pooled(self) -> Moments:
        """From halves to all samples. For odd n the halves count the same: a difference of 1/n."""
        return Moments(*(sum(m.chunk(2)) / 2 for m in self))

    def swapped(self) -> Moments:
        return Moments(*(m.roll(len(m) // 2, 0) for m in self))

    def correlations(self, map_x: Tensor, map_y: Tensor) -> Tensor:
        """Correlations ``(b, r)`` of the variates ``f @ map_x`` and ``g @ map_y``."""
        cross = ((self.cross @ map_y) * map_x).sum(-2)
        energy_x, energy_y = (((m @ w) * w).sum(-2).clamp(min=1e-3) for m, w in ((self.x, map_x), (self.y, map_y)))
        return (cross * (energy_x * energy_y).rsqrt()).clamp(-1, 1)


class NonlinearCanonical(NamedTuple):
    """Ridge-regularised CCA of two feature sets: variates ``p = f @ map_x``, ``q = g @ map_y``."""

    map_x: Tensor  # (b, m, r), not differentiable
    map_y: Tensor  # (b, m, r), not differentiable
    correlations: Tensor  # (b, r), descending, shrunk by the ridge; not differentiable
    held_out: Tensor  # (b, r), two-fold; not differentiable
    chol_x: Tensor  # (b, m, m)
    chol_y: Tensor  # (b, m, m)
    cross: Tensor  # (b, m, m)

    def density_ratio_operator(self) -> Tensor:
        """T of the module docstring, ``(b, m, m)``; differentiable with respect to the features."""
        half = torch.cholesky_solve(self.cross, self.chol_x)
        return torch.cholesky_solve(half.mT, self.chol_y).mT


def nonlinear_canonical(f: Tensor, g: Tensor, ridge_x: Tensor, ridge_y: Tensor, variates: int) -> NonlinearCanonical:
    """CCA of centred features ``f: (b, n, p), g: (b, n, q)`` with diagonal ridges ``(b, p), (b, q)``.

    The leading ``variates`` pairs are found by subspace iteration with a few matrix products: an SVD would cost more than
    everything else in the forward pass. For the held-out correlations the ridge is doubled with the halved samples; they are
    held out given the features, which know the linear coordinates of all samples.
    """
    halves = Moments.of_halves(f, g)
    moments = halves.pooled()
    chol_x = torch.linalg.cholesky(_plus_diagonal(moments.x, ridge_x))
    chol_y = torch.linalg.cholesky(_plus_diagonal(moments.y, ridge_y))
    with torch.no_grad():
        fixed_x, fixed_y, cross, *fixed_halves = (t.detach() for t in (chol_x, chol_y, moments.cross, *halves))
        left, correlations, right = _leading_singular(_whiten_cross(cross, fixed_x, fixed_y), variates)
        map_x = torch.linalg.solve_triangular(fixed_x.mT, left, upper=True)
        map_y = torch.linalg.solve_triangular(fixed_y.mT, right, upper=True)
        held_out = _held_out(Moments(*fixed_halves), 2 * ridge_x, 2 * ridge_y, variates)
    return NonlinearCanonical(map_x, map_y, correlations, held_out, chol_x, chol_y, moments.cross)


def _held_out(halves: Moments, ridge_x: Tensor, ridge_y: Tensor, variates: int) -> Tensor:
    chol_x = torch.linalg.cholesky(_plus_diagonal(halves.x, ridge_x.repeat(2, 1)))
    chol_y = torch.linalg.cholesky(_plus_diagonal(halves.y, ridge_y.repeat(2, 1)))
    left, _, right = _leading_singular(_whiten_cross(halves.cross, chol_x, chol_y), variates, iterations=3)
    map_x = torch.linalg.solve_triangular(chol_x.mT, left, upper=True)
    map_y = torch.linalg.solve_triangular(chol_y.mT, right, upper=True)
    first, second = halves.swapped().correlations(map_x, map_y).chunk(2)
    return (first + second) / 2


class Maps(NamedTuple):
    """Everything that is fitted on the context before the critic: both canonical maps and the summary."""

    linear: LinearCanonical
    nonlinear: NonlinearCanonical
    centre: tuple[Tensor, Tensor]  # of the features of x and of y, (b, 1, m)
    scale: tuple[Tensor, Tensor]
    sizes: Tensor  # (b, ...): what the features of a side depend on
    summary: Tensor  # (b, s)

    @property
    def dims(self) -> tuple[Tensor, Tensor]:
        """Columns of x and of y that are not constant, ``(b, 1)``."""
        return self.linear.dx, self.linear.dy


class CanonicalEncoder(nn.Module):
    """Fits the canonical maps of a data set and applies them.

    Args:
        max_dim: D, the largest number of columns.
        width: of the feature network of a side.
        features: most learned features of a side; the coordinates themselves are always among the features.
        variates: r, number of nonlinear canonical variates.
        ridge: of the linear analysis.
    """

    def __init__(self, max_dim: int, width: int, features: int, variates: int, ridge: float) -> None:
        super().__init__()
        self.max_dim, self.variates, self.ridge, self.most = max_dim, variates, ridge, features
        sizes = 2 * max_dim + 3
        self.summary_size = sizes + 2 * variates
        self.side = SideNetwork(max_dim, sizes, width, features)
        self.log_ridge = nn.Parameter(torch.zeros(max_dim + features))
        self.ridge_level = nn.Sequential(nn.Linear(sizes, 32), nn.SiLU(), nn.Linear(32, 1))

    def fit(self, z_x: Tensor, z_y: Tensor, *, differentiable: bool) -> tuple[Maps, tuple[Tensor, Tensor]]:
        """Fit all maps on normal scores ``(b, n, dx), (b, n, dy)``.

        Returns:
            the maps, and the standardised features of both sides, ``(b, n, d + m)`` each. The features are always
            differentiable with respect to the scores, the maps with respect to anything only if ``differentiable``.
        """
        n = z_x.shape[1]
        linear = linear_canonical(z_x, z_y, self.ridge)
        dx, dy = linear.dx, linear.dy
        size = torch.full_like(linear.rho[:, :1], math.log(n / 500) / 2)
        correlations = [self.pad(linear.rho), self.pad(linear.held_out)]
        sizes = torch.cat([*correlations, size, dx / self.max_dim, dy / self.max_dim], dim=-1)
        count = feature_count(n, self.most)
        f, g = self.features(linear.x(z_x), sizes, count), self.features(linear.y(z_y), sizes, count)
        with torch.set_grad_enabled(differentiable):
            held = tuple(t if differentiable else t.detach() for t in (f, g))
            centre = tuple(t.mean(1, keepdim=True) for t in held)
            scale = tuple(
                (t.square().mean(1, keepdim=True) - c**2).clamp(min=1e-6).sqrt() for t, c in zip(held, centre, strict=True)
            )
        f, g = (f - centre[0]) / scale[0], (g - centre[1]) / scale[1]
        with torch.set_grad_enabled(differentiable), torch.autocast(z_x.device.type, enabled=False):
            # To start with, a prior worth fifty samples.
            level = self.ridge_level(sizes).float() + math.log(50 / n)
            ridges = []
            for d in (z_x.shape[-1], z_y.shape[-1]):
                own = torch.cat([self.log_ridge[:d], self.log_ridge[self.max_dim : self.max_dim + count]])
                ridges.append((own + level).clamp(-12, 4).exp())
            nonlinear = nonlinear_canonical(*(t if differentiable else t.detach() for t in (f, g)), *ridges, self.variates)
        summary = torch.cat([sizes, nonlinear.correlations, nonlinear.held_out], dim=-1)
        return Maps(linear, nonlinear, centre, scale, sizes, summary), (f, g)

    def features(self, coordinates: Tensor, sizes: Tensor, count: int) -> Tensor:
        """Coordinates and learned features of one side, ``(b, n, d + count)``."""
        return torch.cat([coordinates, self.side(coordinates, sizes, slice(count)).float()], dim=-1)

    def standardised(self, maps: Maps, z_x: Tensor, z_y: Tensor) -> tuple[Tensor, Tensor]:
        """Features of both sides as the nonlinear analysis saw them."""
        out = []
        for side, coordinates in enumerate((maps.linear.x(z_x), maps.linear.y(z_y))):
            count = maps.centre[side].shape[-1] - coordinates.shape[-1]
            out.append((self.features(coordinates, maps.sizes, count) - maps.centre[side]) / maps.scale[side])
        return out[0], out[1]

    def pad(self, t: Tensor) -> Tensor:
        """Zeros up to D columns."""
        return nn.functional.pad(t, (0, self.max_dim - t.shape[-1]))


def _whiten_cross(cross: Tensor, chol_x: Tensor, chol_y: Tensor) -> Tensor:
    half = torch.linalg.solve_triangular(chol_x, cross, upper=False)
    return torch.linalg.solve_triangular(chol_y, half.mT, upper=False).mT


def _plus_diagonal(matrix: Tensor, diagonal: Tensor) -> Tensor:
    return matrix + torch.diag_embed(diagonal)


def _leading_singular(matrix: Tensor, count: int, *, extra: int = 4, iterations: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    """Leading singular triplets ``(b, m, r), (b, r), (b, m, r)`` by subspace iteration from a fixed start."""
    columns = matrix.shape[-1]
    basis = matrix @ _gaussian(columns, min(count + extra, columns)).to(matrix)
    for _ in range(iterations):
        basis = matrix @ (matrix.mT @ torch.linalg.qr(basis).Q)
    basis = torch.linalg.qr(basis).Q
    u, s, v_t = torch.linalg.svd(basis.mT @ matrix, full_matrices=False)
    left, right = _fix_signs(basis @ u[..., :count], v_t[..., :count, :].mT)
    return left, s[..., :count], right


@fixed
def _gaussian(rows: int, columns: int) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(0), dtype=torch.float32)


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
