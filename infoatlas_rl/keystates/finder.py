"""Key-state discovery: the states that divide a task into the stages that say most about the motion.

K key states end K stages, the last one the demonstration. On a common clock (:mod:`infoatlas_rl.keystates.alignment`) the
first K - 1 are placed where they maximise the mutual information between the stage Z that the robot is in and its motion
``u = s[t + delta/2] - s[t - delta/2]``::

    I(Z; u)

By the chain rule of mutual information this is done one at a time: a key state between two others a < c < b can only
change ``I(B_c; u | a <= t < b)``, with ``B_c`` telling before from after c. That information is measured over candidates c
by the estimator, and the key state goes to the best; all take their turns, epoch by epoch, with fresh samples and slices.

MaxMI (Zhou & Yang, 2024) maximises I(s[t]; s[t - delta]) at the key state instead. That profile is there, too
(:meth:`KeyStateFinder.profile`); ``docs/keystates.md`` shows why its maxima are not where a stage ends.
"""

from __future__ import annotations

import copy
import hashlib
import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from infoatlas_rl.files import read_checkpoint, replace_file, require_same_run
from infoatlas_rl.keystates.alignment import Alignment
from infoatlas_rl.keystates.measurements import REACH, Measurement, smooth
from infoatlas_rl.keystates.settings import KeyStateConfig
from infoatlas_rl.keystates.trajectories import TrajectorySet, interpolate, require_trajectories
from infoatlas_rl.loss import InfoAtlasLoss

Array = NDArray[np.float64]

REST = 0.3
"""Motions that are much shorter than this share of the median are rest."""
EXCHANGES = 2
"""Epochs in which the least informative key state may go elsewhere."""
SUMMIT = 2
"""Ticks before and after a key state from which its place between ticks is read off."""
REMEMBERED = 12
"""Measurements of a key state that are averaged."""


class Estimator(Protocol):
    """What estimates the information: :class:`infoatlas_rl.InfoAtlasLoss` (with ``sides="y"``), or a baseline."""

    def mi(self, x: Tensor, y: Tensor) -> Tensor:
        """``(b, n, 1)`` and ``(b, n, d)`` to MI in nats, ``(b,)``."""

    def reseed(self, seed: int) -> None: ...

    def extra_repr(self) -> str: ...


@dataclass(frozen=True)
class KeyStates:
    """Key states of N trajectories."""

    steps: NDArray[np.int64]
    """``(N, K)``: step of the original trajectory, in order of time; the last is where the final state is first reached."""
    information: Array
    """``(K - 1,)``: information of a key state about the motion around it, up to 8 ticks or the neighbours, in nats."""


