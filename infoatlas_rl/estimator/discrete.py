"""Discrete sides: the entropy of one is the most information that anything can have about it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

SAMPLES_PER_VALUE = 8
"""Below so many samples for every different row, the entropy of the samples says little about that of their distribution."""


def row_entropy(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Entropy in nats of samples ``(b, n, d)`` as if their rows were values of a discrete variable, with the correction of Miller
    and Madow for its bias, and the number of different rows, ``(b,)`` each. Where all are different it is log n."""
    n = rows.shape[1]
    index = torch.arange(n, device=rows.device).expand(rows.shape[:2])
    # A row as one number: equal rows give equal numbers but for rounding, different ones almost surely do not.
    generator = torch.Generator().manual_seed(0)
    direction = torch.randn(rows.shape[2], generator=generator, dtype=torch.float64).to(rows.device)
    ordered = (rows.double() @ direction).sort(-1).values
    begins = torch.cat([torch.ones_like(index[:, :1], dtype=torch.bool), ordered.diff(dim=-1) > 1e-9], -1)
    start = torch.where(begins, index, 0).cummax(-1).values
    ends = torch.cat([begins[:, 1:], begins[:, :1]], -1)
    # At the last of equal rows, how many they are.
    counts = torch.where(ends, index - start + 1, 1).double()
    kinds = begins.sum(-1)
    entropy = math.log(n) - (counts * counts.log()).sum(-1) / n
    correction = torch.where(kinds < n, (kinds - 1) / (2 * n), 0.0)
    return (entropy + correction).clamp(min=0.0).to(rows), kinds  # of a constant it is 0 but for rounding


def most_information(entropies: Sequence[tuple[Tensor, Tensor]], n: int) -> Tensor:
    """Upper limit of the MI, ``(b,)``: the smaller entropy of those sides that are discrete, or infinity.

    Args:
        entropies: what :func:`row_entropy` returned for both sides of n samples.
    """
    limits = [torch.where(kinds * SAMPLES_PER_VALUE <= n, entropy, math.inf) for entropy, kinds in entropies]
    return torch.minimum(*limits)
