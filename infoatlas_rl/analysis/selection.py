"""Scores of features for a target, as scikit-learn's feature selection wants them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from infoatlas_rl.estimator.estimate import check_index, to_tensor
from infoatlas_rl.estimator.model import load_pretrained

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
        y: ``(n,)``; numbers of floating point are a target of a regression, all else are class labels.

    Raises:
        TypeError, ValueError: other shapes, or what :func:`infoatlas_rl.estimate_mi` refuses.
    """
    check_index(X, y, first="X")
    features, target = np.asarray(X), np.asarray(y)
    if features.ndim != 2 or features.dtype.kind not in "bifu":
        raise ValueError(f"X has shape {features.shape} and type {features.dtype}; accepted are numbers (n, d)")
    if target.ndim != 1 or len(target) != len(features):
        raise ValueError(f"y has shape {target.shape}; accepted is ({len(features)},), as many as X has rows")
    model, labels = load_pretrained(weights), target.dtype.kind != "f"
    if labels:
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
