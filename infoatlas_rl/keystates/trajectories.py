"""Trajectories of different lengths and speeds, made comparable.

Columns are standardised, and every trajectory is resampled to the same number of ticks, evenly in the *distance moved*
rather than in time: how fast a demonstrator went, and how long it waited, then matters little. Nothing is cut and nothing
is padded; every tick knows its step of the original trajectory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from infoatlas_rl.checks import check_whole

Array = NDArray[np.float64]

MIN_TRAJECTORIES = 20
"""For the MI of states over trajectories; key states, which rest on the motions of all ticks, need but one."""
MOST_TICKS = 200
"""Longer trajectories are resampled to this many ticks."""
LEAST_SPREAD = 0.1
"""Columns that vary less than this share of the typical column are not blown up to its size: that would be noise."""
ROUNDING = 1e-9, 2e-7
"""Columns that vary by less than this share of their size are constant; the second if their numbers are of single precision."""
WAITING = 0.3
"""A step at rest counts as this share of an average step."""


GLITCH = 0.5
"""A reading is a glitch if it is off the median of the five around it by this share of the range of its column."""


@dataclass(frozen=True)
class Resampled:
    """Standardised trajectories on a common number of ticks."""

    states: NDArray[np.float32]
    """``(N, T, d)``, of the columns that change."""
    step_of_tick: Array
    """``(N, T)``: step of the original trajectory at every tick, fractional."""
    speeds: list[Array]
    """``(t_i,)`` each: speed at every step, as a share of the mean speed of the set."""


class TrajectorySet:
    """Standardised trajectories on a common number of ticks.

    Leave velocities out of the states: motion is taken from the positions. Glitches of a sensor, readings for a step or two that
    are far off all around them, are replaced by the median of their neighbours.

    Args:
        trajectories: arrays ``(t_i, d)`` of one d, the states of one demonstration each.
        delta: the look-back that is asked for later, in ticks.

    Raises:
        ValueError: no trajectories, one too short for ``delta``, different d, NaN or infinity, or no column
            that changes in any of them.
    """

    def __init__(self, trajectories: Sequence[Array], delta: int = 2) -> None:
        _check(trajectories, delta)
        self._range = _typical_range(trajectories)
        trajectories = [self._without_glitches(trajectory) for trajectory in trajectories]
        self._mean, self._scale = column_scales(trajectories)
        self._changing = np.isfinite(self._scale)
        if not self._changing.any() or not any((np.ptp(t, axis=0) > 0).any() for t in trajectories):
            raise ValueError("the states never change: every column is constant along every trajectory (variance 0)")
        self.delta = delta
        self.lengths = np.array([len(trajectory) for trajectory in trajectories])
        self.ticks = int(min(np.median(self.lengths), MOST_TICKS))
        """T"""
        self._speed = float(np.mean([_distances(self._standardise(t)).mean() for t in trajectories]))
        resampled = self.resample(trajectories)
        self.states, self.step_of_tick, self.speeds = resampled.states, resampled.step_of_tick, resampled.speeds
        """As in :class:`Resampled`."""

    def __len__(self) -> int:
        return len(self.states)

    @property
    def dim(self) -> int:
        return self.states.shape[-1]

    def resample(self, trajectories: Sequence[Array]) -> Resampled:
        """Other trajectories with the standardisation of this set."""
        _check(trajectories, self.delta, dim=len(self._mean))
        states, steps, speeds = [], [], []
        for trajectory in trajectories:
            z = self._standardise(self._without_glitches(trajectory))
            moved = _distances(z)
            progress = np.concatenate([[0.0], np.cumsum(moved + WAITING * self._speed)])
            step = np.interp(np.linspace(0, 1, self.ticks), progress / progress[-1], np.arange(len(z)))
            states.append(interpolate(z, step).astype(np.float32))
            steps.append(step)
            # Mean of the steps before and after a state.
            speeds.append(np.convolve(np.pad(moved, 1, mode="edge"), [0.5, 0.5], mode="valid") / self._speed)
        return Resampled(np.stack(states), np.stack(steps), speeds)

    def _without_glitches(self, trajectory: Array) -> Array:
        values = np.asarray(trajectory, dtype=np.float64)
        usual = _running_median(values)
        return np.where(np.abs(values - usual) > GLITCH * self._range, usual, values)

    def _standardise(self, trajectory: Array) -> Array:
        """Without the columns that never change."""
        return ((np.asarray(trajectory, dtype=np.float64) - self._mean) / self._scale).clip(-10, 10)[:, self._changing]


def require_trajectories(count: int) -> None:
    """As many as the MI of states over trajectories needs, or a ValueError."""
    if count < MIN_TRAJECTORIES:
        raise ValueError(
            f"{count} trajectories; MI between their states needs at least {MIN_TRAJECTORIES}. The key states of fewer, without "
            "the MI profile, are found by KeyStateFinder, and by tasks/generate_demos.py"
        )


def column_scales(trajectories: Sequence[Array]) -> tuple[Array, Array]:
    """Mean ``(d,)`` and scale ``(d,)`` of every column over all states, in the unit of the states.

    The scale is the standard deviation, with a floor, and infinity for a column that never changes beyond rounding; it carries
    nothing, and becomes zero rather than noise. In another unit of length everything comes out the same.
    """
    everything = np.concatenate([np.asarray(trajectory, dtype=np.float64) for trajectory in trajectories])
    size = np.abs(everything).max(0)
    largest = float(size.max(initial=0.0))
    # Squares of very small or large numbers under- or overflow; a power of two as the unit changes no digit.
    exponent = math.frexp(largest)[1]
    scaled = np.ldexp(everything, -exponent)
    mean, spread = np.ldexp(scaled.mean(0), exponent), np.ldexp(scaled.std(0), exponent)
    with np.errstate(over="ignore"):
        rounding = np.where((everything == everything.astype(np.float32)).all(0), *ROUNDING[::-1])
    changing = spread > np.maximum(ROUNDING[0] * min(1.0, largest), rounding * size)
    floor = LEAST_SPREAD * np.median(spread[changing]) if changing.any() else 0.0
    return mean, np.where(changing, np.maximum(spread, floor), np.inf)


def _typical_range(trajectories: Sequence[Array]) -> Array:
    """Range ``(d,)`` of every column over all trajectories, glitches aside."""
    usual = [_running_median(np.asarray(trajectory, dtype=np.float64)) for trajectory in trajectories]
    return np.max([median.max(0) for median in usual], axis=0) - np.min([median.min(0) for median in usual], axis=0)


def _running_median(values: Array) -> Array:
    """Median ``(t, d)`` of the five values around each; at the ends of three."""
    padded = np.pad(values, ((2, 2), (0, 0)), mode="reflect" if len(values) > 2 else "edge")
    return np.median(np.lib.stride_tricks.sliding_window_view(padded, 5, axis=0), axis=-1)


def interpolate(trajectory: NDArray, position: Array) -> NDArray:
    """States ``(p, d)`` of a trajectory ``(t, d)`` at fractional positions ``(p,)``, linear between steps."""
    lower = np.clip(position.astype(int), 0, len(trajectory) - 2)
    fraction = (position - lower)[:, None]
    return (1 - fraction) * trajectory[lower] + fraction * trajectory[lower + 1]


def _distances(trajectory: Array) -> Array:
    return np.linalg.norm(np.diff(trajectory, axis=0), axis=1)


def _check(trajectories: Sequence[Array], delta: int, dim: int | None = None) -> None:
    check_whole("delta", delta, least=1)
    if len(trajectories) == 0:
        raise ValueError("no trajectories")
    for index, trajectory in enumerate(trajectories):
        shape = np.shape(trajectory)
        if len(shape) != 2:
            raise ValueError(f"trajectory {index} has shape {shape}; give a list of arrays (steps, dimensions), one each")
        dim = shape[1] if dim is None else dim
        if shape[1] != dim:
            raise ValueError(f"trajectory {index} has shape {shape}; all have to be (steps, {dim})")
        if shape[0] < delta + 2:
            raise ValueError(f"trajectory {index} has {shape[0]} steps; with delta = {delta} at least {delta + 2} are needed")
        try:
            finite = np.isfinite(np.asarray(trajectory, dtype=np.float64))
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(f"trajectory {index} cannot be read as an array of numbers ({error})") from error
        if not finite.all():
            step, column = (int(place) for place in np.argwhere(~finite)[0])
            raise ValueError(
                f"trajectory {index} contains NaN or infinity, at step {step} in column {column}; fill it, or leave it out"
            )
