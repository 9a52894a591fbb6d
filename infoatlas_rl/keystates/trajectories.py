"""Trajectories of different lengths on a common clock.

Every trajectory is resampled by linear interpolation to the median length, so that phase 0 is its first and phase 1 its
last step. Phases convert back to steps of the original trajectory; nothing is cut and nothing is padded.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]

MIN_TRAJECTORIES = 20


class TrajectorySet:
    """Resampled, standardised trajectories.

    Args:
        trajectories: arrays ``(t_i, d)`` of one d.
        delta: the longest look-back that is asked for, in steps.

    Raises:
        ValueError: fewer than 20 trajectories, one too short for ``delta``, different d, NaN or infinity.
    """

    def __init__(self, trajectories: Sequence[Array], delta: int = 2) -> None:
        _check(trajectories, delta)
        self.lengths = np.array([len(trajectory) for trajectory in trajectories])
        self.length = int(np.median(self.lengths))
        """T: number of steps after resampling."""
        resampled = np.stack([_resample(np.asarray(trajectory, dtype=np.float64), self.length) for trajectory in trajectories])
        mean, std = resampled.mean((0, 1)), resampled.std((0, 1))
        # Columns that never change carry nothing: they become zero rather than noise.
        scale = np.where(std > 1e-6, std, np.inf)
        self.states = torch.from_numpy(((resampled - mean) / scale).clip(-10, 10).astype(np.float32))
        """``(N, T, d)``, every dimension with mean 0 and variance 1."""

    def __len__(self) -> int:
        return len(self.states)

    @property
    def dim(self) -> int:
        return self.states.shape[-1]

    def steps(self, phases: Array) -> NDArray[np.int64]:
        """Phases ``(N, K)`` in [0, 1] to the nearest steps of the original trajectories."""
        return np.rint(np.asarray(phases) * (self.lengths[:, None] - 1)).astype(np.int64)


def interpolate(states: Tensor, positions: Tensor) -> Tensor:
    """States at fractional positions, linear between steps and differentiable in ``positions``.

    Args:
        states: ``(b, T, d)``.
        positions: ``(b, k)`` in [0, T - 1].

    Returns:
        ``(b, k, d)``
    """
    lower = positions.detach().floor().clamp(0, states.shape[1] - 2)
    fraction = (positions - lower).unsqueeze(-1)
    index = lower.long().unsqueeze(-1).expand(-1, -1, states.shape[-1])
    before, after = states.gather(1, index), states.gather(1, index + 1)
    return before + fraction * (after - before)


def _resample(trajectory: Array, length: int) -> Array:
    position = np.linspace(0, len(trajectory) - 1, length)
    lower = np.minimum(position.astype(int), len(trajectory) - 2)
    fraction = (position - lower)[:, None]
    return (1 - fraction) * trajectory[lower] + fraction * trajectory[lower + 1]


def _check(trajectories: Sequence[Array], delta: int) -> None:
    if len(trajectories) < MIN_TRAJECTORIES:
        raise ValueError(f"{len(trajectories)} trajectories; MI between their states needs at least {MIN_TRAJECTORIES}")
    dim = np.shape(trajectories[0])[-1]
    for index, trajectory in enumerate(trajectories):
        shape = np.shape(trajectory)
        if len(shape) != 2 or shape[1] != dim:
            raise ValueError(f"trajectory {index} has shape {shape}; all have to be (steps, {dim}) like the first")
        if shape[0] < delta + 2:
            raise ValueError(f"trajectory {index} has {shape[0]} steps; with delta = {delta} at least {delta + 2} are needed")
        if not np.isfinite(trajectory).all():
            raise ValueError(f"trajectory {index} contains NaN or infinity")
