"""What discovery found in a source: key states, their scores, the MI profile; as tables and as files."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infoatlas_rl.keystates import KeyStateFinder, KeyStates, KeyStateScore, score_key_states
from infoatlas_rl.keystates.files import write_key_states
from infoatlas_rl.keystates.metrics import consistency
from infoatlas_rl.keystates.rules import evenly_spaced
from infoatlas_rl.loss import InfoAtlasLoss
from infoatlas_rl.maniskill.pictures import Measured
from infoatlas_rl.maniskill.stages import stage_names
from infoatlas_rl.maniskill.trajectories import Source
from infoatlas_rl.tables import Table


@dataclass(frozen=True)
class Profile:
    """The MI profile of some of the trajectories, on the common clock."""

    time: NDArray[np.float64]
    """``(p,)``, mean time of the ticks, as a share of the trajectory."""
    steps: NDArray[np.int64]
    """``(N', p)``"""
    pointwise: NDArray[np.float64]
    """``(N', p)``, nats."""

    @property
    def mean(self) -> NDArray[np.float64]:
        return self.pointwise.mean(0)


class Findings:
    """Key states of a source.

    Args:
        source: what was searched.
        finder: fitted on ``source.trajectories``.
        mi_loss: of the MI profile, and of the MI that every key state is scored with.
    """

    def __init__(self, source: Source, finder: KeyStateFinder, mi_loss: InfoAtlasLoss) -> None:
        self.source, self.finder, self._mi_loss = source, finder, mi_loss
        self.key_states: KeyStates = finder.key_states()

    @cached_property
    def profile(self) -> Profile:
        return Profile(self.finder.clock.phase[self.finder.config.delta : -1 : 2], *self.finder.profile(self._mi_loss, every=2))

    @cached_property
    def stages(self) -> list[str]:
        """What happens in each of the stages, in words."""
        task = None if self.source.demos is None else self.source.demos.task
        return stage_names(self.source.states, self.key_states.steps, task)

    @cached_property
    def measured(self) -> Measured | None:
        """What key states were placed by; None where that is not information."""
        finder = self.finder
        if finder.config.method != "stages" or finder.estimator is None:
            return None
        phase = finder.clock.phase
        return Measured(phase[:-1], finder.information, phase[finder.cuts[1:-1]], self.key_states.information)

    @cached_property
    def scores(self) -> dict[str, KeyStateScore]:
        """Agreement with ground-truth events, where there are any, beside that of even spacing."""
        events = self.source.events
        if not events:
            return {}
        even = evenly_spaced(self.finder.trajectories.lengths, self.finder.concepts)
        return {
            "discovered": score_key_states(list(self.key_states.steps), events),
            "evenly spaced": score_key_states(list(even), events),
        }

    @cached_property
    def concepts(self) -> list[dict[str, Any]]:
        """When each key state is, how much that varies, how alike the states are, and what it says about the motion."""
        steps = self.key_states.steps
        spread = consistency(steps, self.source.trajectories, self.source.events)
        phases = steps / (self.finder.trajectories.lengths[:, None] - 1)
        information = [float(value) if np.isfinite(value) else None for value in self.key_states.information] + [None]
        return [
            {
                "concept": k + 1,
                "stage": self.stages[k],
                "time": round(float(phases[:, k].mean()), 4),
                "time_std": round(spread.phase_std[k], 4),
                "state_spread": round(spread.state_spread[k], 4),
                "information": None if information[k] is None else round(information[k], 4),
            }
            for k in range(phases.shape[1])
        ]

    def score_table(self) -> Table:
        events = list(next(iter(self.scores.values())).by_event)
        header = ["", "F1", "precision", "recall", "median error", *(f"hits {name}" for name in events)]
        rows = [
            [name, f"{score.f1:.3f}", f"{score.precision:.1%}", f"{score.recall:.1%}", f"{score.median_step_error:.0f} steps"]
            + [f"{score.by_event[event]['recall']:.1%}" for event in events]
            for name, score in self.scores.items()
        ]
        return Table(header, rows, title="agreement with ground-truth events, which discovery never sees (hit: within 5 steps)")

    def concept_table(self) -> Table:
        rows = []
        for c in self.concepts:
            last = c["concept"] == len(self.concepts)
            information = f"{c['information']:.2f} nats" if c["information"] is not None else "end" if last else ""
            spreads = [f"{c['time']:.2f}", f"{c['time_std']:.3f}", f"{c['state_spread']:.2f}"]
            rows.append([str(c["concept"]), c["stage"], *spreads, information])
        title = "key states: time as a share of the trajectory, its standard deviation over demonstrations, spread of the state"
        return Table(["key state", "ends", "time", "+-", "spread of the state", "information"], rows, title=title)

    def write(self, out: Path, record: dict[str, Any]) -> None:
        """Write ``keystates.json``, ``.csv`` and ``.npz``.

        Args:
            record: how they were found; ``config`` and ``weights_sha256`` are in both files.
        """
        finder, source = self.finder, self.source
        _, mi = finder.profile(self._mi_loss, ticks=[cut - 1 for cut in finder.cuts[1:]], most=len(source))
        figures = {
            "seconds": round(finder.seconds, 1),
            "seconds_per_step": round(finder.seconds_per_step, 4),
            "concepts": self.concepts,
            "mi_profile": {"time": self.profile.time.round(4).tolist(), "mi": self.profile.mean.round(4).tolist()},
            "scores": {name: score.to_json() for name, score in self.scores.items()},
        }
        content = {"task": source.name, "demonstrations": source.about, **record, **figures}
        write_key_states(out, content, source.identity, source.states, self.key_states.steps, mi, source.events)
