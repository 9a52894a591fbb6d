"""Key-state discovery: the states that divide a task into the stages that say most about the motion.

K key states end K stages, the last one the demonstration. On a common clock (:mod:`infoatlas_rl.keystates.alignment`) the
first K - 1 are placed where they maximise the mutual information between the stage Z that the robot is in and its motion
``u = s[t + delta/2] - s[t - delta/2]``, I(Z; u).

By the chain rule of mutual information this is done one at a time: a key state between two others a < c < b can only
change ``I(B_c; u | a <= t < b)``, with ``B_c`` telling before from after c. That information is measured over candidates c
by the estimator, and the key state goes to the best; all take their turns, epoch by epoch, with fresh samples and slices.

MaxMI (Zhou & Yang, 2024) maximises I(s[t]; s[t - delta]) at the key state instead (:mod:`infoatlas_rl.keystates.maxmi`);
``docs/keystates.md`` shows why its maxima are not where a stage ends.
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
from infoatlas_rl.keystates.clock import Clock
from infoatlas_rl.keystates.measurements import REACH, Measurement, smooth
from infoatlas_rl.keystates.settings import KeyStateConfig
from infoatlas_rl.keystates.trajectories import TrajectorySet, require_trajectories
from infoatlas_rl.loss import InfoAtlasLoss

Array = NDArray[np.float64]

MOST = 20
"""Key states that are looked for where it is not said how many."""
DIVISIONS = 4
"""Measurements that the division of a stage rests on."""
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


class NothingFoundError(ValueError):
    """The motion has no stages."""


class KeyStateFinder:
    """Finds key states in a set of trajectories.

    Examples:
        >>> from infoatlas_rl import InfoAtlasLoss
        >>> corners = np.random.default_rng(0).normal([[0, 0], [1, 0], [1, 1]], 0.1, size=(30, 3, 2))
        >>> paths = [np.stack([np.interp(np.linspace(0, 2, 51), range(3), axis) for axis in c.T], 1) for c in corners]
        >>> finder = KeyStateFinder(TrajectorySet(paths), InfoAtlasLoss(slices=1, k=20, sides="y"), KeyStateConfig(concepts=2))
        >>> figures = list(finder.fit())                                # of every epoch of refinement
        >>> np.median(finder.key_states().steps, axis=0)                # of (30, 2); all turn at step 25
        array([24.5, 50. ])

    Deterministic in ``config.seed``; an interrupted run resumed from its checkpoint ends in the same result.

    Args:
        trajectories: with the ``delta`` of the configuration.
        estimator: of the information; None leaves it out, and key states are where demonstrations rest, evenly where they do not.
    """

    def __init__(self, trajectories: TrajectorySet, estimator: Estimator | None, config: KeyStateConfig | None = None) -> None:
        self.trajectories, self.config = trajectories, config or KeyStateConfig()
        self.estimator = copy.deepcopy(estimator).eval() if isinstance(estimator, torch.nn.Module) else estimator
        self.clock = Clock(trajectories, self.config.delta)
        self.cuts: list[int] = []
        self.refining = False
        self.epoch = 0
        self.steps = 0
        self.seconds = 0.0
        self._curves: dict[int, list[Measurement]] = {}

    @property
    def ticks(self) -> int:
        return self.trajectories.ticks

    @property
    def concepts(self) -> int | None:
        """K; None as long as it is not known."""
        return len(self.cuts) - 1 if self.cuts else self.config.concepts

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

    def measured(self, number: int) -> tuple[Array, Array]:
        """What a key state would tell about the motion between the neighbours of key state ``number``: times on the clock, as
        shares of the trajectory, and information in nats, ``(p,)`` each."""
        a, b = self.cuts[number - 1], self.cuts[number + 1]
        places = self._allowed(a, b)
        return self.clock.phase[places], smooth(places, [self._measure(a, b, places) for _ in range(DIVISIONS)])

    @property
    def seconds_per_step(self) -> float:
        """Seconds for placing one key state once."""
        return self.seconds / max(self.steps, 1)

    def key_states(self) -> KeyStates:
        """The key states of the trajectories that the finder was fitted on."""
        return KeyStates(steps=self.clock.find(self._ends()), information=self._information())

    def locate(self, trajectories: Sequence[Array]) -> KeyStates:
        """The same key states in other trajectories of the task, by aligning them to the clock."""
        return KeyStates(steps=self.clock.find_in(trajectories, self._ends()), information=self._information())

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
        steps = np.rint(self.clock.steps).astype(np.int64)
        at_ticks = np.arange(self.config.delta, self.ticks, every) if ticks is None else np.asarray(ticks)
        mi_loss = copy.deepcopy(mi_loss).eval()  # the caller's keeps its mode and slices
        mi_loss.reseed(self.config.seed)
        scores = []
        with torch.no_grad():
            for tick in at_ticks:
                at = np.maximum(self.clock.alignment.positions[:most, tick], self.config.delta)
                now, before = self.clock.states(at), self.clock.states(at - self.config.delta)
                scores.append(mi_loss.pointwise(now, before).double().numpy())
        return steps[:most, at_ticks], np.stack(scores, axis=1)

    # --- placing ------------------------------------------------------------------------------------------------------

    def _grow(self) -> None:
        """One key state after the other, where it adds most: I(Z; u) grows by P(a <= t < b) I(B_c; u | a <= t < b).

        Where it is not said how many, until two in a row are not worth it: the first of two can make way for the second.
        """
        wanted, chosen, worth_it = self.config.concepts or MOST, [], 0
        found: dict[
            tuple[int, int], tuple[float, int, float]
        ] = {}  # score, place and information of the best division of a stage
        while len(chosen) < wanted - 1:
            stages = list(itertools.pairwise([0, *sorted(chosen), self.ticks]))
            for stage in stages:
                if stage not in found and len(self._allowed(*stage)):
                    found[stage] = self._divide(*stage)
            if not any(stage in found for stage in stages):
                break
            _, cut, gain = max((score, cut, gain) for score, cut, gain in (found[stage] for stage in stages if stage in found))
            chosen.append(cut)
            if gain >= self.config.worth:
                worth_it = len(chosen)
            if self.config.concepts is None and len(chosen) > worth_it + 1:
                break
        if self.config.concepts is None:
            chosen = chosen[:worth_it]
            if not chosen:
                most = max((gain for _, _, gain in found.values()), default=0.0)
                raise NothingFoundError(
                    f"nothing divides the motion of these {len(self.trajectories)} trajectories into stages: no place tells more "
                    f"than {most:.3f} nats about it, and worth={self.config.worth:g} are asked for; concepts=K places K key "
                    "states all the same"
                )
        elif len(chosen) < wanted - 1:
            raise ValueError(
                f"{wanted} concepts with a gap of {self.config.gap} do not fit: after {len(chosen) + 1} no stage is long enough "
                "to be divided; ask for fewer concepts or a smaller gap"
            )
        self.cuts = [0, *sorted(chosen), self.ticks]

    def _divide(self, a: int, b: int) -> tuple[float, int, float]:
        """Score, place and information of the best division of a stage, both as shares of the whole."""
        places, share = self._allowed(a, b), (b - a) / self.ticks
        seen = [self._measure(a, b, places) for _ in range(DIVISIONS)]
        score = self._score(a, b, places, seen)
        cut = int(np.argmax(score))
        return float(score[cut]) * share, cut, float(smooth(np.array([cut]), seen)[0]) * share

    def _exchange(self) -> None:
        """Take the key state that tells least to where a new one would tell more, if there is such a place.

        Moving key states between their neighbours cannot do that: an optimum of every single one need not be one of all.
        """
        if len(self.cuts) < 4:
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
            gain, cut, _ = self._divide(a, b)
            gains[gain] = cut
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
        who = rng.integers(len(self.trajectories), size=config.samples)
        motion = self.clock.motions[who, tick.clip(a, b - 1)]
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
        config, clock = self.config, self.clock
        middle = (clock.phase[a] + clock.phase[b]) / 2
        penalty = config.order_weight * (clock.phase[:-1] - middle) ** 2 + config.spread_weight * clock.spread
        score = np.full(self.ticks, -np.inf)
        reward = config.mi_weight * smooth(np.arange(self.ticks), seen) + config.rest_weight * clock.rest
        score[places] = (reward - penalty)[places]
        return score

    def _information(self) -> Array:
        """Information of the key states where they are now, ``(K - 1,)``."""
        ticks = np.arange(self.ticks)
        return np.array([smooth(ticks, self._curves[k])[self.cuts[k]] if k in self._curves else np.nan for k in self._inner()])

    def _inner(self) -> range:
        return range(1, len(self.cuts) - 1)

    def _allowed(self, a: int, b: int) -> NDArray[np.int64]:
        """Places between two cuts that keep the gap to both, in time and in ticks (half of it to the end)."""
        gap_after = self.config.gap / 2 if b == self.ticks else self.config.gap
        ticks = np.arange(a + max(1, int(self.config.gap * self.ticks)), b - max(1, int(gap_after * self.ticks)) + 1)
        phase = self.clock.phase
        far_from_a = phase[ticks] - phase[a] >= self.config.gap
        return ticks[far_from_a & (phase[b] - phase[ticks] >= gap_after)]

    # --- key states on the clock --------------------------------------------------------------------------------------

    def _ends(self) -> list[float]:
        """Ticks ``(K,)`` at which the stages end: half a tick before the first of the next; the last where the final state is
        reached."""
        if not self.cuts:
            raise RuntimeError("no key states yet: run fit() first")
        return [self._summit(k) - 0.5 for k in self._inner()] + [self.ticks - 1.0]

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
        with replace_file(path) as temporary:
            torch.save({"progress": self._progress(), "run": self._identity()}, temporary)

    def load(self, path: Path) -> None:
        """Go on from a checkpoint.

        Raises:
            ValueError: it is damaged, or was made with other trajectories or another configuration; both are named.
        """
        content = read_checkpoint(path, "run")
        require_same_run(path, content["run"], self._identity(), "choose another folder (name=NAME), or resume=false")
        self._restore(content["progress"])

    def _progress(self) -> dict[str, Any]:
        curves = {
            number: [[list(m.neighbours), m.places.tolist(), m.information.tolist()] for m in seen]
            for number, seen in self._curves.items()
        }
        names = ("cuts", "refining", "epoch", "steps", "seconds")
        return {name: getattr(self, name) for name in names} | {"curves": curves}

    def _restore(self, progress: dict[str, Any]) -> None:
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
