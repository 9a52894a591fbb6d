"""Classical estimators to compare with, in nats."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.special import digamma, ndtri
from scipy.stats import gaussian_kde, rankdata

Array = NDArray[np.float64]


class TooFewSamplesError(ValueError):
    """An estimator says nothing of so few samples of so many columns."""


def ksg(x: Array, y: Array, k: int = 5) -> float:
    """Kraskov, Stoegbauer & Grassberger (2004), algorithm 1, with k-d trees on standardised columns; not below 0."""
    x, y = ((side - side.mean(0)) / (side.std(0) + 1e-12) for side in (x, y))
    # Ties are broken by noise too small to matter, as the authors advise.
    rng = np.random.default_rng(0)
    x, y = (side + 1e-10 * rng.standard_normal(side.shape) for side in (x, y))
    n = len(x)
    joint = np.concatenate([x, y], axis=1)
    radius = cKDTree(joint).query(joint, k=k + 1, p=np.inf, workers=-1)[0][:, -1]
    inside = np.nextafter(radius, 0)
    counts = [cKDTree(side).query_ball_point(side, inside, p=np.inf, return_length=True, workers=-1) for side in (x, y)]
    return max(float(digamma(k) + digamma(n) - (digamma(counts[0]) + digamma(counts[1])).mean()), 0.0)


def gaussian_copula(x: Array, y: Array) -> float:
    """MI of a Gaussian with the correlations of the normal scores."""
    z = normal_scores(np.concatenate([x, y], axis=1))
    covariance = np.cov(z, rowvar=False) + 1e-9 * np.eye(z.shape[1])
    blocks = covariance[: x.shape[1], : x.shape[1]], covariance[x.shape[1] :, x.shape[1] :], covariance
    log_det = [np.linalg.slogdet(block)[1] for block in blocks]
    return float(0.5 * (log_det[0] + log_det[1] - log_det[2]))


def kde(x: Array, y: Array) -> float:
    """Mean log ratio of kernel densities (Moon, Rajagopalan & Lall, 1995), of SciPy: Gaussian kernels, Silverman's width, each
    sample left out of the density at itself. On the normal scores, which have the same MI and no heavy tails."""
    n, columns = len(x), x.shape[1] + y.shape[1]
    if n <= columns:
        raise TooFewSamplesError(f"kernel densities of {columns} columns need more than {columns} samples, not {n}")
    x, y = normal_scores(x), normal_scores(y)
    joint, *margins = (_left_out_log_density(side) for side in (np.concatenate([x, y], axis=1), x, y))
    return float((joint - sum(margins)).mean())


def _left_out_log_density(samples: Array) -> Array:
    """``(n,)``, up to a constant factor (n - 1) / n."""
    n, d = samples.shape
    # Constant columns have no density; noise too small to matter gives them one.
    samples = samples + 1e-6 * np.random.default_rng(0).standard_normal(samples.shape)
    density = gaussian_kde(samples.T, "silverman")
    own = np.exp(-0.5 * (d * np.log(2 * np.pi) + np.linalg.slogdet(density.covariance)[1])) / n
    # As far from all others as rounding can tell: the density is no larger than that.
    return np.log(np.maximum(density(samples.T) - own, 1e-12 * own))


def normal_scores(z: Array) -> Array:
    """Columns ``(n, d)`` by their ranks, as normal quantiles."""
    return ndtri(np.apply_along_axis(rankdata, 0, z) / (len(z) + 1))
