"""Tasks as tables of people have them: columns beside the informative ones that add nothing, for they follow from the others
(copies, units, sums, products, codes) or are noise. The truth is that of the informative columns."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from infoatlas_rl.distributions.task import Array, BenchmarkTask, Sampler
from infoatlas_rl.distributions.varied import varied_tasks

Extend = Callable[[Array, np.random.Generator], Array]


def _gaussian(d: int, rho: float) -> Sampler:
    def sample(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        x, noise = rng.standard_normal((2, n, d))
        return x, rho * x + math.sqrt(1 - rho**2) * noise

    return sample


def _angle(spread: float) -> Sampler:
    """An angle, and the same angle with noise."""

    def sample(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        x = rng.uniform(-math.pi, math.pi, (n, 1))
        return x, (x + spread * rng.standard_normal((n, 1)) + math.pi) % (2 * math.pi) - math.pi

    return sample


def _angle_mi(spread: float, cells: int = 20_000) -> float:
    """log 2 pi less the entropy of the wrapped noise, on a grid."""
    angle = (np.arange(cells) + 0.5) / cells * 2 * math.pi - math.pi
    turns = angle[:, None] + 2 * math.pi * np.arange(-3, 4)
    density = np.exp(-0.5 * (turns / spread) ** 2).sum(1) / (spread * math.sqrt(2 * math.pi))
    return float(np.mean(density * np.log(2 * math.pi * density)) * 2 * math.pi)


def _copies(count: int, noise: float = 0.0) -> Extend:
    return lambda side, rng: side[:, np.arange(count) % side.shape[1]] + noise * rng.standard_normal((len(side), count))


def _sums(count: int, noise: float = 0.0) -> Extend:
    """Random weights, the same ones in every data set."""

    def extend(side: Array, rng: np.random.Generator) -> Array:
        weights = np.random.default_rng(count).standard_normal((side.shape[1], count))
        return side @ weights + noise * rng.standard_normal((len(side), count))

    return extend


def _products(side: Array, rng: np.random.Generator) -> Array:
    i, j = np.triu_indices(side.shape[1])
    return side[:, i] * side[:, j]


def _noise(count: int) -> Extend:
    return lambda side, rng: rng.standard_normal((len(side), count))


def _units(side: Array, rng: np.random.Generator) -> Array:
    return np.hstack([1.8 * side + 32, np.exp(0.1 * side), np.arctan(side)])


def _circle(side: Array, rng: np.random.Generator) -> Array:
    return np.hstack([np.cos(side), np.sin(side)])


def _number(side: Array, rng: np.random.Generator) -> Array:
    """The number of a one-hot class, or how many of the columns are set."""
    return (side @ np.arange(1, side.shape[1] + 1))[:, None]


def _total(side: Array, rng: np.random.Generator) -> Array:
    return side.sum(1, keepdims=True)


def _extended(sampler: Sampler, x: Extend | None, y: Extend | None) -> Sampler:
    def sample(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        sides = sampler(n, rng)
        added = [[] if extend is None else [extend(side, rng)] for side, extend in zip(sides, (x, y), strict=True)]
        return np.hstack([sides[0], *added[0]]), np.hstack([sides[1], *added[1]])

    return sample


def derived_tasks() -> tuple[BenchmarkTask, ...]:
    """In a fixed order."""
    known = {task.name: task for task in varied_tasks()}
    four, mi_four = _gaussian(4, 0.6), -2 * math.log(1 - 0.6**2)
    two, mi_two = _gaussian(2, 0.8), -math.log(1 - 0.8**2)
    three = _gaussian(3, 0.0)
    student, clayton = known["Student-2d-5-0.5"], known["Clayton-1"]
    flags, classes, counts = known["Bernoulli-3d"], known["class 3-4d"], known["Poisson-3d"]
    rows: list[tuple[str, float, Sampler, Extend | None, Extend | None]] = [
        ("Gaussian-4d alone", mi_four, four, None, None),
        ("and 4 copies", mi_four, four, _copies(4), _copies(4)),
        ("and 16 copies", mi_four, four, _copies(16), _copies(16)),
        ("and 4 copies with noise", mi_four, four, _copies(4, 0.05), _copies(4, 0.05)),
        ("and 12 sums", mi_four, four, _sums(12), _sums(12)),
        ("and 12 sums of x with noise", mi_four, four, _sums(12, 0.3), None),
        ("and all 10 products", mi_four, four, _products, _products),
        ("and other units", mi_four, four, _units, _units),
        ("Gaussian-2d and 16 columns of noise", mi_two, two, _noise(16), _noise(16)),
        ("Student-2d-5-0.5 and 6 sums", student.mi, student.sampler, _sums(6), _sums(6)),
        ("Clayton-1 and other units", clayton.mi, clayton.sampler, _units, _units),
        ("angle, its cosine and sine", _angle_mi(0.5), _angle(0.5), _circle, _circle),
        ("Bernoulli-3d and its total", flags.mi, flags.sampler, _total, _total),
        ("class 3-4d and its number", classes.mi, classes.sampler, _number, None),
        ("Poisson-3d and its total", counts.mi, counts.sampler, _total, _total),
        ("independent-3d and all 6 products", 0.0, three, _products, _products),
    ]
    return tuple(BenchmarkTask(name, "columns that add nothing", mi, _extended(base, x, y)) for name, mi, base, x, y in rows)
