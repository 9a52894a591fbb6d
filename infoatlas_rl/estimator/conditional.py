"""Conditional mutual information by the chain rule, I(x; y | z) = I(x; y, z) - I(x; z), with an interval."""

from __future__ import annotations

import math
from typing import Any

from torch import cat

from infoatlas_rl.checks import check_samples
from infoatlas_rl.estimator.estimate import Estimate, to_tensor


def conditional_estimate(model: Any, x: Any, y: Any, given: Any, **options: Any) -> Estimate:
    """I(x; y | z) of one data set, in nats.

    ``mi`` is the difference of two calibrated estimates, and at least 0; ``interval`` is as wide as if their errors were
    independent, in truth they partly cancel; ``bound`` is the difference of two bounds, and so none itself.

    Args:
        model: :class:`~infoatlas_rl.estimator.model.InfoAtlas`.
        given: z, ``(n, dz)`` or ``(n,)``.
        options: of its ``estimate``, but for slices, permutations and classes.

    Raises:
        ValueError: what cannot be conditional: slices, permutations, classes, batches, or more than 20 columns of x, or of y and
            z together.
    """
    for name, without in (("slices", None), ("permutations", 0), ("classes", None), ("cross_fit", False)):
        if options.get(name, without) != without:
            hint = "; give columns of zeros and ones" if name == "classes" else ""
            raise ValueError(f"{name} is not possible with given{hint}")
    sides = {name: to_tensor(name, side, False) for name, side in (("x", x), ("y", y), ("given", given))}
    # Twice, so that the message names the side that is wrong.
    a, b, batched = check_samples(sides["x"], sides["y"], None)
    _, c, _ = check_samples(sides["x"], sides["given"], None)
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
