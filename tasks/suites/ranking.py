"""How well scores tell two groups apart: areas under the ROC and the precision-recall curve."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def roc_auc(without: Sequence[float], with_it: Sequence[float]) -> float:
    """How often a member of the group has the larger score; half for ties."""
    difference = np.subtract.outer(np.asarray(with_it), np.asarray(without))
    return float((difference > 0).mean() + 0.5 * (difference == 0).mean())


def average_precision(without: Sequence[float], with_it: Sequence[float]) -> float:
    """Area under the precision-recall curve as a sum of steps, one for every score; those with equal scores come at once."""
    members, others = np.sort(np.asarray(with_it)), np.sort(np.asarray(without))
    above = len(members) - np.searchsorted(members, members, "left")
    false = len(others) - np.searchsorted(others, members, "left")
    return float((above / (above + false)).mean())
