"""Thirty further tasks, none of them Gaussian, half of them discrete or mixed, with parameters of their own."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache

import numpy as np

from infoatlas_rl.distributions.bmi import additive
from infoatlas_rl.distributions.discrete import copula, noisy_label, noisy_label_mi, shared_count, shared_count_mi
from infoatlas_rl.distributions.task import Array, BenchmarkTask, Sampler, gaussian_mi, student_mi, table_mi


def _independent_pairs(d: int, pair: Sampler) -> Sampler:
    """d independent copies of a pair of single columns."""

    def sample(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        columns = [pair(n, rng) for _ in range(d)]
        return np.hstack([x for x, _ in columns]), np.hstack([y for _, y in columns])

    return sample


def _clayton(theta: float) -> Sampler:
    def sample(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        u, w = rng.uniform(size=(2, n, 1))
        return u, ((w ** (-theta / (1 + theta)) - 1) * u**-theta + 1) ** (-1 / theta)

    return sample


def _frank(theta: float) -> Sampler:
    def sample(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        u, w = rng.uniform(size=(2, n, 1))
        return u, -np.log1p(w * math.expm1(-theta) / (w + (1 - w) * np.exp(-theta * u))) / theta

    return sample


def _copula_mi(density: Callable[[Array, Array], Array], cells: int = 2000) -> float:
    """Integral of c log c over the unit square, midpoints of cells that are finer towards the edges."""
    t = (np.arange(cells) + 0.5) / cells
    u, weight = t**3 * (10 - 15 * t + 6 * t**2), 30 * t**2 * (1 - t) ** 2 / cells
    c = density(u[:, None], u[None])
    return float((c * np.log(np.maximum(c, 1e-300)) * weight[:, None] * weight[None]).sum())


def _clayton_density(theta: float) -> Callable[[Array, Array], Array]:
    return lambda u, v: (1 + theta) * (u * v) ** (-1 - theta) * np.maximum(u**-theta + v**-theta - 1, 1e-300) ** (-2 - 1 / theta)


def _frank_density(theta: float) -> Callable[[Array, Array], Array]:
    a = -math.expm1(-theta)

    def density(u: Array, v: Array) -> Array:
        return theta * a * np.exp(-theta * (u + v)) / (a - (1 - np.exp(-theta * u)) * (1 - np.exp(-theta * v))) ** 2

    return density


def _student(d: int, dof: float, rho: float) -> Sampler:
    """Correlated pairs of coordinates that share a scale."""

    def sample(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        x, noise = rng.standard_normal((2, n, d))
        scale = np.sqrt(rng.chisquare(dof, (n, 1)) / dof)
        return x / scale, (rho * x + math.sqrt(1 - rho**2) * noise) / scale

    return sample


def _student_mi(d: int, dof: float, rho: float) -> float:
    covariance = np.block([[np.eye(d), rho * np.eye(d)], [rho * np.eye(d), np.eye(d)]])
    return student_mi(d, d, dof) + gaussian_mi(covariance, d)


def _integer_and_uniform(m: int) -> Sampler:
    """x is one of m integers, y = x + U(0, 2) (Gao et al., 2017): log m - (m - 1) log 2 / m."""

    def sample(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        x = rng.integers(0, m, (n, 1)).astype(float)
        return x, x + rng.uniform(0, 2, (n, 1))

    return sample


def _integer_and_uniform_mi(m: int) -> float:
    return math.log(m) - (m - 1) / m * math.log(2)


def _zero_inflated(p: float) -> Sampler:
    """x is exponential; y is 0 with probability p, else Poisson of rate x (Gao et al., 2017). The published truth is too high,
    for it tells a 0 of one kind from one of the other; here the sum over y is done."""

    def sample(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        x = rng.exponential(size=(n, 1))
        return x, np.where(rng.uniform(size=(n, 1)) < p, 0, rng.poisson(x)).astype(float)

    return sample


def _zero_inflated_mi(p: float, top: int = 80) -> float:
    x = np.linspace(0, 60, 60_001)[:, None]
    k = np.arange(top)
    log_poisson = k * np.log(np.maximum(x, 1e-300)) - x - np.array([math.lgamma(i + 1) for i in k])
    mass = (1 - p) * np.exp(log_poisson) + p * (k == 0)
    weight = np.exp(-x) * (x[1, 0] - x[0, 0])
    weight[0] /= 2
    marginal = (mass * weight).sum(0)
    ratio = np.log(np.maximum(mass, 1e-300)) - np.log(np.maximum(marginal, 1e-300))
    return float((weight * mass * ratio).sum())


def _table(seed: int, rows: int, columns: int, power: float) -> Array:
    weights = np.random.default_rng(seed).uniform(size=(rows, columns)) ** power
    return weights / weights.sum()


def _from_table(table: Array, *, one_hot: bool) -> Sampler:
    """Labels of a joint table, as numbers or one-hot."""

    def sample(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        cell = rng.choice(table.size, n, p=table.ravel())
        sides = cell // table.shape[1], cell % table.shape[1]
        if one_hot:
            return np.eye(table.shape[0])[sides[0]], np.eye(table.shape[1])[sides[1]]
        return sides[0][:, None].astype(float), sides[1][:, None].astype(float)

    return sample


def _class_and_noise(classes: int, d: int, distance: float) -> Sampler:
    """A one-hot class, and d noisy coordinates whose means it decides, on a simplex of ``classes`` corners in the first ones."""

    def sample(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        codes = np.eye(classes)[rng.integers(0, classes, n)]
        noise = rng.standard_normal((n, d))
        noise[:, :classes] += distance * codes
        return codes, noise

    return sample


def _class_and_noise_mi(classes: int, distance: float) -> float:
    """By Monte Carlo integration over a million samples of the corners' coordinates."""
    noise = np.random.default_rng(0).standard_normal((1_000_000, classes))
    scores = distance * noise
    scores[:, 0] += distance**2
    return math.log(classes) - float(np.mean(np.logaddexp.reduce(scores, axis=1) - scores[:, 0]))


