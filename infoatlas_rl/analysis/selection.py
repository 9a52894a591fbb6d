"""Scores of features for a target, as scikit-learn's feature selection wants them."""

from __future__ import annotations

import warnings
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infoatlas_rl.estimator.inputs import check_dense, check_index, on_host, to_tensor
from infoatlas_rl.estimator.model import shared_pretrained

BATCH = 32
"""Features that are worked on at the same time."""


def feature_information(X: Any, y: Any, *, weights: str = "base") -> NDArray[np.float64]:
    """Mutual information of every feature with the target, ``(d,)``, in nats.

    A score function of scikit-learn, ``SelectKBest(feature_information, k=10).fit(X, y)``.

    Examples:
        >>> X = np.random.default_rng(0).normal(size=(400, 3))
        >>> int(feature_information(X, X[:, 1] > 0).argmax())
        1

    Args:
        X: ``(n, d)``, numbers.
        y: ``(n,)``; numbers of floating point and times are a target of a regression, all else are class labels. Of more than 20
            different integers there is a warning.

    Raises:
        TypeError, ValueError: other shapes, or what :func:`infoatlas_rl.estimate_mi` refuses.
    """
    check_index(X, y, first="X")
    for name, samples in (("X", X), ("y", y)):
        check_dense(name, samples)
        if np.ma.is_masked(samples):
            raise ValueError(f"{name} has masked values, so samples without them: drop those rows of X and of y")
    features, target = (_numbers(np.asarray(on_host(samples))) for samples in (X, y))
    if features.ndim != 2 or 0 in features.shape or features.dtype.kind not in "bifu":
        raise ValueError(f"X has shape {features.shape} and type {features.dtype}; accepted are numbers (n, d)")
    if target.ndim != 1 or len(target) != len(features):
        raise ValueError(f"y has shape {target.shape}; accepted is ({len(features)},), as many as X has rows")
    model, labels = shared_pretrained(weights), target.dtype.kind not in "fmM"
    if labels:
        kinds = len(np.unique(target)) if target.dtype.kind in "iu" else 0
        if kinds > model.config.max_dim:
            message = (
                f"y has {kinds} different integers, which are taken as classes without an order; y.astype(float) is a regression"
            )
            warnings.warn(message, stacklevel=2)
        target = to_tensor("y", target, labels=True).numpy()
    found = []
    for start in range(0, features.shape[1], BATCH):
        x = features.T[start : start + BATCH, :, None].astype(np.float64)
        found.append(
            model.estimate(
                x,
                np.broadcast_to(target, x.shape[:2]).copy() if labels else np.broadcast_to(target[:, None], x.shape).copy(),
                classes="y" if labels else None,
            ).mi
        )
    return np.concatenate(found)


def _numbers(array: NDArray[Any]) -> NDArray[Any]:
    """Objects that are all numbers or booleans as such, of the type that they have together; all else as it is."""
    if array.dtype == object and array.size and all(isinstance(value, Real | np.bool_) for value in array.flat):
        together = np.array(array.tolist())
        return together if together.dtype.kind in "biuf" else array.astype(np.float64)
    return array
