"""One clock for all demonstrations: the alignment under which the time says most about what is aligned.

Demonstrations do the same things at different times. A clock ``c`` is sought, monotone along every demonstration, that
maximises the mutual information I(state; clock) under a Gaussian model of the states at every tick of the clock: alternately,
the mean and variance of every column at every tick are computed, and every demonstration is warped to them by dynamic
programming (dynamic time warping with a likelihood for a distance). A state is here whatever is aligned: states and motions
(:mod:`infoatlas_rl.keystates.clock`).
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]

SMOOTHING = 1.5
"""Standard deviation, in ticks, of the kernel over which means and variances are taken."""
LEAST_STD = 0.02
"""Smallest standard deviation of a column at a tick, of standardised states."""
WARPING = (1.0, 0.0, 1.0, 2.0)
"""Price, in nats, of going 0, 1, 2, 3 ticks of the clock ahead within a tick of the demonstration."""
FARTHEST = 5e3
"""Largest distance of a state from a tick, in nats."""


class Alignment:
    """A clock with as many ticks as the demonstrations it is fitted on.

    Args:
        states: ``(N, T, d)``, resampled and standardised.
        iterations: of model and warping; two or three suffice.
    """

    def __init__(self, states: NDArray[np.float32], iterations: int = 4) -> None:
        tensor = torch.from_numpy(states)
        n, ticks, _ = tensor.shape
        self.clock = torch.arange(ticks).expand(n, ticks)
        """``(N, T)``: tick of the clock at every tick of the demonstrations."""
        for _ in range(iterations):
            self._mean, self._variance = _gaussians(tensor, self.clock)
            self.clock = self._warp(tensor)
        self.positions = self._invert(self.clock)
        """``(N, T)``: where in the demonstration, in its ticks, the clock shows every tick; fractional."""

    def align(self, states: NDArray[np.float32]) -> Array:
        """Positions ``(N', T)`` of other demonstrations ``(N', T, d)`` on this clock."""
        return self._invert(self._warp(torch.from_numpy(states)))

    def _warp(self, states: Tensor) -> Tensor:
        precision = 1 / self._variance
        distance = torch.einsum("ntd,cd->ntc", states.square(), precision)
        distance = distance - 2 * torch.einsum("ntd,cd->ntc", states, self._mean * precision)
        distance = distance + (self._mean.square() * precision + self._variance.log()).sum(-1)
        return _best_path((distance / 2).clamp(max=FARTHEST))

    @staticmethod
    def _invert(clock: Tensor) -> Array:
        ticks = clock.shape[1]
        ramp = np.linspace(0, 1e-3, ticks)  # makes a monotone path strictly monotone
        grid = np.arange(ticks)
        return np.stack([np.interp(grid, row + ramp, grid) for row in clock.double().numpy()])


def _gaussians(states: Tensor, clock: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance ``(T, d)`` of the states at every tick of the clock, smoothed over neighbouring ticks."""
    ticks, dim = states.shape[1:]
    index, flat = clock.reshape(-1), states.reshape(-1, dim)
    zeros = flat.new_zeros(ticks, dim)
    count = flat.new_zeros(ticks).index_add_(0, index, flat.new_ones(len(index)))
    first = zeros.index_add(0, index, flat)
    second = zeros.index_add(0, index, flat.square())
    tick = torch.arange(ticks).to(flat)
    kernel = torch.exp(-0.5 * ((tick[:, None] - tick) / SMOOTHING) ** 2)
    count = (kernel @ count).clamp(min=1e-6).unsqueeze(-1)
    mean = kernel @ first / count
    return mean, (kernel @ second / count - mean.square()).clamp(min=0) + LEAST_STD**2


def _best_path(cost: Tensor) -> Tensor:
    """The cheapest monotone path from the first to the last tick, for all demonstrations at once.

    Args:
        cost: ``(N, T, T)``, of showing a tick of the clock (last axis) at a tick of the demonstration.
    """
    n, ticks, _ = cost.shape
    total = cost.new_full((n, ticks), torch.inf)
    total[:, 0] = cost[:, 0, 0]
    moves = []
    for t in range(1, ticks):
        options = [F.pad(total, (ahead, 0), value=torch.inf)[:, :ticks] + price for ahead, price in enumerate(WARPING)]
        total, move = torch.stack(options).min(0)
        total = total + cost[:, t]
        moves.append(move)
    at = torch.full((n,), ticks - 1)
    path = [at]
    for move in reversed(moves):
        at = (at - move.gather(1, at.unsqueeze(1)).squeeze(1)).clamp(min=0)
        path.append(at)
    return torch.stack(path[::-1], dim=1)
