"""A permutation test of independence that writes one critic, however many permutations there are.

Half of the rows write the critic, and, of many dimensions, show which projections are informative; the others test it: the
mean of t(x_i, y_i) is compared with that of t(x_i, y_pi(i)) over random permutations pi. The critic knows nothing of the rows
that are permuted, so under independence all of these means have one distribution, and the p-value is exact (Phipson & Smyth
2010), whatever the critic is worth; what it is worth is the power. All of this holds for rows that are independent of each other:
two time series that have nothing to do with each other look dependent.

Dependence that is linear and spread thinly over many columns is seen better by all rows at once: the sum of the squared
correlations of all pairs of columns, as normal scores, is tested as well. Both share the level of the test (a weighted Bonferroni
correction): four fifths are the correlations', since what only the critic sees is mostly seen far beyond any level.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from infoatlas_rl.checks import MIN_SAMPLES, Sides, check_classes, check_samples, check_whole
from infoatlas_rl.estimator.copula import NormalScores
from infoatlas_rl.estimator.critic import Critic
from infoatlas_rl.estimator.estimate import LEAST_TO_PROJECT
from infoatlas_rl.estimator.inputs import check_index, to_tensor, without_constants, without_copies
from infoatlas_rl.estimator.model import InfoAtlas, shared_pretrained
from infoatlas_rl.estimator.projection import Projections

MOST_TESTED = 512
"""Rows that are permuted, at most: their pairs are all evaluated."""
MOST_FITTED = 8192
"""Rows that write the critic, at most."""
SHARES = (0.2, 0.8)
"""Of the level, of the critic and of the correlations."""
PAIRS = 32_768
"""Pairs that are evaluated at the same time."""
MOST_BY_ROWS = 4000
"""Rows whose products with each other, of all pairs of rows, are kept."""


@dataclass(frozen=True)
class IndependenceTest:
    """What a test came to."""

    p_value: float
    """Under independence it is at most p with a probability of at most p, where rows are independent of each other (those of a
    time series are not); at least 1.25 / (permutations + 1), and where only the critic sees it 5 / (permutations + 1)."""
    statistic: float
    """Mean of the critic over the rows held out, less its mean over their pairs, in nats; NaN where there is no critic."""
    z_score: float
    """How far critic or correlations are above their permutations, in standard deviations, less what the shared level costs;
    finer than the p-value where no permutation reaches the data."""
    permutations: int
    n: int

    def __str__(self) -> str:
        return f"p = {self.p_value:.3g}, z = {self.z_score:.1f}, {self.permutations} permutations, n = {self.n}"


@torch.no_grad()
def independence_test(
    x: Any, y: Any, *, permutations: int = 999, seed: int = 0, classes: Sides | None = None, weights: str = "base"
) -> IndependenceTest:
    """Test whether x and y are independent.

    Examples:
        >>> x, noise = np.random.default_rng(0).normal(size=(2, 300))
        >>> independence_test(x, x**2 + noise).p_value < 0.05   # uncorrelated, and dependent
        True

    Args:
        x: ``(n, dx)`` or ``(n,)``, array, tensor or data frame, of any dimension.
        y: likewise.
        classes: sides that are class labels, see :func:`infoatlas_rl.estimate_mi`.
        permutations: random ones, besides the identity.
        seed: of the division of the rows, and of the permutations.

    Raises:
        TypeError, ValueError: as :func:`infoatlas_rl.estimate_mi`; 16 rows are needed. Of more than 20 dimensions and fewer than
            128 rows correlations alone are tested, and have the whole level.
    """
    check_classes(classes)
    check_whole("permutations", permutations, least=1)
    check_whole("seed", seed)
    check_index(x, y)
    a, b = (to_tensor(name, side, classes in (name, "both")) for name, side in (("x", x), ("y", y)))
    a, b, batched = check_samples(a, b, None, classes=classes)
    if batched:
        raise ValueError(f"x has shape {tuple(a.shape)}; a test is of one data set, (n, d)")
    a, b = (side[0] for side in without_copies(without_constants(a), without_constants(b)))
    model, n = shared_pretrained(weights), len(a)
    if n < 2 * MIN_SAMPLES:
        raise ValueError(f"x and y have n = {n} samples; a test needs at least {2 * MIN_SAMPLES}")
    rng = np.random.default_rng(abs(seed))
    columns = [NormalScores(side[None]).fit_scores(side[None])[0].double().numpy() for side in (a, b)]
    if max(a.shape[1], b.shape[1]) > model.config.max_dim and n < 2 * LEAST_TO_PROJECT:
        p, z = _compared(_correlations(*columns), n, permutations, rng)
        return IndependenceTest(p, math.nan, z, permutations, n)
    values = _held_out_values(model, a, b, int(seed))
    rows = np.arange(len(values))
    by_critic = _compared(lambda order: values[rows, order].mean(), len(rows), permutations, rng)
    by_correlation = _compared(_correlations(*columns), n, permutations, rng)
    return IndependenceTest(
        p_value=min(1.0, *(p / share for (p, _), share in zip((by_critic, by_correlation), SHARES, strict=True))),
        statistic=float(np.diagonal(values).mean() - values.mean()),
        z_score=max(_within(z, share) for (_, z), share in zip((by_critic, by_correlation), SHARES, strict=True)),
        permutations=permutations,
        n=n,
    )


def _held_out_values(model: InfoAtlas, x: Tensor, y: Tensor, seed: int) -> NDArray[np.float64]:
    """The critic of one half of the rows, ``(n, d)``, at all pairs of the others."""
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    fit, held = order[: len(x) // 2][:MOST_FITTED], order[len(x) // 2 :][:MOST_TESTED]
    if max(x.shape[1], y.shape[1]) > model.config.max_dim:
        projections = Projections(x[fit], y[fit], model.config.max_dim, seed)
        x, y = projections.x(x), projections.y(y)
    critic = model(x[None, fit], y[None, fit])
    return _of_all_pairs(critic, x[None, held], y[None, held]).double().numpy()


def _compared(
    statistic: Callable[[NDArray[np.int64]], float], n: int, permutations: int, rng: np.random.Generator
) -> tuple[float, float]:
    """p-value and z-score of a statistic of the order of n rows of y, among random orders."""
    observed = float(statistic(np.arange(n)))
    permuted = np.array([statistic(rng.permutation(n)) for _ in range(permutations)])
    at_least = permuted >= observed - 1e-12 * abs(observed)  # the same order, added up otherwise
    return float((1 + at_least.sum()) / (permutations + 1)), float((observed - permuted.mean()) / max(permuted.std(), 1e-12))


def _within(z: float, share: float) -> float:
    """The z-score whose p-value is that of ``z`` over a share of the level."""
    p = math.erfc(z / math.sqrt(2)) / (2 * share)
    if p < 1e-300:  # there they are hardly different
        return z
    return max(-NormalDist().inv_cdf(p), min(z, 0.0)) if p < 1 else min(z, 0.0)


def _correlations(x: NDArray[np.float64], y: NDArray[np.float64]) -> Callable[[NDArray[np.int64]], float]:
    """The sum of the squared correlations of all pairs of columns, of an order of the rows of y."""
    x, y = (side - side.mean(0) for side in (x, y))
    x, y = (side / np.maximum(np.linalg.norm(side, axis=0), 1e-12) for side in (x, y))
    if len(x) > MOST_BY_ROWS or x.shape[1] * y.shape[1] <= 350 * len(x):
        return lambda order: float(np.square(x.T @ y[order]).sum())
    # The same by way of the rows, where there are far more pairs of columns than rows; else the matrix product is faster.
    gram_x, gram_y = x @ x.T, y @ y.T
    return lambda order: float((gram_x * gram_y[np.ix_(order, order)]).sum())


def _of_all_pairs(critic: Critic, x: Tensor, y: Tensor) -> Tensor:
    """Values ``(m, m)`` of the critic at the pairs (x_i, y_j) of samples ``(1, m, d)``."""
    side_x, side_y = critic.sides(x, y)
    m = x.shape[1]
    i, j = torch.meshgrid(torch.arange(m), torch.arange(m), indexing="ij")
    parts = zip(i.flatten().split(PAIRS), j.flatten().split(PAIRS), strict=True)
    return torch.cat([critic.values(side_x.at(p), side_y.at(q))[0] for p, q in parts], dim=1).view(m, m)