@cache
def varied_tasks() -> tuple[BenchmarkTask, ...]:
    """In a fixed order; the truths that are integrals take some seconds the first time."""
    tasks = []

    def add(name: str, origin: str, mi: float, sampler: Sampler) -> None:
        tasks.append(BenchmarkTask(name, origin, mi, sampler))

    def gauss(rho: float, d: int) -> float:
        return -0.5 * d * math.log(1 - rho**2)

    quantiles: dict[str, Callable[[Array], Array]] = {
        "lognormal": lambda u: np.exp(1.2 * np.log(u / (1 - u))),
        "Cauchy": lambda u: np.tan(np.pi * (u - 0.5)),
        "arcsine": lambda u: np.sin(np.pi * u / 2) ** 2,
        "exponential": lambda u: -np.log1p(-u),
    }
    for name, d, rho in (("lognormal", 1, 0.7), ("Cauchy", 2, 0.6), ("arcsine", 3, 0.4), ("exponential", 5, 0.5)):
        add(f"{name}-{d}d", f"Gaussian copula, rho = {rho}", gauss(rho, d), copula(d, quantiles[name], rho))
    for d, dof, rho in ((1, 4, 0.6), (2, 5, 0.5), (4, 4, 0.3), (1, 2, 0.0)):
        add(f"Student-{d}d-{dof}-{rho}", "shared scale", _student_mi(d, dof, rho), _student(d, dof, rho))
    for theta in (1.0, 4.0):
        add(f"Clayton-{theta:g}", "copula", _copula_mi(_clayton_density(theta)), _clayton(theta))
    add("Frank-6", "copula", _copula_mi(_frank_density(6.0)), _frank(6.0))
    pair = _independent_pairs(3, _frank(3.0))
    add("Frank-3-3d", "copula, three pairs", 3 * _copula_mi(_frank_density(3.0)), pair)
    add("uniform noise-0.3", "x + U(-0.3, 0.3)", 0.3 - math.log(0.6), additive(0.3))
    add("uniform noise-2", "x + U(-2, 2)", 0.125, additive(2.0))
    for m in (3, 8):
        add(f"integer {m}", "y = x + U(0, 2)", _integer_and_uniform_mi(m), _integer_and_uniform(m))
    integers = _independent_pairs(3, _integer_and_uniform(4))
    add("integer 4-3d", "y = x + U(0, 2), three pairs", 3 * _integer_and_uniform_mi(4), integers)
    add("zero-inflated 0.15", "Poisson of an exponential", _zero_inflated_mi(0.15), _zero_inflated(0.15))
    for d, noise in ((1, 0.1), (3, 0.3), (5, 0.4)):
        add(f"Bernoulli-{d}d", f"noise {noise}", d * noisy_label_mi(2, noise), noisy_label(d, 2, noise))
    for d, labels, noise in ((3, 3, 0.5), (4, 5, 0.6)):
        add(f"labels-{d}d", f"{labels}, noise {noise}", d * noisy_label_mi(labels, noise), noisy_label(d, labels, noise))
    for d, shared, own in ((1, 3.0, 1.0), (3, 1.0, 3.0), (5, 0.5, 1.0)):
        add(f"Poisson-{d}d", f"rates {shared}, {own}", d * shared_count_mi(shared, own), shared_count(d, shared, own))
    numbers = _table(1, 6, 4, 2.0)
    add("table 6 x 4", "as numbers", table_mi(numbers), _from_table(numbers, one_hot=False))
    codes = _table(2, 5, 5, 4.0)
    add("table 5 x 5", "one-hot", table_mi(codes), _from_table(codes, one_hot=True))
    add("class 3-4d", "one-hot and noise", _class_and_noise_mi(3, 1.5), _class_and_noise(3, 4, 1.5))
    add("class 6-8d", "one-hot and noise", _class_and_noise_mi(6, 4.0), _class_and_noise(6, 8, 4.0))
    return tuple(tasks)
