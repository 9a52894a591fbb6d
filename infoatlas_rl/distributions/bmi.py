"""The forty tasks of the BMI benchmark (Czyz et al., NeurIPS 2023, "Beyond Normal"), written anew. Each keeps its exact MI: x and
y are transformed separately by invertible maps. ``BMI_TASKS`` are the eight of them in InfoAtlas' Table 1."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from infoatlas_rl.distributions.task import Array, BenchmarkTask, Sampler, gaussian_mi, normal_cdf, split, student_mi

_NORMAL = np.array([[1, 0.75], [0.75, 1]])


def _dense(d: int) -> Sampler:
    return lambda n, rng: split(rng.multivariate_normal(np.zeros(2 * d), _dense_covariance(d), size=n), d)


def _dense_covariance(d: int) -> Array:
    return np.eye(2 * d) * 0.5 + 0.5


def _sparse_covariance(d: int) -> Array:
    """Two interacting pairs of coordinates with correlation 4/5 (strength 2.0)."""
    covariance = np.eye(2 * d)
    for i in range(2):
        covariance[i, d + i] = covariance[d + i, i] = 0.8
    return covariance


def _sparse(d: int) -> Sampler:
    def sample(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        return split(rng.multivariate_normal(np.zeros(2 * d), _sparse_covariance(d), size=n), d)

    return sample


def _student(d: int, dof: float) -> Sampler:
    def sample(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        scale = np.sqrt(rng.chisquare(dof, size=(n, 1)) / dof)
        return split(rng.standard_normal((n, 2 * d)) / scale, d)

    return sample


def additive(epsilon: float) -> Sampler:
    """x is uniform in [0, 1], y = x + U(-epsilon, epsilon)."""

    def sample(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
        x = rng.uniform(0, 1, (n, 1))
        return x, x + rng.uniform(-epsilon, epsilon, (n, 1))

    return sample


def _normal(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    return split(rng.multivariate_normal(np.zeros(2), _NORMAL, size=n), 1)


def _bimodal(n: int, rng: np.random.Generator) -> tuple[Array, Array]:
    x, y = (normal_cdf(side) for side in _normal(n, rng))
    grid = np.linspace(-10, 15, 20_001)
    cdf_x = 0.3 * normal_cdf(grid) + 0.7 * normal_cdf(grid - 5)
    cdf_y = 0.5 * normal_cdf(grid + 1) + 0.5 * normal_cdf(grid - 3)
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


def _wiggly_x(x: Array) -> Array:
    return x + 0.4 * np.sin(x) + 0.2 * np.sin(1.7 * x + 1) + 0.03 * np.sin(3.3 * x - 2.5)


def _wiggly_y(y: Array) -> Array:
    return y - 0.4 * np.sin(0.4 * y) + 0.17 * np.sin(1.3 * y + 3.5) + 0.02 * np.sin(4.3 * y - 2.5)


def _swiss_roll(x: Array) -> Array:
    """From [0, 1] to a roll in the plane."""
    t = 1.5 * np.pi * (1 + 2 * x)
    return np.hstack([t * np.cos(t), t * np.sin(t)]) / 21


def _spirals(d: int) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
    return _spiral(0, 1, 1 / d), _spiral(1, 2, 1 / d)


def _uniform(base: Sampler) -> Sampler:
    return _mapped(base, normal_cdf, normal_cdf)


def _all() -> tuple[BenchmarkTask, ...]:
    one, tasks = gaussian_mi(_NORMAL, 1), []

    def add(origin: str, mi: float, sampler: Sampler) -> None:
        tasks.append(BenchmarkTask(_TABLE_1.get(origin, origin), origin, mi, sampler))

    add("1v1-normal-0.75", one, _normal)
    add("normal_cdf-1v1-normal-0.75", one, _uniform(_normal))
    add("1v1-additive-0.1", 0.1 + math.log(1 / 0.2), additive(0.1))
    add("1v1-additive-0.75", 0.25 / 0.75, additive(0.75))
    add("1v1-bimodal-0.75", one, _bimodal)
    add("wiggly-1v1-normal-0.75", one, _mapped(_normal, _wiggly_x, _wiggly_y))
    add("half_cube-1v1-normal-0.75", one, _mapped(_normal, _half_cube, _half_cube))
    add("swissroll_x-normal_cdf-1v1-normal-0.75", one, _mapped(_uniform(_normal), _swiss_roll, lambda y: y))
    for d in (2, 3, 5, 25, 50):
        add(f"multinormal-dense-{d}-{d}-0.5", gaussian_mi(_dense_covariance(d), d), _dense(d))
    for d in (2, 3, 5, 25):
        add(f"multinormal-sparse-{d}-{d}-2-2.0", gaussian_mi(_sparse_covariance(d), d), _sparse(d))
    for d, dof in ((1, 1), (2, 1), (2, 2), (3, 2), (3, 3), (5, 2), (5, 3)):
        add(f"student-identity-{d}-{d}-{dof}", student_mi(d, d, dof), _student(d, dof))
    for d, dof in ((1, 1), (2, 1), (3, 2), (5, 2)):
        arcsinh = _mapped(_student(d, dof), np.arcsinh, np.arcsinh)
        add(f"asinh-student-identity-{d}-{d}-{dof}", student_mi(d, d, dof), arcsinh)
    for d in (3, 5, 25):
        base, mi, name = _sparse(d), gaussian_mi(_sparse_covariance(d), d), f"multinormal-sparse-{d}-{d}-2-2.0"
        add(f"normal_cdf-{name}", mi, _uniform(base))
        add(f"half_cube-{name}", mi, _mapped(base, _half_cube, _half_cube))
        add(f"spiral-{name}", mi, _mapped(base, *_spirals(d)))
        add(f"spiral-normal_cdf-{name}", mi, _mapped(_uniform(base), *_spirals(d)))
    return tuple(tasks)


_TABLE_1 = {
    "multinormal-dense-5-5-0.5": "Mn-dense",
    "spiral-multinormal-sparse-3-3-2-2.0": "Spiral",
    "asinh-student-identity-5-5-2": "Asinh@St",
    "student-identity-3-3-3": "St",
    "normal_cdf-multinormal-sparse-3-3-2-2.0": "Uniform",
    "half_cube-multinormal-sparse-5-5-2-2.0": "Hc@Mn",
    "1v1-additive-0.1": "Additive",
    "1v1-bimodal-0.75": "Bimodal",
}
"""Origin to the column of Table 1, in its order."""

BMI_40: tuple[BenchmarkTask, ...] = _all()
BMI_TASKS: tuple[BenchmarkTask, ...] = tuple(next(task for task in BMI_40 if task.origin == origin) for origin in _TABLE_1)
