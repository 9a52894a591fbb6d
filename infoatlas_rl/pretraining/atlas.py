"""The atlas: random problems with a known density ratio, to pretrain on (InfoAtlas, section 3.2 and A.2).

Every problem knows its pointwise mutual information ``s(x, y) = log p(x, y) / (p(x) p(y))`` exactly, at joint and at
product samples, and keeps it under the random invertible flows that are applied to x and to y separately.

Families of dependence:

- mixtures of K = 1..60 Gaussian or Student-t components with low-rank correlation matrices (Algorithm 1 and 2) and
  randomly attenuated cross-blocks, so that weak dependence is covered;
- one component with a random spectrum of canonical correlations;
- checkerboard copulas: piecewise constant densities on a grid of cells, some cells empty (bounded supports, thin bands),
  with continuous, rounded or discrete values;
- counts and labels: pairs with a table of probabilities of their own, as sums with a part in common, shares and rates;
- latent classes: coordinates that are independent given a class of x and a class of y, each with an emission of its own:
  discrete, counts, continuous, or continuous with an atom; or y is the class itself, one-hot;
- independent pairs, by breaking the pairing of any of the above.

For the calibrated head there are also columns that add nothing, as the frames of users have: copies, sums, products, noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from infoatlas_rl.checks import check_numbers
from infoatlas_rl.pretraining.flows import flow, monotone, uniform, with_redundant
from infoatlas_rl.pretraining.tables import Sampled, checkerboard, counts, random_table


class Problem(NamedTuple):
    """One batch of problems of equal size. Context and query are different draws of the same distribution."""

    x: Tensor  # (b, n, dx), context
    y: Tensor  # (b, n, dy)
    query_x: Tensor  # (b, q, dx)
    query_y: Tensor  # (b, q, dy)
    joint_log_ratio: Tensor  # (b, q): s at (query_x[i], query_y[i])
    product_log_ratio: Tensor  # (b, q): s at (query_x[i], query_y[i - 1])
    mi: Tensor  # (b,): true MI in nats, a Monte Carlo mean of s over query and further fresh samples
    mi_error: Tensor  # (b,): its standard error

    def to(self, device: torch.device) -> Problem:
        return Problem(*(part.to(device) for part in self))


@dataclass(frozen=True)
class AtlasConfig:
    max_dim: int = 20
    min_samples: int = 16
    max_samples: int = 5000
    query: int = 256
    truth: int = 1024
    """Further fresh samples that the true MI is averaged over."""
    max_components: int = 60
    flows: bool = True
    """Let x and y go through random flows; otherwise through random elementwise monotone maps at most."""
    plain: float = 0.25
    """Share of problems without flows, where there are flows: simple distributions are the ones that users try first."""
    elliptical: float = 0.0
    """Share of problems of one Gaussian or Student-t component, besides those among the others."""
    strong: float = 0.0
    """Share of problems of one Gaussian or Student-t component with correlations up to 1 - 5e-6, that is 5.8 nats each."""
    counts: float = 0.0
    """Share of problems of counts, besides those among the others."""
    redundant: float = 0.0
    """Share of problems in which some columns add nothing: functions of others, with noise of their own, or noise alone."""

    def __post_init__(self) -> None:
        check_numbers(self, or_zero=("plain", "elliptical", "strong", "counts", "redundant"))
        if self.min_samples > self.max_samples:
            raise ValueError(f"min_samples {self.min_samples} exceeds max_samples {self.max_samples}")


def sample_sizes(config: AtlasConfig, generator: torch.Generator) -> tuple[int, int, int]:
    """Random ``n, dx, dy``: n nearly log-uniform, small dimensions more often, equal dimensions half of the time."""
    low, high = math.log(config.min_samples), math.log(config.max_samples)
    n = round(math.exp(low + (high - low) * uniform(generator) ** 0.75))
    dims = [1 + int(config.max_dim * uniform(generator) ** 2.2) for _ in range(2)]
    if uniform(generator) < 0.5:
        dims[1] = dims[0]
    return n, *dims


def sample_problems(
    batch: int, n: int, dx: int, dy: int, config: AtlasConfig, generator: torch.Generator, *, rank: int = 0, world: int = 1
) -> Problem:
    """Draw a batch of independent random problems of one size; every problem has a seed of its own, so that ``world``
    processes can share a batch: each draws ``batch / world`` of it."""
    seeds = torch.randint(2**62, (batch,), generator=generator)[rank::world]
    problems = [_sample_problem(n, dx, dy, config, torch.Generator().manual_seed(int(seed))) for seed in seeds]
    return Problem(*(torch.stack(parts) for parts in zip(*problems, strict=True)))


def sample_latent(n: int, dx: int, dy: int, config: AtlasConfig, g: torch.Generator) -> Sampled:
    """n samples of a random dependence before any flow, and its log density ratio."""
    kind = uniform(g)
    if kind < 0.18:
        return checkerboard(n, dx, dy, g)
    if kind < 0.32:
        return _latent_classes(n, dx, dy, g)
    if kind < 0.5:
        return _spectrum(n, dx, dy, g)
    return _mixture(n, dx, dy, config.max_components, g)


def sample_elliptical(n: int, dx: int, dy: int, g: torch.Generator) -> Sampled:
    """n samples of one Gaussian or Student-t component, with a random spectrum or a low-rank correlation matrix."""
    return _spectrum(n, dx, dy, g) if uniform(g) < 0.6 else _mixture(n, dx, dy, 1, g)


def _sample_problem(n: int, dx: int, dy: int, config: AtlasConfig, g: torch.Generator) -> tuple[Tensor, ...]:
    kept = n + config.query
    dims = dx, dy
    if config.redundant and uniform(g) < config.redundant:
        dims = 1 + int(dx * uniform(g)), 1 + int(dy * uniform(g))
    if config.strong and uniform(g) < config.strong:
        x, y, log_ratio = _spectrum(kept + config.truth, *dims, g, strong=True)
    elif config.counts and uniform(g) < config.counts:
        x, y, log_ratio = counts(kept + config.truth, *dims, g)
    elif config.elliptical and uniform(g) < config.elliptical:
        x, y, log_ratio = sample_elliptical(kept + config.truth, *dims, g)
    else:
        x, y, log_ratio = sample_latent(kept + config.truth, *dims, config, g)
    query = slice(n, kept)
    s_joint, s_product = log_ratio(x[n:], y[n:]), log_ratio(x[query], y[query].roll(1, 0))
    mi, mi_error = s_joint.mean(), s_joint.std() / math.sqrt(len(s_joint))
    s_joint = s_joint[: config.query]
    if uniform(g) < 0.1:
        y = torch.cat([y[torch.randperm(kept, generator=g)], y[kept:]])
        s_joint, s_product, mi, mi_error = (torch.zeros_like(t) for t in (s_joint, s_product, mi, mi_error))
    transform = flow if config.flows and uniform(g) >= config.plain else monotone
    x, y = (transform(with_redundant(side[:kept], d, g), g) for side, d in ((x, dx), (y, dy)))
    return x[:n], y[:n], x[query], y[query], s_joint, s_product, mi, mi_error


def _mixture(total: int, dx: int, dy: int, max_components: int, g: torch.Generator) -> Sampled:
    """Mixture of Gaussian or Student-t components (Algorithm 1)."""
    d = dx + dy
    u = uniform(g)
    k = (
        1
        if u < 0.25 or max_components == 1
        else 2 + int(7 * uniform(g))
        if u < 0.6
        else 2 + int((max_components - 1) * uniform(g))
    )
    spread = 5 * uniform(g) if k > 1 else 0.0
    weights = torch.rand(k, generator=g) + 1e-3
    weights = weights / weights.sum()
    means = spread * (2 * torch.rand(k, d, generator=g) - 1)
    correlation = _low_rank_correlation(k, d, g)
    if uniform(g) < 0.6:
        # A convex combination with the block diagonal matrix: still positive definite, weaker dependence.
        attenuation = torch.rand(k, 1, 1, generator=g)
        blocks = torch.zeros(d, d)
        blocks[:dx, :dx] = blocks[dx:, dx:] = 1
        correlation = correlation * (attenuation + (1 - attenuation) * blocks)
    scale = (0.01 + (10 - 0.01) * torch.rand(k, d, generator=g)).sqrt() if k > 1 else torch.ones(k, d)
    if k > 1 and uniform(g) < 0.5:
        scale = scale * (0.1 + 0.9 * uniform(g))
    covariance = correlation * scale.unsqueeze(-1) * scale.unsqueeze(-2)
    dof = torch.full((k,), math.inf)
    if uniform(g) < 0.4:
        dof = 1 + 29 * torch.rand(k, generator=g) ** 2
    return _sample_mixture(total, dx, weights, means, covariance, dof, g)


def _spectrum(total: int, dx: int, dy: int, g: torch.Generator, *, strong: bool = False) -> Sampled:
    """One Gaussian or Student-t component with a random spectrum of canonical correlations."""
    r = min(dx, dy)
    active = 1 + int(r * uniform(g))
    rho = torch.zeros(r)
    if strong:
        # 1 - rho^2 is log-uniform.
        rho[:active] = (1 - 10 ** (-5 * uniform(g) * torch.rand(active, generator=g) ** uniform(g))).sqrt()
    else:
        strength = 0.3 * uniform(g) if uniform(g) < 0.2 else 0.3 + 0.69 * uniform(g)
        rho[:active] = torch.rand(active, generator=g) ** (0.2 + 2 * uniform(g)) * strength
    covariance = torch.eye(dx + dy)
    index = torch.arange(r)
    covariance[index, dx + index] = covariance[dx + index, index] = rho
    dof = torch.full((1,), math.inf if uniform(g) < 0.5 else 1 + 29 * uniform(g) ** 2)
    return _sample_mixture(total, dx, torch.ones(1), torch.zeros(1, dx + dy), covariance.unsqueeze(0), dof, g)


def _sample_mixture(
    total: int, dx: int, weights: Tensor, means: Tensor, covariance: Tensor, dof: Tensor, g: torch.Generator
) -> Sampled:
    """Sample a mixture of K components, ``means (k, d)``, ``covariance (k, d, d)``; ``dof (k,)`` is infinite for Gaussians.

    The marginals of a multivariate Student-t are Student-t with the blocks of its dispersion, so all densities are exact.
    """
    d = means.shape[-1]
    covariance = covariance.double() + 1e-6 * torch.eye(d, dtype=torch.float64)
    chol = torch.linalg.cholesky(covariance)
    component = torch.multinomial(weights, total, replacement=True, generator=g)
    noise = torch.randn(total, d, generator=g, dtype=torch.float64)
    chi = torch.ones(total, dtype=torch.float64)
    finite = torch.isfinite(dof[component])
    if finite.any():
        nu = dof[component].double()
        gamma = torch._standard_gamma(torch.where(finite, nu / 2, torch.ones_like(nu)), generator=g)
        chi = torch.where(finite, gamma / (nu / 2), torch.ones_like(nu))
    z = means[component].double() + torch.einsum("nij,nj->ni", chol[component], noise) / chi.sqrt().unsqueeze(-1)
    inverse = torch.linalg.inv(chol).float()
    log_weights = weights.log()

    def log_density(points: Tensor, inv: Tensor, chol_diagonal: Tensor, centre: Tensor) -> Tensor:
        size = points.shape[-1]
        white = torch.einsum("kij,nkj->nki", inv, points.float().unsqueeze(1) - centre)
        square = (white**2).sum(-1)
        log_det = chol_diagonal.log().sum(-1).float()
        gauss = -0.5 * square - 0.5 * size * math.log(2 * math.pi)
        nu = torch.where(torch.isfinite(dof), dof, torch.ones_like(dof))
        student = (
            torch.lgamma((nu + size) / 2)
            - torch.lgamma(nu / 2)
            - 0.5 * size * (nu * math.pi).log()
            - 0.5 * (nu + size) * torch.log1p(square / nu)
        )
        return torch.logsumexp(log_weights + torch.where(torch.isfinite(dof), student, gauss) - log_det, -1)

    chol_y = torch.linalg.cholesky(covariance[:, dx:, dx:])
    parts = {
        "x": (inverse[:, :dx, :dx], chol.diagonal(dim1=-2, dim2=-1)[:, :dx], means[:, :dx]),
        "y": (torch.linalg.inv(chol_y).float(), chol_y.diagonal(dim1=-2, dim2=-1), means[:, dx:]),
        "xy": (inverse, chol.diagonal(dim1=-2, dim2=-1), means),
    }

    def log_ratio(x: Tensor, y: Tensor) -> Tensor:
        joint = log_density(torch.cat([x, y], -1), *parts["xy"])
        return joint - log_density(x, *parts["x"]) - log_density(y, *parts["y"])

    return z[:, :dx].float(), z[:, dx:].float(), log_ratio


def _low_rank_correlation(k: int, d: int, g: torch.Generator) -> Tensor:
    """``W W^T + D`` normalised to unit diagonal, rank of W uniform in 1..d (Algorithm 2), ``(k, d, d)``."""
    rank = 1 + int(d * uniform(g))
    w = torch.randn(k, d, rank, generator=g)
    covariance = w @ w.mT + torch.diag_embed(torch.rand(k, d, generator=g) + 1e-3)
    scale = covariance.diagonal(dim1=-2, dim2=-1).rsqrt()
    return covariance * scale.unsqueeze(-1) * scale.unsqueeze(-2)


def _latent_classes(total: int, dx: int, dy: int, g: torch.Generator) -> Sampled:
    """Coordinates that are independent given the classes (k, l) of x and y, which have a random joint table."""
    rows, columns = (2 + int(10 * uniform(g) ** 1.5) for _ in range(2))
    labels = uniform(g) < 0.35  # y is the class itself
    if labels:
        columns = max(dy, 2)
    table = random_table(rows, columns, g)
    if uniform(g) < 0.6:  # some classes of y go with one class of x
        k = torch.arange(rows)
        table[k, torch.randperm(rows, generator=g) % columns] += torch.rand(rows, generator=g) * 6 * uniform(g) / rows
        table = table / table.sum()
    cell = torch.multinomial(table.flatten(), total, replacement=True, generator=g)
    strength = 0.3 + 3.5 * uniform(g)
    x, densities_x = _emissions(cell // columns, rows, dx, strength, g)
    y, densities_y = (_labels if labels else _emissions)(cell % columns, columns, dy, strength, g)
    log_table = table.log()

    def log_ratio(x: Tensor, y: Tensor) -> Tensor:
        a = torch.stack([density(x[:, c]) for c, density in enumerate(densities_x)]).sum(0)  # (N, rows)
        b = torch.stack([density(y[:, c]) for c, density in enumerate(densities_y)]).sum(0)
        joint = (a.unsqueeze(2) + b.unsqueeze(1) + log_table).flatten(1).logsumexp(-1)
        return joint - (a + log_table.logsumexp(1)).logsumexp(-1) - (b + log_table.logsumexp(0)).logsumexp(-1)

    return x, y, log_ratio


def _emissions(
    label: Tensor, classes: int, d: int, strength: float, g: torch.Generator
) -> tuple[Tensor, list[Callable[[Tensor], Tensor]]]:
    """Samples ``(total, d)`` given the class of each, and per coordinate the log density of values in every class,
    ``(N,)`` to ``(N, classes)``."""
    style = uniform(g)
    columns, densities = [], []
    for _ in range(d):
        # Half of the time all coordinates are of one kind.
        kind = style if style < 0.5 else 0.5 * uniform(g)
        if kind < 0.3:
            levels = 2 + int(10 * uniform(g) ** 2)
            if kind < 0.12:  # counts with a rate that depends on the class
                levels = 24
                rate = torch.exp(0.5 + 0.5 * strength * torch.randn(classes, 1, generator=g)).clamp(max=12)
                values = torch.arange(levels, dtype=torch.float32)
                logits = values * rate.log() - torch.lgamma(values + 1)
            else:
                logits = strength * torch.randn(classes, levels, generator=g)
            log_mass = logits.log_softmax(-1)
            columns.append(torch.multinomial(log_mass.exp()[label], 1, generator=g).squeeze(-1).float())
            densities.append(lambda v, log_mass=log_mass, top=levels - 1: log_mass.mT[v.round().long().clamp(0, top)])
            continue
        centre = strength * torch.randn(classes, generator=g)
        log_scale = 0.4 * torch.randn(classes, generator=g)
        atom = torch.full((classes,), 1e-9) if kind < 0.4 else (strength * torch.randn(classes, generator=g)).sigmoid()
        place = float(torch.randn((), generator=g)) - 3
        smooth = centre[label] + log_scale.exp()[label] * torch.randn(len(label), generator=g)
        columns.append(torch.where(torch.rand(len(label), generator=g) < atom[label], place, smooth))

        def density(v: Tensor, centre=centre, log_scale=log_scale, atom=atom, place=place) -> Tensor:
            v = v.unsqueeze(-1)
            normal = -0.5 * ((v - centre) / log_scale.exp()) ** 2 - log_scale - 0.5 * math.log(2 * math.pi)
            return torch.where(v == place, atom.log(), normal + torch.log1p(-atom.clamp(max=1 - 1e-6)))

        densities.append(density)
    return torch.stack(columns, -1), densities


def _labels(
    label: Tensor, classes: int, d: int, strength: float, g: torch.Generator
) -> tuple[Tensor, list[Callable[[Tensor], Tensor]]]:
    """What :func:`_emissions` returns, of labels that are seen as they are: one-hot, or 0 and 1 in a single column."""
    codes = torch.eye(classes)[:, classes - d :]
    # A class that does not have the code is impossible.
    densities = [lambda v, code=code: torch.where(v.unsqueeze(-1) == code, 0.0, -30.0) for code in codes.T]
    return codes[label], densities