class KeyStateFinder:
    """Finds key states in a set of trajectories.

    ::

        finder = KeyStateFinder(TrajectorySet(trajectories), InfoAtlasLoss(slices=1, k=20, sides="y"))
        for figures in finder.fit():
            print(figures)
        print(finder.key_states().steps)

    Deterministic in ``config.seed``; an interrupted run resumed from its checkpoint ends in the same result.

    Args:
        trajectories: with the ``delta`` of the configuration.
        estimator: of the information; None leaves it out, and the key states end up evenly spaced on the clock.
    """

    def __init__(self, trajectories: TrajectorySet, estimator: Estimator | None, config: KeyStateConfig | None = None) -> None:
        self.trajectories, self.config = trajectories, config or KeyStateConfig()
        self.estimator = copy.deepcopy(estimator).eval() if isinstance(estimator, torch.nn.Module) else estimator
        self.alignment = Alignment(trajectories.states)
        self.motions = self._motions()
        self._shown_at = _steps(self.alignment.positions, trajectories.step_of_tick)  # (N, T), step at every tick of the clock
        shares = self._shown_at / (trajectories.lengths[:, None] - 1)
        # Stage k holds the ticks from cut k - 1 up to cut k, which is the first of the next.
        self.phase = np.append(shares.mean(0), 1.0)
        """``(T + 1,)``: mean time of every tick, as a share of the trajectory."""
        self.spread = shares.std(0)
        """``(T,)``: standard deviation of that time over the demonstrations."""
        self.cuts: list[int] = []
        self.refining = False
        self.epoch = 0
        self.steps = 0
        self.seconds = 0.0
        self._curves: dict[int, list[Measurement]] = {}

    @property
    def ticks(self) -> int:
        return self.trajectories.ticks

    def fit(self, checkpoint: Path | None = None) -> Iterator[dict[str, float]]:
        """Place the key states one after the other, then improve them for ``config.epochs``; yields figures per epoch."""
        if not self.cuts:
            self._grow()
        while self.epoch < self.config.epochs:
            before = list(self.cuts)
            for number in self._inner():
                self._improve(number)
            if self.epoch < EXCHANGES:
                self._exchange()
            self.epoch += 1
            moved = max(abs(a - b) for a, b in zip(before, self.cuts, strict=True))
            information = self._information()
            settled = moved <= REACH // 2 or self.epoch >= self.config.epochs - 2
            if not self.refining and settled and self.config.epochs // 2 <= self.epoch < self.config.epochs:
                self.refining = True
                self._curves.clear()
            if checkpoint is not None:
                self.save(checkpoint)
            yield {
                "epoch": self.epoch,
                "information": float(information.mean()) if len(information) else 0.0,
                "moved": moved,
                "seconds_per_step": self.seconds_per_step,
            }

    def measure_steps(self, count: int) -> float:
        """Seconds per step over ``count`` steps, each comparing places for a key state on the whole clock."""
        steps, seconds = self.steps, self.seconds
        for _ in range(count):
            self._measure(0, self.ticks, self._allowed(0, self.ticks))
        return (self.seconds - seconds) / (self.steps - steps)

    @property
    def seconds_per_step(self) -> float:
        """Seconds for placing one key state once."""
        return self.seconds / max(self.steps, 1)

    def key_states(self) -> KeyStates:
        """The key states of the trajectories that the finder was fitted on."""
        return self._locate(self._shown_at)

    def locate(self, trajectories: Sequence[Array]) -> KeyStates:
        """The same key states in other trajectories of the task, by aligning them to the clock."""
        states, step_of_tick = self.trajectories.resample(trajectories)
        return self._locate(_steps(self.alignment.align(states), step_of_tick))

    def profile(
        self, mi_loss: InfoAtlasLoss, *, every: int = 1, ticks: Sequence[int] | None = None, most: int = 300
    ) -> tuple[NDArray[np.int64], Array]:
        """The MI profile on the clock: pointwise MI of the states at a tick and ``delta`` ticks before it.

        Args:
            ticks: where; by default every ``every``-th from ``delta`` on.

        Returns:
            Steps of the original trajectories ``(N', p)`` and pointwise MI ``(N', p)`` in nats for up to ``most``
            trajectories; the MI profile is its mean over the first axis.

        Raises:
            ValueError: fewer than 20 trajectories.
        """
        require_trajectories(len(self.trajectories))
        steps = np.rint(self._shown_at).astype(np.int64)
        at_ticks = np.arange(self.config.delta, self.ticks, every) if ticks is None else np.asarray(ticks)
        mi_loss = copy.deepcopy(mi_loss).eval()  # the caller's keeps its mode and slices
        mi_loss.reseed(self.config.seed)
        scores = []
        with torch.no_grad():
            for tick in at_ticks:
                at = np.maximum(self.alignment.positions[:most, tick], self.config.delta)
                now, before = self._states(at), self._states(at - self.config.delta)
                scores.append(mi_loss.pointwise(now, before).double().numpy())
        return steps[:most, at_ticks], np.stack(scores, axis=1)

    def clock(self, steps: NDArray) -> Array:
        """Steps ``(N,)`` of the demonstrations to what the common clock shows then, ``(N,)``, as a share of the trajectory."""
        ramp = np.linspace(0, 1e-3, self.ticks)
        ticks = [np.interp(step, row + ramp, np.arange(self.ticks)) for step, row in zip(steps, self._shown_at, strict=True)]
        return np.interp(ticks, np.arange(self.ticks), self.phase[:-1])

    # --- placing ------------------------------------------------------------------------------------------------------

    def _grow(self) -> None:
        """One key state after the other, where it adds most: I(Z; u) grows by P(a <= t < b) I(B_c; u | a <= t < b)."""
        cuts, best = [0, self.ticks], {}
        while len(cuts) < self.config.concepts + 1:
            for a, b in itertools.pairwise(cuts):
                places = self._allowed(a, b)
                if (a, b) not in best and len(places):
                    score = self._score(a, b, places, [self._measure(a, b, places) for _ in range(2)])
                    best[a, b] = int(np.argmax(score)), float(np.max(score)) * (b - a) / self.ticks
            open_stages = {stage: found for stage, found in best.items() if stage in set(itertools.pairwise(cuts))}
            if not open_stages:
                raise ValueError(
                    f"{self.config.concepts} concepts with a gap of {self.config.gap} do not fit: after {len(cuts) - 1} no stage "
                    "is long enough to be divided; ask for fewer concepts or a smaller gap"
                )
            cut, _ = max(open_stages.values(), key=lambda found: found[1])
            cuts = sorted([*cuts, cut])
        self.cuts = cuts

    def _exchange(self) -> None:
        """Take the key state that tells least to where a new one would tell more, if there is such a place.

        Moving key states between their neighbours cannot do that: an optimum of every single one need not be one of all.
        """
        if self.config.concepts < 3:
            return
        share = np.diff(self.cuts)
        scores = []
        for k in self._inner():
            a, cut, b = self.cuts[k - 1 : k + 2]
            scores.append(self._score(a, b, np.array([cut]), self._curves.get(k, []))[cut])
        losses = np.array(scores) * (share[:-1] + share[1:]) / self.ticks
        least = int(np.argmin(losses)) + 1
        without = self.cuts[:least] + self.cuts[least + 1 :]
        gains = {}
        for a, b in itertools.pairwise(without):
            places = self._allowed(a, b)
            if (a, b) == (self.cuts[least - 1], self.cuts[least + 1]) or not len(places):
                continue
            score = self._score(a, b, places, [self._measure(a, b, places) for _ in range(2)])
            gains[float(np.max(score)) * (b - a) / self.ticks] = int(np.argmax(score))
        if gains and max(gains) > 1.1 * max(losses[least - 1], 0):
            self.cuts = sorted([*without, gains[max(gains)]])
            self._curves.clear()
            for number in self._inner():
                self._improve(number)

    def _improve(self, number: int) -> None:
        """Move one key state to the best place between its neighbours; when refining, around where it is."""
        a, b = self.cuts[number - 1], self.cuts[number + 1]
        places = self._allowed(a, b)
        neighbours = a, b
        if self.refining:
            cut = self.cuts[number]
            a, b = max(a, cut - REACH), min(b, cut + REACH)
            places = places[np.abs(places - cut) <= REACH // 2]
        if not len(places):
            return
        # What was measured between other neighbours says nothing about these.
        kept = [seen for seen in self._curves.get(number, []) if seen.fits(*neighbours)]
        kept.append(replace(self._measure(a, b, places), neighbours=neighbours))
        self._curves[number] = kept[-REMEMBERED:]
        self.cuts[number] = int(np.argmax(self._score(a, b, places, self._curves[number])))

    def _measure(self, a: int, b: int, places: NDArray[np.int64]) -> Measurement:
        """Some of the places between a and b, and their information in nats, from one sample of motions."""
        config, began = self.config, time.perf_counter()
        rng = np.random.default_rng([config.seed, self.steps])
        size = min(config.candidates, len(places))
        chosen = places[np.unique(((np.arange(size) + rng.random(size)) * len(places) / size).astype(int))]
        # Stratified over time; the same motions for all candidates.
        tick = (a + (b - a) * (np.arange(config.samples) + rng.random(config.samples)) / config.samples).astype(int)
        who = rng.integers(len(self.motions), size=config.samples)
        motion = self.motions[who, tick.clip(a, b - 1)]
        length = config.noise / np.sqrt(motion.shape[1])
        motion = motion + length * rng.standard_normal(motion.shape)
        if self.estimator is None:
            information = np.zeros(len(chosen))
        else:
            after = torch.from_numpy((tick >= chosen[:, None]).astype(np.float32)).unsqueeze(-1)
            motion = torch.from_numpy(motion.astype(np.float32)).expand(len(chosen), -1, -1)
            self.estimator.reseed(config.seed * 1_000_003 + self.steps)
            with torch.no_grad():
                information = self.estimator.mi(after, motion).double().numpy()
        self.steps += 1
        self.seconds += time.perf_counter() - began
        return Measurement((a, b), chosen.astype(np.float64), information)

    def _score(self, a: int, b: int, places: NDArray[np.int64], seen: list[Measurement]) -> Array:
        """The objective at every tick, ``(T,)``: minus infinity but at ``places``."""
        config, ticks = self.config, np.arange(self.ticks)
        middle = (self.phase[a] + self.phase[b]) / 2
        penalty = config.order_weight * (self.phase[:-1] - middle) ** 2 + config.spread_weight * self.spread
        score = np.full(self.ticks, -np.inf)
        score[places] = (config.mi_weight * smooth(ticks, seen) - penalty)[places]
        return score

    def _information(self) -> Array:
        """Information of the key states where they are now, ``(K - 1,)``."""
        ticks = np.arange(self.ticks)
        return np.array([smooth(ticks, self._curves[k])[self.cuts[k]] if k in self._curves else np.nan for k in self._inner()])

    def _inner(self) -> range:
        return range(1, self.config.concepts)

    def _allowed(self, a: int, b: int) -> NDArray[np.int64]:
        """Places between two cuts that keep the gap to both, in time and in ticks (half of it to the end)."""
        gap_after = self.config.gap / 2 if b == self.ticks else self.config.gap
        ticks = np.arange(a + max(1, int(self.config.gap * self.ticks)), b - max(1, int(gap_after * self.ticks)) + 1)
        far_from_a = self.phase[ticks] - self.phase[a] >= self.config.gap
        return ticks[far_from_a & (self.phase[b] - self.phase[ticks] >= gap_after)]

    # --- states on the clock ------------------------------------------------------------------------------------------

    def _motions(self) -> NDArray[np.float32]:
        """Unit motions at every tick of the clock, ``(N, T, d)``."""
        half = self.config.delta / 2
        motions = []
        for states, position in zip(self.trajectories.states, self.alignment.positions, strict=True):
            last = len(states) - 1
            motions.append(
                interpolate(states, np.minimum(position + half, last)) - interpolate(states, np.maximum(position - half, 0))
            )
        motion = np.stack(motions)
        length = np.linalg.norm(motion, axis=2, keepdims=True)
        # What hardly moves has no direction.
        return (motion / (length + REST * np.median(length) + 1e-9)).astype(np.float32)

    def _states(self, positions: Array) -> Tensor:
        """State of every demonstration at a position of its own, ``(N', d)``."""
        rows = [interpolate(s, np.array([p]))[0] for s, p in zip(self.trajectories.states, positions)]
        return torch.from_numpy(np.stack(rows).astype(np.float32))

    def _locate(self, steps: Array) -> KeyStates:
        if not self.cuts:
            raise RuntimeError("no key states yet: run fit() first")
        # A stage ends half a tick before the first tick of the next; the last one where the final state is reached.
        ends = [self._summit(k) - 0.5 for k in self._inner()] + [self.ticks - 1.0]
        found = np.stack([np.interp(ends, np.arange(self.ticks), row) for row in steps])
        return KeyStates(steps=np.rint(found).astype(np.int64), information=self._information())

    def _summit(self, number: int) -> float:
        """The cut of a key state between ticks: the summit of a parabola through what was measured around it."""
        cut, seen = self.cuts[number], self._curves.get(number, [])
        measured = {int(place) for m in seen for place in m.places}
        around = np.array([tick for tick in range(cut - SUMMIT, cut + SUMMIT + 1) if tick in measured])
        if len(around) < 2 * SUMMIT:
            return float(cut)
        score = self._score(self.cuts[number - 1], self.cuts[number + 1], around, seen)[around]
        curvature, slope, _ = np.polyfit(around - cut, score, 2)
        return cut + float(np.clip(-slope / (2 * curvature), -SUMMIT, SUMMIT)) if curvature < 0 else float(cut)

    # --- checkpoints --------------------------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        curves = {
            number: [[list(m.neighbours), m.places.tolist(), m.information.tolist()] for m in seen]
            for number, seen in self._curves.items()
        }
        progress = {
            "cuts": self.cuts,
            "refining": self.refining,
            "epoch": self.epoch,
            "steps": self.steps,
            "seconds": self.seconds,
            "curves": curves,
        }
        with replace_file(path) as temporary:
            torch.save({"progress": progress, "run": self._identity()}, temporary)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            ValueError: it is damaged, or was made with other trajectories or another configuration; both are named.
        """
        content = read_checkpoint(path, "run")
        require_same_run(path, content["run"], self._identity(), "choose another folder (name=NAME), or resume=false")
        progress = content["progress"]
        self.cuts, self.refining, self.epoch = progress["cuts"], progress["refining"], progress["epoch"]
        self.steps, self.seconds = progress["steps"], progress["seconds"]
        self._curves = {
            number: [Measurement((a, b), np.array(places), np.array(values)) for (a, b), places, values in seen]
            for number, seen in progress["curves"].items()
        }

    def _identity(self) -> dict[str, Any]:
        digest = hashlib.sha256(np.ascontiguousarray(self.trajectories.states).tobytes()).hexdigest()
        return {
            **asdict(self.config),
            "estimator": "none" if self.estimator is None else f"{type(self.estimator).__name__}({self.estimator.extra_repr()})",
            "trajectories": len(self.trajectories),
            "states_sha256": digest[:16],
        }


def _steps(positions: Array, step_of_tick: Array) -> Array:
    """Steps ``(N, T)`` of the original trajectories at positions ``(N, T)`` that are given in ticks of them."""
    grid = np.arange(positions.shape[1])
    return np.stack([np.interp(position, grid, steps) for position, steps in zip(positions, step_of_tick, strict=True)])
