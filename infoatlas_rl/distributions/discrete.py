"""``DISCRETE_TASKS`` reproduce the truths of the second table of the InfoAtlas poster, which does not say how its tasks are
built: five independent pairs of coordinates each (Beta: one), with the MI of a pair exact."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from infoatlas_rl.distributions.task import Array, BenchmarkTask, Sampler, normal_cdf, table_mi


def copula(d: int, quantile: Callable[[Array], Array], rho: float = 0.5) -> Sampler:
    """Pairs with a Gaussian copula and given margins."""

    def sample(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        x, noise = rng.standard_normal((2, n, d))
        y = rho * x + math.sqrt(1 - rho**2) * noise
        return quantile(normal_cdf(x)), quantile(normal_cdf(y))

    return sample


def _beta_quantile(u: Array) -> Array:
    """Of Beta(2, 1)."""
    return np.sqrt(u)


def _gamma_quantile(u: Array) -> Array:
    """Of Gamma(2, 1): its distribution function is 1 - (1 + t) exp(-t)."""
    grid = np.linspace(0, 60, 60_001)
    return np.interp(u, 1 - (1 + grid) * np.exp(-grid), grid)


def noisy_label(d: int, labels: int, noise: float) -> Sampler:
    """Uniform labels; y is x or, with probability ``noise``, another label."""

    def sample(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        x = rng.integers(0, labels, (n, d))
        changed = rng.random((n, d)) < noise
        y = np.where(changed, (x + rng.integers(1, labels, (n, d))) % labels, x)
        return x.astype(float), y.astype(float)

    return sample


def noisy_label_mi(labels: int, noise: float) -> float:
    table = np.full((labels, labels), noise / (labels - 1) / labels)
    np.fill_diagonal(table, (1 - noise) / labels)
    return table_mi(table)


def shared_count(d: int, shared: float, own: float) -> Sampler:
    """x = a + c, y = b + c with Poisson counts a, b of rate ``own`` and c of rate ``shared``."""

    def sample(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        c = rng.poisson(shared, (n, d))
        return (rng.poisson(own, (n, d)) + c).astype(float), (rng.poisson(own, (n, d)) + c).astype(float)

    return sample


def shared_count_mi(shared: float, own: float, top: int = 60) -> float:
    def mass(rate: float) -> Array:
        counts = np.arange(top)
        return np.exp(counts * math.log(rate) - rate - np.array([math.lgamma(k + 1) for k in counts]))

    a, c = mass(own), mass(shared)
    table = np.zeros((top, top))
    for k in range(top):
        table[k:, k:] += c[k] * np.outer(a[: top - k], a[: top - k])
    return table_mi(table)


DISCRETE_TASKS: tuple[BenchmarkTask, ...] = (
    BenchmarkTask("Beta-1d", "Gaussian copula, rho = 0.5", -0.5 * math.log(0.75), copula(1, _beta_quantile)),
    BenchmarkTask("Gamma-5d", "Gaussian copula, rho = 0.5", -2.5 * math.log(0.75), copula(5, _gamma_quantile)),
    BenchmarkTask("Bern-5d", "noisy label, 1/4", 5 * noisy_label_mi(2, 0.25), noisy_label(5, 2, 0.25)),
    BenchmarkTask("Poisson-5d", "shared count, rates 2", 5 * shared_count_mi(2.0, 2.0), shared_count(5, 2.0, 2.0)),
    BenchmarkTask("Cat-5d", "noisy label of four, 0.54", 5 * noisy_label_mi(4, 0.54), noisy_label(5, 4, 0.54)),
)
