"""A pair of random variables with known mutual information, and mutual informations in closed form; in nats."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

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


def table_mi(table: Array) -> float:
    """MI in nats of a joint probability table."""
    independent = table.sum(1, keepdims=True) * table.sum(0, keepdims=True)
    positive = table > 0
    return float((table[positive] * np.log(table[positive] / independent[positive])).sum())


def normal_cdf(x: Array) -> Array:
    return torch.special.ndtr(torch.from_numpy(x)).numpy()


def split(z: Array, dx: int) -> tuple[Array, Array]:
    """Columns of x and of y."""
    return z[:, :dx], z[:, dx:]


def _digamma(x: float) -> float:
    return float(torch.special.digamma(torch.tensor(x, dtype=torch.float64)))
