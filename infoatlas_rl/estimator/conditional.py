"""Conditional mutual information by the chain rule, I(x; y | z) = I(x; y, z) - I(x; z), with an interval."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from torch import cat

from infoatlas_rl.checks import Sides, check_samples
from infoatlas_rl.estimator.estimate import Estimate
from infoatlas_rl.estimator.inputs import check_index, to_tensor


def conditional_estimate(
    model: Any, x: Any, y: Any, given: Any, *, classes: str | Sequence[str] | None = None, **options: Any
) -> Estimate:
    """I(x; y | z) of one data set, in nats.

    ``mi`` is the difference of two calibrated estimates, and at least 0; ``interval`` is as wide as if their errors were
    independent, in truth they partly cancel; ``bound`` is the difference of two bounds, and so none itself.

    Args:
        model: :class:`~infoatlas_rl.estimator.model.InfoAtlas`.
        given: z, ``(n, dz)`` or ``(n,)``.
        classes: which of ``"x"``, ``"y"``, ``"given"`` are class labels ``(n,)`` without an order, one or several of them;
            ``"both"`` are x and y.
        options: of its ``estimate``, but for slices, permutations and cross_fit.

    Raises:
        ValueError: what cannot be conditional: slices, permutations, batches, or more than 20 columns of x, or of y and z
            together, where every class is a column.
    """
    for name, without in (("slices", None), ("permutations", 0), ("cross_fit", False)):
        if options.get(name, without) != without:
            raise ValueError(f"{name} is not possible with given")
    named = ("x", "y") if classes == "both" else (classes,) if isinstance(classes, str) else classes or ()
    if not isinstance(named, list | tuple | set) or any(name not in ("x", "y", "given") for name in named):
        raise ValueError(f"classes has to be of x, y and given, one or several of them, or both for x and y, not {classes!r}")
    labels = set(named)
    check_index(x, y)
    check_index(x, given, "given")
    sides = {name: to_tensor(name, side, name in labels) for name, side in (("x", x), ("y", y), ("given", given))}
    a, b, batched = check_samples(sides["x"], sides["y"], None, classes=_labelled("x" in labels, "y" in labels))
    try:
        _, c, _ = check_samples(sides["x"], sides["given"], None, classes=_labelled("x" in labels, "given" in labels))
    except (TypeError, ValueError) as error:
        raise type(error)(re.sub(r"\by\b", "given", str(error))) from None
    if batched:
        raise ValueError(f"x has shape {tuple(sides['x'].shape)}; conditional information is of one data set, (n, d)")
    limit = model.config.max_dim
    if max(a.shape[2], b.shape[2] + c.shape[2]) > limit:
        raise ValueError(
            f"x has {a.shape[2]} columns, y and given have {b.shape[2]} and {c.shape[2]}; x, and y and given together, may have "
            f"at most {limit}: the difference of two lower bounds, which projections give, says nothing"
        )
    joint, marginal = (model.estimate(a[0], side[0], **options) for side in (cat([b, c], dim=2), c))
    difference = joint.mi - marginal.mi
    below = math.hypot(joint.mi - joint.interval[0], marginal.interval[1] - marginal.mi)
    above = math.hypot(joint.interval[1] - joint.mi, marginal.mi - marginal.interval[0])
    return Estimate(
        mi=max(difference, 0.0),
        interval=(max(difference - below, 0.0), max(difference + above, 0.0)),
        bound=joint.bound - marginal.bound,
        p_value=None,
        n=joint.n,
        dims=(a.shape[2], b.shape[2]),
        given=c.shape[2],
    )


def _labelled(first: bool, second: bool) -> Sides | None:
    """Which sides of a pair are labels."""
    return "both" if first and second else "x" if first else "y" if second else None
