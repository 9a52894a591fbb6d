"""Where key states are placed, of a score along the clock."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

PEAK = 3
"""A peak is the largest score within so many ticks of it."""
SUMMIT = 2
"""Ticks before and after a key state from which its place between ticks is read off."""
KERNEL = 0.7
"""Standard deviation, in ticks, of the kernel that measured information is averaged with."""
LEVEL = 1e-6
"""Scores that differ by less are alike."""
DOUBT = 1.5
"""The information that is asked for may be so many times more or less, if that tells peaks apart better."""


def smooth(values: Array, deviation: float = KERNEL) -> Array:
    """Values ``(t,)``, one after the other, averaged with their neighbours; the standard deviation of the kernel is up to 1."""
    kernel = np.exp(-0.5 * (np.arange(-3, 4) / deviation) ** 2)
    return np.convolve(np.pad(values, 3, mode="edge"), kernel / kernel.sum(), mode="valid")


def peaks(score: Array, places: NDArray[np.int64], gap: float) -> list[int]:
    """Those of the ticks ``places`` at which the score ``(T,)`` is largest around, the best first; no two of them nearer than a
    gap, a share of all ticks, nor nearer to the beginning, nor than half of it to the end."""
    found: list[int] = []
    for tick in places[np.argsort(-score[places], kind="stable")]:
        around = score[max(0, tick - PEAK) : tick + PEAK + 1]
        highest = score[tick] >= around.max() and score[tick] > around.min() + LEVEL
        if highest and _fits(tick, [0, *found], len(score), gap):
            found.append(int(tick))
    return found


def told_apart(heights: list[float], worth: float, least: float) -> float:
    """The height from which on peaks count: ``worth``, or up to :data:`DOUBT` times more or less, where the gap between two of
    them, as a ratio, is widest. What lies just at the limit would be in or out by the noise of the measurement.

    Args:
        least: no height below it counts, and none if the highest is below ``worth``.
    """
    worth, floor = max(worth, least), max(worth / DOUBT**2, least, LEVEL)
    ordered = sorted([height for height in heights if height > floor], reverse=True)
    if not ordered or ordered[0] < worth:
        return worth
    within = [
        (above / below, above)
        for above, below in zip(ordered, [*ordered[1:], floor], strict=True)
        if above >= worth / DOUBT and below <= worth * DOUBT
    ]
    return max(within, default=(1.0, worth))[1]


def shoulders(chosen: list[int], count: int, score: Array, places: NDArray[np.int64], gap: float) -> list[int]:
    """Ticks, and the best of ``places`` that are further than a peak's width from them and from each other, up to ``count`` in
    all: two turns that follow each other closely are one peak."""
    chosen = list(chosen)
    for tick in places[np.argsort(-score[places], kind="stable")]:
        far = all(abs(tick - other) > PEAK for other in chosen)
        if len(chosen) < count and far and _fits(tick, [0, *chosen], len(score), gap):
            chosen.append(int(tick))
    return chosen


def divided(chosen: list[int], count: int, length: int, gap: float) -> list[int]:
    """Ticks and further ones, ``count`` in all, each in the middle of the longest stage that is left.

    Raises:
        ValueError: they do not fit.
    """
    chosen = sorted(chosen)
    while len(chosen) < count:
        stages = np.array([0, *chosen, length])
        longest = int(np.diff(stages).argmax())
        middle = int(stages[longest : longest + 2].sum()) // 2
        if not _fits(middle, [0, *chosen], length, gap):
            raise ValueError(
                f"{count + 1} concepts with a gap of {gap} do not fit: after {len(chosen) + 1} no stage is long enough to be "
                "divided; ask for fewer concepts or a smaller gap"
            )
        chosen = sorted([*chosen, middle])
    return chosen


def summits(score: Array, cuts: list[int]) -> list[float]:
    """The places of all cuts but the first and the last between ticks: the summits of parabolas through the scores around
    them, less than half of the way to a neighbour; cuts that are no peaks stay where they are."""
    found = []
    for before, tick, after in zip(cuts, cuts[1:], cuts[2:], strict=False):
        around = np.arange(max(tick - SUMMIT, 0), min(tick + SUMMIT + 1, len(score)))
        room = min(SUMMIT, 0.4 * (tick - before), 0.4 * (after - tick))
        curvature, slope, _ = np.polyfit(around - tick, score[around], 2) if len(around) > SUMMIT else (0.0, 0.0, 0.0)
        beside = score[max(tick - 1, 0) : tick + 2]
        is_peak = curvature < -LEVEL and score[tick] >= beside.max()
        found.append(tick + float(np.clip(-slope / (2 * curvature), -room, room)) if is_peak else float(tick))
    return found


def _fits(tick: int, others: list[int], length: int, gap: float) -> bool:
    apart = max(1, round(gap * length))
    return min(abs(tick - other) for other in others) >= apart and length - tick >= max(1, round(gap / 2 * length))
