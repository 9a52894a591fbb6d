"""Key-state discovery: the states at which the motion just before and just after say most about where they end.

On a common clock (:mod:`infoatlas_rl.keystates.alignment`) every tick t is asked how much a boundary there would tell about the
motion around it: the mutual information J(t) = I(B; u) between B, whether a motion ``u = s[c + delta/2] - s[c - delta/2]``
comes before or after t, and the motion, over the ``window`` ticks on either side. Where a stage ends and another begins the
motion turns, and J has a peak; along a straight way it is nothing, along a slow curve little. Key states are the highest peaks of
J, less a small penalty for times that vary; where two tell the same, that of the two at which demonstrations rest. They are K, or
all that tell about ``worth`` nats. The last one is the final state.

J is measured by the estimator: one forward pass compares a dozen ticks, seventeen at most measure the whole clock. A few rounds
with fresh samples and slices are averaged.

MaxMI (Zhou & Yang, 2024) maximises I(s[t]; s[t - delta]) at the key state instead (:mod:`infoatlas_rl.keystates.maxmi`);
``docs/keystates.md`` shows why its maxima are not where a stage ends.
"""

from __future__ import annotations

import copy
import hashlib
import math
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from infoatlas_rl.files import read_checkpoint, replace_file, require_same_run
from infoatlas_rl.keystates.chance import turned
from infoatlas_rl.keystates.clock import Clock
from infoatlas_rl.keystates.placing import PEAK, divided, peaks, shoulders, smooth, summits, told_apart
from infoatlas_rl.keystates.settings import KeyStateConfig
from infoatlas_rl.keystates.trajectories import MIN_TRAJECTORIES, TrajectorySet, require_trajectories
from infoatlas_rl.loss import InfoAtlasLoss
from infoatlas_rl.weights import fingerprint

Array = NDArray[np.float64]

PLACES = 12
"""Ticks that are compared in one forward pass."""
TELLING = 0.05
"""Where a number of key states is asked for, places whose score is below this share of the best one are not looked at."""


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
    """``(K - 1,)``: information of a key state about the motion around it, in nats; NaN where none was measured."""


SURELY = 1.2
"""Places that tell less than so many times what chance does are not key states where their number is not given."""
CHANCE_EPOCHS = 2
"""Rounds of measurements of what chance tells."""


class NothingFoundError(ValueError):
    """The motion has no stages."""


