"""Rules of thumb for key states, to compare with: no learning, and all but the last one demonstration at a time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from infoatlas_rl.keystates.finder import KeyStateFinder
from infoatlas_rl.keystates.trajectories import column_scales
from infoatlas_rl.loss import InfoAtlasLoss

Array = NDArray[np.float64]
Steps = NDArray[np.int64]

CHANGE = 1e-3
"""The gripper moves when its width changes by more than this per step, in m."""


def evenly_spaced(lengths: Sequence[int], concepts: int) -> Steps:
    """K key states at 1/K, 2/K, ..., 1 of every trajectory, ``(N, K)``; the last is the final state."""
    phases = (np.arange(concepts) + 1) / concepts
    return np.rint(phases[None] * (np.asarray(lengths)[:, None] - 1)).astype(np.int64)


def last_state(lengths: Sequence[int]) -> Steps:
    """The final state alone, ``(N, 1)``."""
    return np.asarray(lengths, dtype=np.int64)[:, None] - 1


def velocity_minima(trajectories: Sequence[Array], concepts: int, distance: int = 5) -> list[Steps]:
    """The K - 1 most prominent local minima of the speed of every trajectory, and its final state.

    Speed is the length of the change of the states, scaled by their standard deviation, over two steps; a minimum at rest is
    the middle of the rest, and its prominence is how far the speed rises on both sides of it. Fewer where there are fewer.
    """
    _, scale = column_scales(trajectories)
    out = []
    for trajectory in trajectories:
        z = np.asarray(trajectory) / scale
        speed = np.linalg.norm(z[2:] - z[:-2], axis=1) if len(z) > 2 else np.zeros(1)
        speed = np.concatenate([speed[:1], speed, speed[-1:]])[: len(z)]
        found: list[int] = []
        for step in sorted(_minima(speed), key=lambda step: -_prominence(speed, step)):
            if all(abs(step - other) > distance for other in [*found, len(z) - 1]) and len(found) < concepts - 1:
                found.append(step)
        out.append(np.array([*sorted(found), len(z) - 1], dtype=np.int64))
    return out


def gripper_changes(widths: Sequence[Array]) -> list[Steps]:
    """The step at which each movement of the gripper ends, and the final state; ``widths`` are arrays ``(t,)`` in m."""
    out = []
    for width in widths:
        moving = np.concatenate([[False], np.abs(np.diff(width)) > CHANGE, [False]])
        ends = np.nonzero(moving[:-1] & ~moving[1:])[0]
        out.append(np.unique(np.append(ends, len(width) - 1)).astype(np.int64))
    return out


def waypoints(trajectories: Sequence[Array], concepts: int) -> list[Steps]:
    """The K - 1 states between which straight lines follow every trajectory best, and its final state: waypoint extraction (AWE,
    Shi et al. 2023), greedy: one more where the trajectory is farthest from the lines so far."""
    _, scale = column_scales(trajectories)
    out = []
    for trajectory in trajectories:
        z = np.asarray(trajectory) / scale
        chosen = [0, len(z) - 1]
        while len(chosen) < min(concepts + 1, len(z)):
            offsets = np.concatenate([_offsets(z[a : b + 1])[:-1] for a, b in itertools.pairwise(chosen)])
            chosen = sorted({*chosen, int(offsets.argmax())})
            if offsets.max() <= 0:
                break
        out.append(np.array(chosen[1:], dtype=np.int64))
    return out


def approaches(trajectories: Sequence[Array], concepts: int, distance: int = 5) -> list[Steps]:
    """The last K - 1 states from which a trajectory does not come nearer and nearer to the next of them, and its final state: the
    decomposition of UVD (Zhang et al. 2024), on states instead of learned features."""
    _, scale = column_scales(trajectories)
    out = []
    for trajectory in trajectories:
        z, found = np.asarray(trajectory) / scale, [len(trajectory) - 1]
        while len(found) < concepts and found[-1] > 2 * distance:
            far = np.convolve(np.linalg.norm(z[: found[-1] + 1] - z[found[-1]], axis=1), np.ones(3) / 3, mode="same")
            step = found[-1] - distance
            while step > 1 and far[step - 1] >= far[step]:
                step -= 1
            if step <= distance:
                break
            found.append(step)
        out.append(np.array(found[::-1], dtype=np.int64))
    return out


def _offsets(z: Array) -> Array:
    """Distances ``(t,)`` of states from the straight line from the first to the last."""
    line = z[-1] - z[0]
    share = ((z - z[0]) @ line / max(line @ line, 1e-12)).clip(0, 1)
    return np.linalg.norm(z - z[0] - share[:, None] * line, axis=1)


# Peaks of `scipy.signal` would do, but these rules are part of the library, which needs no SciPy.
def _minima(speed: Array) -> list[int]:
    """Middles of the runs that are lower than both neighbours, with a tenth of a median step as the resolution."""
    level = np.round(speed / (0.1 * np.median(speed) + 1e-12)).astype(int)
    starts = np.nonzero(np.diff(level, prepend=level[0] - 1))[0]
    ends = np.append(starts[1:], len(level)) - 1
    inner = range(1, len(starts) - 1)
    return [int(starts[i] + ends[i]) // 2 for i in inner if level[starts[i]] < min(level[starts[i - 1]], level[starts[i + 1]])]


def _prominence(speed: Array, step: int) -> float:
    """How far the speed rises on the lower side before it falls below its value at ``step``."""
    sides = []
    for side in (speed[:step][::-1], speed[step + 1 :]):
        lower = np.nonzero(side < speed[step])[0]
        reach = side[: lower[0]] if len(lower) else side
        sides.append(reach.max() - speed[step] if len(reach) else 0.0)
    return float(min(sides))


APART = 0.05
"""Least distance of the maxima of the profile, as a share of the trajectory."""


def profile_maxima(finder: KeyStateFinder, mi_loss: InfoAtlasLoss, concepts: int) -> np.ndarray:
    """The objective of MaxMI on the common clock: the K - 1 highest places of MI(s_t; s_(t - delta)), apart from each other, and
    the final state."""
    steps, pointwise = finder.profile(mi_loss, every=2, most=len(finder.trajectories))
    phase, profile = finder.clock.phase[finder.config.delta : -1 : 2], pointwise.mean(0)
    chosen: list[int] = []
    for place in np.argsort(-profile):
        apart = all(abs(phase[place] - phase[other]) >= APART for other in chosen)
        if apart and phase[place] <= 1 - APART and len(chosen) < concepts - 1:
            chosen.append(int(place))
    return np.concatenate([steps[:, sorted(chosen)], last_state(finder.trajectories.lengths)], axis=1)
