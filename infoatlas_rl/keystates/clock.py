"""The common clock of demonstrations: what they do, how alike their times are, and where they rest, tick by tick.

Demonstrations are aligned by their states and by their motions. States alone say where a demonstration is on a way, and little of
where one way ends and the next begins, for around a turn they are nearly the same: the same event then lies further apart on the
clock from one demonstration to another, and all that is measured around it is a blur.

Whoever drives a robot halts, or nearly so, where one stage ends and the next begins. Ticks are even in distance, so a halt of
many steps is a few ticks: where a halt is, is told by its *rest*, which decides between turns that tell the same, and in every
demonstration by itself a key state settles in a rest that is near::

    rest = log max(1, RESTING / (speed / mean speed + 0.05))        0 while it moves, 3 where it stands still
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from infoatlas_rl.keystates.alignment import LEAST_STD, Alignment
from infoatlas_rl.keystates.placing import smooth
from infoatlas_rl.keystates.settings import KeyStateConfig
from infoatlas_rl.keystates.trajectories import TrajectorySet, interpolate

Array = NDArray[np.float64]

MOVING = 0.3
"""Motions that are much shorter than this share of the median have no direction."""
BLUR = KeyStateConfig.noise
"""Length of the noise with which unit motions are compared where demonstrations are aligned: what they are measured with."""
LEAST_COLUMNS = 30
"""Of fewer columns unit motions weigh as much as of these: a turn of two columns would weigh less than the way to it."""
RESTING = 1.0
"""Below this share of the mean speed a demonstration rests, the more the slower it is."""
STILL = 0.05
"""Speeds are not told apart below this share of the mean speed."""
SETTLING = 2.5, 5.0
"""A key state settles where a demonstration rests: standard deviation, and largest distance, in ticks."""


class Clock:
    """The clock on which demonstrations say most about the time, and what happens on it.

    Args:
        trajectories: N of them.
        delta: ticks between the two states of a motion.
    """

    def __init__(self, trajectories: TrajectorySet, delta: int) -> None:
        self.trajectories, self._half = trajectories, delta / 2
        moved = self._moved(trajectories.states, _own_ticks(trajectories.states))
        self._usual = float(np.median(np.linalg.norm(moved, axis=2)))
        self.alignment = Alignment(self._compared(trajectories.states, moved))
        self.steps = _steps(self.alignment.positions, trajectories.step_of_tick)
        """``(N, T)``: step of the original trajectory at every tick, fractional."""
        shares = self.steps / (trajectories.lengths[:, None] - 1)
        # A stage holds the ticks from one cut up to the next, which is the first of the next stage.
        self.phase = np.append(shares.mean(0), 1.0)
        """``(T + 1,)``: mean time of every tick, as a share of the trajectory."""
        self.spread = shares.std(0)
        """``(T,)``: standard deviation of that time over the demonstrations."""
        self._rests = [_rest(speed) for speed in trajectories.speeds]
        rests = [np.interp(row, np.arange(len(rest)), rest) for row, rest in zip(self.steps, self._rests, strict=True)]
        self.rest = np.mean(rests, axis=0)
        """``(T,)``: how much the demonstrations rest at every tick."""
        self.motions = self._unit(self._moved(trajectories.states, self.alignment.positions))
        """``(N, T, d)``: unit motions, float32."""

    def show(self, steps: NDArray) -> Array:
        """What the clock shows at steps ``(N,)`` of the demonstrations, ``(N,)``, as a share of the trajectory."""
        ticks = [np.interp(step, row, np.arange(len(row))) for step, row in zip(steps, _rising(self.steps), strict=True)]
        return np.interp(ticks, np.arange(self.trajectories.ticks), self.phase[:-1])

    def find(self, ends: Sequence[float]) -> NDArray[np.int64]:
        """Steps ``(N, K)`` of the demonstrations at the ticks ``ends``, settled where a demonstration rests."""
        return _settled(ends, self.steps, self._rests)

    def find_in(self, trajectories: Sequence[Array], ends: Sequence[float]) -> NDArray[np.int64]:
        """The same in other demonstrations, which are aligned to the clock."""
        resampled = self.trajectories.resample(trajectories)
        moved = self._moved(resampled.states, _own_ticks(resampled.states))
        steps = _steps(self.alignment.align(self._compared(resampled.states, moved)), resampled.step_of_tick)
        return _settled(ends, steps, [_rest(speed) for speed in resampled.speeds])

    def states(self, positions: Array) -> Tensor:
        """State of every demonstration at a position of its own, in its ticks: ``(N',)`` to ``(N', d)``."""
        rows = [interpolate(s, np.array([p]))[0] for s, p in zip(self.trajectories.states, positions)]
        return torch.from_numpy(np.stack(rows).astype(np.float32))

    def _compared(self, states: NDArray[np.float32], moved: Array) -> NDArray[np.float32]:
        """What demonstrations are aligned by ``(N, T, 2 d)``: states and unit motions, these with the least standard deviation of
        a column at a tick for the unit of their noise."""
        unit = LEAST_STD * np.sqrt(max(states.shape[2], LEAST_COLUMNS)) / BLUR
        return np.concatenate([states, unit * self._unit(moved)], axis=2)

    def _unit(self, moved: Array) -> NDArray[np.float32]:
        """Unit motions ``(N, T, d)``; those that are much shorter than usual are shorter."""
        length = np.linalg.norm(moved, axis=2, keepdims=True)
        return (moved / (length + MOVING * self._usual + 1e-9)).astype(np.float32)

    def _moved(self, states: NDArray[np.float32], positions: Array) -> Array:
        """From half a ``delta`` before to half a ``delta`` after positions ``(N, T)`` in ticks of the demonstrations,
        ``(N, T, d)``."""
        last = states.shape[1] - 1
        return np.stack(
            [
                interpolate(own, np.minimum(at + self._half, last)) - interpolate(own, np.maximum(at - self._half, 0))
                for own, at in zip(states, positions, strict=True)
            ]
        )


def _own_ticks(states: NDArray[np.float32]) -> Array:
    """The positions ``(N, T)`` of the states ``(N, T, d)`` themselves."""
    return np.broadcast_to(np.arange(float(states.shape[1])), states.shape[:2])


def _steps(positions: Array, step_of_tick: Array) -> Array:
    """Steps ``(N, T)`` of the original trajectories at positions ``(N, T)`` that are given in ticks of them."""
    grid = np.arange(positions.shape[1])
    return np.stack([np.interp(position, grid, steps) for position, steps in zip(positions, step_of_tick, strict=True)])


def _rising(steps: Array) -> Array:
    """Steps that do not fall from tick to tick, made to rise."""
    return steps + np.linspace(0, 1e-3, steps.shape[1])


def _rest(speed: Array) -> Array:
    """How much a demonstration rests at each of its steps ``(t,)``, of its speeds as shares of the mean speed."""
    return np.log(np.maximum(1.0, RESTING / (smooth(speed, deviation=1.0) + STILL)))


def _settled(ends: Sequence[float], steps: Array, rests: Sequence[Array]) -> NDArray[np.int64]:
    """The steps ``(N, K)`` at the ticks ``ends``; near a rest the middle of it, but for the last, the final state."""
    ticks = np.arange(steps.shape[1])
    found = np.rint([np.interp(ends, ticks, row) for row in steps]).astype(np.int64)
    between = np.diff([0.0, *ends]) / 2  # never as far as half of the way to a neighbour
    for own, row, rest in zip(found, _rising(steps), rests, strict=True):
        shown = np.interp(np.arange(len(rest)), row, ticks)
        for k, end in enumerate(ends[:-1]):
            distance = np.abs(shown - end)
            near = distance <= min(SETTLING[1], between[k], between[k + 1])
            if rest[near].max(initial=0.0) > 0:
                score = np.where(near, rest - (distance / SETTLING[0]) ** 2 / 2, -np.inf)
                best = np.nonzero(score >= score.max() - 1e-9)[0]
                own[k] = best[len(best) // 2]
    return found
