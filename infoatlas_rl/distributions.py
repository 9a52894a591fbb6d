"""Distributions that know their own mutual information (nats).

``BMI_TASKS`` are the eight tasks of InfoAtlas' Table 1, from the BMI benchmark (Czyz et al., 2023, "Beyond Normal"),
written anew; each keeps its exact MI because x and y are transformed separately by invertible maps.

``FAMILIES`` are three families for which the error is followed as n grows, ``Mixture`` is a random mixture of Gaussians.

``DISCRETE_TASKS`` reproduce the truths of the second table of the InfoAtlas poster, which does not say how its tasks are
built: five independent pairs of coordinates each (Beta: one), with the MI of a pair exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[np.float64]
Sampler = Callable[[int, np.random.Generator], tuple[Array, Array]]


@dataclass(frozen=True)
class BenchmarkTask:
    """A pair of random variables with known mutual information."""

    name: str
    """Column of Table 1."""
    origin: str
    """Identifier of the task in the BMI benchmark, or how it is built."""
    mi: float
    """True mutual information in nats."""
    sampler: Sampler

    def sample(self, n: int, seed: int) -> tuple[Array, Array]:
        """``n`` pairs, ``(n, dx)`` and ``(n, dy)``."""
        return self.sampler(n, np.random.default_rng(seed))


def gaussian_mi(covariance: Array, dx: int) -> float:
    """MI in nats of a Gaussian vector split after its first ``dx`` coordinates: log-determinants of the blocks."""
    log_det = [np.linalg.slogdet(block)[1] for block in (covariance[:dx, :dx], covariance[dx:, dx:], covariance)]
    return 0.5 * (log_det[0] + log_det[1] - log_det[2])


def student_mi(dx: int, dy: int, dof: float) -> float:
    """MI in nats of a Student-t vector with identity dispersion (Arellano-Valle et al., 2013): all of it is due to the
    shared scale."""

    def entropy(d: int) -> float:
        half = (dof + d) / 2
        log_norm = math.lgamma(dof / 2) - math.lgamma(half) + 0.5 * d * math.log(dof * math.pi)
        return log_norm + half * (_digamma(half) - _digamma(dof / 2))

    return entropy(dx) + entropy(dy) - entropy(dx + dy)


def _dense(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    return _split(rng.multivariate_normal(np.zeros(10), _dense_covariance(), size=n), 5)


def _dense_covariance() -> Array:
    return np.eye(10) * 0.5 + 0.5


def _sparse_covariance(d: int) -> Array:
    """Two interacting pairs of coordinates with correlation 4/5 (strength 2.0)."""
    covariance = np.eye(2 * d)
    for i in range(2):
        covariance[i, d + i] = covariance[d + i, i] = 0.8
    return covariance


def _sparse(d: int) -> Sampler:
    def sample(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        return _split(rng.multivariate_normal(np.zeros(2 * d), _sparse_covariance(d), size=n), d)

    return sample


def _student(d: int, dof: float) -> Sampler:
    def sample(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        scale = np.sqrt(rng.chisquare(dof, size=(n, 1)) / dof)
        return _split(rng.standard_normal((n, 2 * d)) / scale, d)

    return sample


def _additive(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    x = rng.uniform(0, 1, (n, 1))
    return x, x + rng.uniform(-0.1, 0.1, (n, 1))


def _bimodal(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    covariance = np.array([[1, 0.75], [0.75, 1]])
    x, y = _split(_normal_cdf(rng.multivariate_normal(np.zeros(2), covariance, size=n)), 1)
    grid = np.linspace(-10, 15, 20_001)
    cdf_x = 0.3 * _normal_cdf(grid) + 0.7 * _normal_cdf(grid - 5)
    cdf_y = 0.5 * _normal_cdf(grid + 1) + 0.5 * _normal_cdf(grid - 3)
    return np.interp(x, cdf_x, grid), np.interp(y, cdf_y, grid)


def _mapped(base: Sampler, map_x: Callable[[Array], Array], map_y: Callable[[Array], Array]) -> Sampler:
    def sample(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        x, y = base(n, rng)
        return map_x(x), map_y(y)

    return sample


def _spiral(i: int, j: int, speed: float) -> Callable[[Array], Array]:
    """Rotate in the plane (i, j) by an angle proportional to the squared norm."""

    def transform(x: Array) -> Array:
        angle = speed * (x**2).sum(axis=1)
        out = x.copy()
        out[:, i] = np.cos(angle) * x[:, i] - np.sin(angle) * x[:, j]
        out[:, j] = np.sin(angle) * x[:, i] + np.cos(angle) * x[:, j]
        return out

    return transform


def _half_cube(x: Array) -> Array:
    return x * np.sqrt(np.abs(x))


def _normal_cdf(x: Array) -> Array:
    return torch.special.ndtr(torch.from_numpy(x)).numpy()


def _split(z: Array, dx: int) -> tuple[Array, Array]:
    return z[:, :dx], z[:, dx:]


def _digamma(x: float) -> float:
    return float(torch.special.digamma(torch.tensor(x, dtype=torch.float64)))


_SPARSE_3 = gaussian_mi(_sparse_covariance(3), 3)
_SPARSE_5 = gaussian_mi(_sparse_covariance(5), 5)

BMI_TASKS: tuple[BenchmarkTask, ...] = (
    BenchmarkTask("Mn-dense", "multinormal-dense-5-5-0.5", gaussian_mi(_dense_covariance(), 5), _dense),
    BenchmarkTask(
        "Spiral",
        "spiral-multinormal-sparse-3-3-2-2.0",
        _SPARSE_3,
        _mapped(_sparse(3), _spiral(0, 1, 1 / 3), _spiral(1, 2, 1 / 3)),
    ),
    BenchmarkTask(
        "Asinh@St", "asinh-student-identity-5-5-2", student_mi(5, 5, 2), _mapped(_student(5, 2), np.arcsinh, np.arcsinh)
    ),
    BenchmarkTask("St", "student-identity-3-3-3", student_mi(3, 3, 3), _student(3, 3)),
    BenchmarkTask(
        "Uniform",
        "normal_cdf-multinormal-sparse-3-3-2-2.0",
        _SPARSE_3,
        _mapped(_sparse(3), _normal_cdf, _normal_cdf),
    ),
    BenchmarkTask("Hc@Mn", "half_cube-multinormal-sparse-5-5-2-2.0", _SPARSE_5, _mapped(_sparse(5), _half_cube, _half_cube)),
    BenchmarkTask("Additive", "1v1-additive-0.1", 0.1 + math.log(1 / 0.2), _additive),
    BenchmarkTask("Bimodal", "1v1-bimodal-0.75", gaussian_mi(np.array([[1, 0.75], [0.75, 1]]), 1), _bimodal),
)


def table_mi(table: Array) -> float:
    """MI in nats of a joint probability table."""
    independent = table.sum(1, keepdims=True) * table.sum(0, keepdims=True)
    positive = table > 0
    return float((table[positive] * np.log(table[positive] / independent[positive])).sum())


def _copula(d: int, quantile: Callable[[Array], Array], rho: float = 0.5) -> Sampler:
    """Pairs with a Gaussian copula and given margins."""

    def sample(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        x, noise = rng.standard_normal((2, n, d))
        y = rho * x + math.sqrt(1 - rho**2) * noise
        return quantile(_normal_cdf(x)), quantile(_normal_cdf(y))

    return sample


def _beta_quantile(u: Array) -> Array:
    """Of Beta(2, 1)."""
    return np.sqrt(u)


def _gamma_quantile(u: Array) -> Array:
    """Of Gamma(2, 1): its distribution function is 1 - (1 + t) exp(-t)."""
    grid = np.linspace(0, 60, 60_001)
    return np.interp(u, 1 - (1 + grid) * np.exp(-grid), grid)


def _noisy_label(d: int, labels: int, noise: float) -> Sampler:
    """Uniform labels; y is x or, with probability ``noise``, another label."""

    def sample(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        x = rng.integers(0, labels, (n, d))
        changed = rng.random((n, d)) < noise
        y = np.where(changed, (x + rng.integers(1, labels, (n, d))) % labels, x)
        return x.astype(float), y.astype(float)

    return sample


def _noisy_label_mi(labels: int, noise: float) -> float:
    table = np.full((labels, labels), noise / (labels - 1) / labels)
    np.fill_diagonal(table, (1 - noise) / labels)
    return table_mi(table)


def _shared_count(d: int, shared: float, own: float) -> Sampler:
    """x = a + c, y = b + c with Poisson counts a, b of rate ``own`` and c of rate ``shared``."""

    def sample(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        c = rng.poisson(shared, (n, d))
        return (rng.poisson(own, (n, d)) + c).astype(float), (rng.poisson(own, (n, d)) + c).astype(float)

    return sample


def _shared_count_mi(shared: float, own: float, top: int = 60) -> float:
    def mass(rate: float) -> Array:
        counts = np.arange(top)
        return np.exp(counts * math.log(rate) - rate - np.array([math.lgamma(k + 1) for k in counts]))

    a, c = mass(own), mass(shared)
    table = np.zeros((top, top))
    for k in range(top):
        table[k:, k:] += c[k] * np.outer(a[: top - k], a[: top - k])
    return table_mi(table)


DISCRETE_TASKS: tuple[BenchmarkTask, ...] = (
    BenchmarkTask("Beta-1d", "Gaussian copula, rho = 0.5", -0.5 * math.log(0.75), _copula(1, _beta_quantile)),
    BenchmarkTask("Gamma-5d", "Gaussian copula, rho = 0.5", -2.5 * math.log(0.75), _copula(5, _gamma_quantile)),
    BenchmarkTask("Bern-5d", "noisy label, 1/4", 5 * _noisy_label_mi(2, 0.25), _noisy_label(5, 2, 0.25)),
    BenchmarkTask("Poisson-5d", "shared count, rates 2", 5 * _shared_count_mi(2.0, 2.0), _shared_count(5, 2.0, 2.0)),
    BenchmarkTask("Cat-5d", "noisy label of four, 0.54", 5 * _noisy_label_mi(4, 0.54), _noisy_label(5, 4, 0.54)),
)

RHO = np.array([0.8, 0.6, 0.4])


def _correlated(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    x, noise = rng.standard_normal((2, n, 3))
    return x, RHO * x + np.sqrt(1 - RHO**2) * noise


def _shared_scale(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    z = rng.standard_normal((n, 4)) / np.sqrt(rng.chisquare(3, (n, 1)) / 3)
    return z[:, :2], z[:, 2:]


def _four_clusters(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    """x and y are noisy views of one of four cluster centres on a circle."""
    quadrant = rng.integers(0, 4, n)
    centre = 2 * np.stack([np.cos(np.pi * quadrant / 2), np.sin(np.pi * quadrant / 2)], -1)
    return centre + rng.standard_normal((n, 2)), centre + rng.standard_normal((n, 2))


@lru_cache(maxsize=1)
def four_clusters_mi() -> float:
    """By Monte Carlo integration over two million samples."""
    x, y = _four_clusters(2_000_000, np.random.default_rng(0))
    centres = 2 * np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])

    def log_likelihoods(z: Array) -> Array:
        return np.stack([-0.5 * ((z - c) ** 2).sum(1) for c in centres])

    a, b = log_likelihoods(x), log_likelihoods(y)
    lse = np.logaddexp.reduce
    return float((lse(a + b) - lse(a) - lse(b) + np.log(4)).mean())


FAMILIES: dict[str, tuple[Sampler, Callable[[], float]]] = {
    "correlated Gaussians, d = 3": (_correlated, lambda: -0.5 * float(np.log(1 - RHO**2).sum())),
    "Student-t, 3 degrees of freedom, d = 2": (_shared_scale, lambda: student_mi(2, 2, 3)),
    "four clusters, d = 2": (_four_clusters, four_clusters_mi),
}
"""Name to sampler and true MI in nats."""


class Mixture:
    """A random mixture of K two-dimensional Gaussians (InfoNet, section 4)."""

    def __init__(self, k: int, rng: np.random.Generator) -> None:
        self.rng = rng
        self.weights = rng.dirichlet(np.ones(k))
        self.means = rng.uniform(-5, 5, (k, 2))
        factor = rng.uniform(-3, 3, (k, 2, 2))
        self.covariance = factor @ factor.transpose(0, 2, 1) + 0.01 * np.eye(2)

    def sample(self, n: int) -> np.ndarray:
        label = self.rng.choice(len(self.weights), n, p=self.weights)
        noise = self.rng.standard_normal((n, 2, 1))
        return self.means[label] + (np.linalg.cholesky(self.covariance)[label] @ noise)[..., 0]

    def mi(self, n: int) -> float:
        """By Monte Carlo integration over n samples; in closed form for one component."""
        if len(self.weights) == 1:
            c = self.covariance[0]
            return float(-0.5 * np.log(1 - c[0, 1] ** 2 / (c[0, 0] * c[1, 1])))
        return float(self.log_ratio(self.sample(n)).mean())

    def log_ratio(self, z: np.ndarray) -> np.ndarray:
        """Pointwise MI of samples, ``(n,)``."""
        return self._log_density(z, [0, 1]) - self._log_density(z, [0]) - self._log_density(z, [1])

    def _log_density(self, z: np.ndarray, axes: list[int]) -> np.ndarray:
        block = self.covariance[:, axes][:, :, axes]
        inverse, log_det = np.linalg.inv(block), np.linalg.slogdet(2 * np.pi * block)[1]
        terms = []
        for k, weight in enumerate(self.weights):
            centred = z[:, axes] - self.means[k, axes]
            terms.append(np.log(weight) - 0.5 * (((centred @ inverse[k]) * centred).sum(1) + log_det[k]))
        return np.logaddexp.reduce(terms)
