"""MaxMI's objective (Zhou & Yang, 2024): key states where MI(s[t]; s[t - delta]) is largest, placed by gradient ascent.

MaxMI trains a localiser by the gradient of the mutual information with respect to the states that it selects. That gradient sees
one step. Here the localiser is a distribution over the ticks of the common clock for every key state, and what is
maximised is the expected mutual information under it, whose gradient sees all ticks, however far from where the key state is::

    sum_k sum_t p_k(t) I(s[t]; s[t - delta] | t),        p_k = softmax(logits_k)

Information is conditional on the tick: that of a mixture of ticks grows with how far apart they are. In every step it is
measured at some ticks, drawn where the distributions are, by one forward pass of the estimator on a batch of demonstrations.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infoatlas_rl.keystates.finder import Estimator, KeyStateFinder
from infoatlas_rl.keystates.settings import KeyStateConfig
from infoatlas_rl.keystates.trajectories import TrajectorySet, require_trajectories

STEPS = 20
"""Gradient steps of an epoch."""
BATCH = 100
"""Demonstrations whose states are compared in a step."""
TICKS = 8
"""At which information is measured in a step."""
LEARNING_RATE = 0.3
GAP = 0.05
"""Least distance of the expected times of consecutive key states, as a share of the trajectory."""
ORDERING = 100.0
"""Weight of the squared shortfall of the gap between expected times of consecutive key states, in nats."""
SLICES, K = 25, 5
"""Random slices of both states, and their columns, where an estimator slices; MaxMI has 25 to 40 of five."""
WIDTH = 0.3
"""Standard deviation of the distributions at the beginning, as a share of the distance of two key states."""


class MaxMIFinder(KeyStateFinder):
    """Finds key states by MaxMI's objective; everything else is as in :class:`KeyStateFinder`.

    Args:
        trajectories: at least 20.
        estimator: of the information between states; a copy of it is used, with ``SLICES`` slices of ``K`` columns of both states
            where it slices, whatever it was made with. None leaves the information out.
        config: with the number of key states.

    Raises:
        ValueError: fewer trajectories, no number of key states, or too many of them.
    """

    METHOD = "maxmi"

    def __init__(self, trajectories: TrajectorySet, estimator: Estimator | None, config: KeyStateConfig) -> None:
        require_trajectories(len(trajectories))
        if config.concepts is None:
            raise ValueError("discovery=maxmi does not find out how many key states there are; say discovery.concepts=K")
        if config.concepts * max(GAP, 1 / trajectories.ticks) >= 1:
            raise ValueError(
                f"{config.concepts} concepts with a gap of {GAP} do not fit into one trajectory of {trajectories.ticks} ticks"
            )
        super().__init__(trajectories, copy.deepcopy(estimator), config)
        for name, value in (("sides", "both"), ("slices", SLICES), ("k", K)):
            if hasattr(self.estimator, name):
                setattr(self.estimator, name, value)
        ticks, inner = torch.arange(self.ticks), config.concepts - 1
        middles = self.ticks * (torch.arange(inner) + 1) / config.concepts
        width = WIDTH * self.ticks / config.concepts
        self.logits = (-0.5 * ((ticks - middles[:, None]) / width) ** 2).requires_grad_()
        """``(K - 1, T)``"""
        self._optimizer = torch.optim.Adam([self.logits], LEARNING_RATE)
        self.cuts = self._places()

    def fit(self, checkpoint: Path | None = None) -> Iterator[dict[str, float]]:
        """Ascend for ``config.epochs`` epochs; yields figures per epoch."""
        while self.epoch < self.config.epochs:
            before, information = list(self.cuts), 0.0
            for _ in range(STEPS if len(self.logits) else 0):
                information += self._ascend() / STEPS
            self.cuts = self._places()
            self.epoch += 1
            if checkpoint is not None:
                self.save(checkpoint)
            moved = max(abs(a - b) for a, b in zip(before, self.cuts, strict=True))
            yield {"epoch": self.epoch, "information": information, "moved": moved, "seconds_per_step": self.seconds_per_step}

    def measure_steps(self, count: int) -> float:
        steps, seconds = self.steps, self.seconds
        for _ in range(count):
            self._ascend()
        return (self.seconds - seconds) / (self.steps - steps)

    def _ascend(self) -> float:
        """One step; returns the expected information, in nats."""
        began, config = time.perf_counter(), self.config
        rng = np.random.default_rng([config.seed, self.steps])
        place = self.logits.softmax(1)
        # Half of the ticks where the distributions are, half anywhere; both weighted by how likely they were.
        chance = 0.5 * place.detach().mean(0).double().numpy() + 0.5 / self.ticks
        chosen = np.unique(rng.choice(self.ticks, TICKS, p=chance / chance.sum()))
        information = self._information_at(chosen, rng)
        weight = place[:, chosen] / torch.from_numpy(chance[chosen])
        expected = (weight * information).sum(1) / weight.sum(1)
        phase = torch.from_numpy(self.clock.phase)
        times = torch.cat([phase[:1], place.double() @ phase[:-1], phase[-1:]])
        ordering = ORDERING * (GAP - times.diff()).clamp(min=0).square().sum()
        self._optimizer.zero_grad()
        (ordering - config.mi_weight * expected.sum()).backward()
        self._optimizer.step()
        self.steps += 1
        self.seconds += time.perf_counter() - began
        return float(expected.detach().mean())

    def _information_at(self, chosen: np.ndarray, rng: np.random.Generator) -> Tensor:
        """MI(s[t]; s[t - delta]) at some ticks, ``(g,)``, in nats."""
        if self.estimator is None:
            return torch.zeros(len(chosen), dtype=torch.float64)
        who = rng.permutation(len(self.trajectories))[:BATCH]
        at = np.maximum(self.clock.alignment.positions[:, chosen], self.config.delta)
        now, before = (torch.stack([self.clock.states(a)[who] for a in moment.T]) for moment in (at, at - self.config.delta))
        self.estimator.reseed(self.config.seed * 1_000_003 + self.steps)
        with torch.no_grad():
            return self.estimator.mi(now, before).double()

    def _places(self) -> list[int]:
        """Where each distribution is largest, kept in order."""
        cuts = [0]
        for k, place in enumerate(self.logits.detach().argmax(1).tolist()):
            left = len(self.logits) - k  # that need a tick of their own
            cuts.append(min(max(place, cuts[-1] + 1), self.ticks - left))
        return [*cuts, self.ticks]

    def _information(self) -> np.ndarray:
        return np.full(len(self.logits), np.nan)

    def _summits(self) -> list[float]:
        return [float(cut) for cut in self.cuts[1:-1]]

    def _progress(self) -> dict[str, Any]:
        return super()._progress() | {"logits": self.logits.detach(), "optimizer": self._optimizer.state_dict()}

    def _restore(self, progress: dict[str, Any]) -> None:
        with torch.no_grad():
            self.logits.copy_(progress["logits"])
        self._optimizer.load_state_dict(progress["optimizer"])
        super()._restore(progress)  # after the logits, which say where the cuts are


def make_finder(trajectories: TrajectorySet, estimator: Estimator | None, config: KeyStateConfig) -> KeyStateFinder:
    """The finder of ``config.method``."""
    return (MaxMIFinder if config.method == "maxmi" else KeyStateFinder)(trajectories, estimator, config)
