"""``THREE_FAMILIES`` are those for which the error is followed as n grows, ``Mixture`` is a random mixture of Gaussians."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from infoatlas_rl.distributions.task import Array, Sampler, student_mi

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


THREE_FAMILIES: dict[str, tuple[Sampler, Callable[[], float]]] = {
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