class KeyStateFinder:
    """Finds key states in a set of trajectories.

    Examples:
        >>> from infoatlas_rl import InfoAtlasLoss
        >>> corners = np.random.default_rng(0).normal([[0, 0], [1, 0], [1, 1]], 0.1, size=(30, 3, 2))
        >>> paths = [np.stack([np.interp(np.linspace(0, 2, 51), range(3), axis) for axis in c.T], 1) for c in corners]
        >>> finder = KeyStateFinder(TrajectorySet(paths), InfoAtlasLoss(slices=1, k=20, sides="y"), KeyStateConfig(concepts=2))
        >>> figures = list(finder.fit())                                # of every round of measurements
        >>> np.median(finder.key_states().steps, axis=0)                # of (30, 2); all turn at step 25
        array([25., 50.])

    Deterministic in ``config.seed``; an interrupted run resumed from its checkpoint ends in the same result.

    Args:
        trajectories: with the ``delta`` of the configuration.
        estimator: of the information, ``InfoAtlasLoss(slices=1, k=20, sides="y")`` (with more slices the same takes many times
            as long); None leaves it out, and K key states are where demonstrations rest, and in the middle of what is left.

    Raises:
        TypeError, ValueError: neither an estimator nor a number of key states, trajectories with another ``delta``, or a
            configuration of another method.
    """

    METHOD = "stages"

    def __init__(self, trajectories: TrajectorySet, estimator: Estimator | None, config: KeyStateConfig | None = None) -> None:
        self.trajectories, self.config = trajectories, config or KeyStateConfig()
        if not isinstance(trajectories, TrajectorySet):
            raise TypeError(
                f"trajectories have to be a TrajectorySet, as TrajectorySet(arrays) makes it, not {trajectories!r:.60}"
            )
        if estimator is not None and not hasattr(estimator, "mi"):
            raise TypeError(
                f"estimator has to be one like InfoAtlasLoss(slices=1, k=20, sides='y'), or None, not {estimator!r:.60}"
            )
        if self.config.method != self.METHOD:
            raise ValueError(
                f"{type(self).__name__} is of method={self.METHOD!r}, the configuration of {self.config.method!r}; make the "
                "finder with make_finder(trajectories, estimator, config)"
            )
        if estimator is None and self.config.concepts is None:
            raise ValueError("without an estimator nothing tells how many key states there are: say concepts=K")
        if trajectories.delta != self.config.delta:
            raise ValueError(
                f"trajectories have delta={trajectories.delta}, the configuration delta={self.config.delta}; give both the same"
            )
        self.estimator = copy.deepcopy(estimator).eval() if isinstance(estimator, torch.nn.Module) else estimator
        self.clock = Clock(trajectories, self.config.delta)
        self.cuts: list[int] = []
        """First ticks of the stages, and the number of ticks."""
        self.epoch = 0
        self.steps = 0
        self.seconds = 0.0
        self._measured = np.zeros(self.ticks)  # the sum over epochs
        self._chance: float | None = None

    @property
    def ticks(self) -> int:
        return self.trajectories.ticks

    @property
    def concepts(self) -> int | None:
        """K; None as long as it is not known."""
        return len(self.cuts) - 1 if self.cuts else self.config.concepts

    @property
    def information(self) -> Array:
        """J of the module's text at every tick, ``(T,)``, in nats; what is nearer to the ends than the window as at its edge."""
        ticks = self._measurable
        measured = smooth(self._measured[ticks] / max(self.epoch, 1))
        return np.pad(measured, (ticks[0], self.ticks - 1 - ticks[-1]), mode="edge")

    def fit(self, checkpoint: Path | None = None) -> Iterator[dict[str, float]]:
        """Measure the whole clock ``config.epochs`` times and place the key states; yields figures per epoch. Of fewer than 20
        trajectories without a number of key states there is a warning: what chance tells is not measured.

        Raises:
            NothingFoundError: nothing tells enough, and ``config.concepts`` does not say how many to place all the same.
            ValueError: so many do not fit.
        """
        if self.config.concepts is None and len(self.trajectories) < MIN_TRAJECTORIES:
            warnings.warn(
                f"of {len(self.trajectories)} trajectories it is not measured what chance tells, and key states of noise are "
                f"found as well; give at least {MIN_TRAJECTORIES}, or say concepts=K",
                stacklevel=2,
            )
        while self.epoch < self.config.epochs:
            before = self.cuts or [0, self.ticks]
            for places in self._batches():
                self._measured[places] += self._measure(places)
            self.epoch += 1
            self.cuts = []  # none, if they cannot be placed
            self.cuts = self._places()
            moved = np.abs(np.subtract.outer(before, self.cuts))
            information = self._information() if self.estimator is not None else []
            if checkpoint is not None:
                self.save(checkpoint)
            yield {
                "epoch": self.epoch,
                "information": float(information.mean()) if len(information) else 0.0,
                "moved": float(max(moved.min(0).max(), moved.min(1).max())),
                "seconds_per_step": self.seconds_per_step,
            }

    def measure_steps(self, count: int) -> float:
        """Seconds per step over ``count`` steps, each comparing a dozen places on the clock."""
        steps, seconds = self.steps, self.seconds
        for places in (self._batches() * count)[:count]:
            self._measure(places)
        return (self.seconds - seconds) / max(self.steps - steps, 1)

    @property
    def seconds_per_step(self) -> float:
        """Seconds for comparing a dozen places."""
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
            ValueError: fewer than 20 trajectories, or ticks that are not on the clock.
        """
        require_trajectories(len(self.trajectories))
        steps = np.rint(self.clock.steps).astype(np.int64)
        at_ticks = np.arange(self.config.delta, self.ticks, every) if ticks is None else np.asarray(ticks, dtype=np.int64)
        if not ((at_ticks >= 0) & (at_ticks < self.ticks)).all():
            raise ValueError(f"ticks have to be from 0 to {self.ticks - 1}, not {at_ticks.min()} to {at_ticks.max()}")
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

    def _places(self) -> list[int]:
        """The cuts: where the clock begins, all key states but the last one, and the number of ticks."""
        return [0, *self._place(), self.ticks]

    def _place(self) -> list[int]:
        """First ticks of all stages but the first, ``K - 1``."""
        config, information = self.config, self.information
        places = self._measurable
        if self.estimator is None:
            places = places[self.clock.rest[places] > 0]
        score = self._score()
        found = peaks(score, places, config.gap)
        if config.concepts is not None:
            inner, least = config.concepts - 1, TELLING * score.max()
            if self.estimator is not None:
                found = [tick for tick in found if score[tick] >= least]
                found = shoulders(found, inner, score, places[score[places] >= least], config.gap)
            return divided(found[:inner], inner, self.ticks, config.gap)
        last = self.epoch >= config.epochs
        least = SURELY * self.chance if last else 0.0
        # The peak of the score may be a tick or two from that of the information.
        told = {tick: float(information[max(0, tick - PEAK) : tick + PEAK + 1].max()) for tick in found}
        level = told_apart(list(told.values()), config.worth, least)
        chosen = [tick for tick in found if told[tick] >= level]
        if not chosen and last:
            asked = (
                f"worth={config.worth:g} are asked for"
                if least <= config.worth
                else f"chance tells up to {self.chance:.3f}, of which {SURELY:g} times are asked for"
            )
            tells = (
                f"no place tells more than {max(told.values()):.3f} nats about it, and {asked}"
                if told
                else f"no place on {self.ticks} ticks tells more than those beside it"
            )
            raise NothingFoundError(
                f"nothing divides the motion of these {len(self.trajectories)} trajectories into stages: {tells}; concepts=K "
                "places K key states all the same"
            )
        return sorted(chosen)

    @property
    def chance(self) -> float:
        """The most, in nats, that a place tells where demonstrations have no direction in common
        (:mod:`infoatlas_rl.keystates.chance`); 0 of fewer than 20 of them, whose directions can be told from each other."""
        if self.estimator is None or len(self.trajectories) < MIN_TRAJECTORIES:
            return 0.0
        if self._chance is None:
            apart = TrajectorySet(turned(self.trajectories.states, np.random.default_rng(self.config.seed)), self.config.delta)
            finder = KeyStateFinder(
                apart, self.estimator, replace(self.config, concepts=2, gap=KeyStateConfig.gap, epochs=CHANCE_EPOCHS)
            )
            for _ in finder.fit():
                pass
            self._chance = float(finder.information.max())
        return self._chance

    def _score(self) -> Array:
        """The objective at every tick, ``(T,)``."""
        config, clock = self.config, self.clock
        told = config.mi_weight * self.information + config.rest_weight * clock.rest if self.estimator is not None else clock.rest
        return told - config.spread_weight * clock.spread

    @property
    def _reach(self) -> int:
        """Ticks on either side of a place whose motions are compared."""
        return max(1, min(self.config.window, self.ticks // 4))

    @property
    def _measurable(self) -> NDArray[np.int64]:
        """The ticks with as many motions before them as after them."""
        return np.arange(self._reach, self.ticks - self._reach + 1)

    def _batches(self) -> list[NDArray[np.int64]]:
        """The ticks that are measured, in parts."""
        if self.estimator is None or self.config.concepts == 1:
            return []
        return np.array_split(self._measurable, math.ceil(len(self._measurable) / PLACES))

    def _measure(self, places: NDArray[np.int64]) -> Array:
        """Information of a boundary at some ticks about the motions around it, in nats."""
        config, began, reach = self.config, time.perf_counter(), self._reach
        rng = np.random.default_rng([config.seed, self.steps])
        # Stratified over time; the same moments around all places.
        moment = (2 * reach * (np.arange(config.samples) + rng.random(config.samples)) / config.samples).astype(int) - reach
        who = rng.integers(len(self.trajectories), size=(len(places), config.samples))
        motion = self.clock.motions[who, places[:, None] + moment]
        motion = motion + config.noise / np.sqrt(motion.shape[2]) * rng.standard_normal(motion.shape)
        after = torch.from_numpy((moment >= 0).astype(np.float32))[:, None].expand(len(places), -1, -1)
        self.estimator.reseed(config.seed * 1_000_003 + self.steps)
        with torch.no_grad():
            information = self.estimator.mi(after, torch.from_numpy(motion.astype(np.float32))).double().numpy()
        self.steps += 1
        self.seconds += time.perf_counter() - began
        return information

    def _information(self) -> Array:
        """Information of the key states where they are now, ``(K - 1,)``."""
        if self.estimator is None:
            return np.full(len(self.cuts) - 2, np.nan)
        return self.information[self.cuts[1:-1]]

    # --- key states on the clock --------------------------------------------------------------------------------------

    def _ends(self) -> list[float]:
        """Ticks ``(K,)`` at which the stages end: half a tick before the first of the next; the last where the final state is
        reached."""
        if not self.cuts:
            raise RuntimeError("no key states yet: go through fit() first, which measures as it is iterated: list(finder.fit())")
        return [place - 0.5 for place in self._summits()] + [self.ticks - 1.0]

    def _summits(self) -> list[float]:
        """Where the stages but the first begin, between ticks, ``K - 1``."""
        return summits(self._score(), self.cuts)

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
        progress = {name: getattr(self, name) for name in ("epoch", "steps", "seconds")}
        return progress | {"measured": torch.from_numpy(self._measured), "chance": self._chance}

    def _restore(self, progress: dict[str, Any]) -> None:
        self.epoch, self.steps, self.seconds = progress["epoch"], progress["steps"], progress["seconds"]
        self._measured, self._chance = progress["measured"].numpy().copy(), progress["chance"]
        if self.epoch:
            self.cuts = self._places()

    def _identity(self) -> dict[str, Any]:
        digest = hashlib.sha256(np.ascontiguousarray(self.trajectories.states).tobytes()).hexdigest()
        return {
            **asdict(self.config),
            "estimator": _named(self.estimator),
            "trajectories": len(self.trajectories),
            "states_sha256": digest[:16],
            "aligned_by": "states and motions of columns that change",  # not so in older versions
        }


def _named(estimator: Any) -> str:
    """An estimator as checkpoints name it; with a hash of its weights, if it has any."""
    if estimator is None:
        return "none"
    weights = estimator.state_dict() if isinstance(estimator, torch.nn.Module) else {}
    return f"{type(estimator).__name__}({estimator.extra_repr()})" + (f" {fingerprint(estimator)}" if weights else "")
