"""Information that was measured at some places of the clock, and its average over measurements."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

REACH = 8
"""Ticks before and after a key state that are looked at when it is refined."""
KERNEL = 1.0
"""Standard deviation, in ticks, of the kernel that averages them."""


@dataclass(frozen=True)
class Measurement:
    """Information that key states at some places would have about the motion between two neighbours."""

    neighbours: tuple[int, int]
    places: Array
    information: Array

    def fits(self, a: int, b: int) -> bool:
        """Whether the neighbours are still about where they were."""
        return abs(self.neighbours[0] - a) + abs(self.neighbours[1] - b) <= REACH // 2


def smooth(ticks: NDArray[np.int64], seen: list[Measurement]) -> Array:
    """Kernel regression of measured information over ticks; later measurements, made with better neighbours, count more."""
    total, weight = np.zeros(len(ticks)), np.full(len(ticks), 1e-9)
    for age, measured in enumerate(reversed(seen)):
        kernel = 0.85**age * np.exp(-0.5 * ((ticks[:, None] - measured.places) / KERNEL) ** 2)
        total += kernel @ measured.information
        weight += kernel.sum(1)
    return total / weight
