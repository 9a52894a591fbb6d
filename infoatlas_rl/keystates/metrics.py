"""How well key states meet the events that a person would name, and whether a concept is the same thing everywhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infoatlas_rl.keystates.trajectories import column_scales

Array = NDArray[np.float64]
Steps = NDArray[np.int64]
Events = Sequence[Mapping[str, int | None]]

WINDOW = 5
"""A key state within this many steps of an event hits it."""


@dataclass(frozen=True)
class KeyStateScore:
    """Agreement of key states with ground-truth events."""

    f1: float
    """Harmonic mean of precision and recall."""
    f1_interval: tuple[float, float]
    """95 %, bootstrap over demonstrations."""
    precision: float
    """Share of key states within the window of an event."""
    recall: float
    """Share of events with a key state within the window."""
    median_step_error: float
    """Median over all events of the distance to the nearest key state, in steps."""
    steps_to_next: float
    """Mean over all events of the steps to the next key state, at the event or later; back to the last one where there is none
    (the human intent score of InfoCon, Liu et al. 2024)."""
    by_event: dict[str, dict[str, float]]
    """Recall and median error of every event; precision is the share of key states nearest to it that hit it."""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def score_key_states(steps: Sequence[Steps], events: Events, window: int = WINDOW, seed: int = 0) -> KeyStateScore:
    """Compare key states, an array of steps per demonstration, with the events ``{name: step or None}`` of each."""
    if len(steps) != len(events):
        raise ValueError(f"{len(steps)} rows of key states for {len(events)} demonstrations")
    if empty := [number for number, row in enumerate(steps) if len(row) == 0]:
        raise ValueError(f"demonstration {empty[0]} has no key states; the last one is the final state, of every demonstration")
    errors: dict[str, list[int]] = {}
    nearest: dict[str, list[bool]] = {}
    to_next: list[int] = []
    counts = np.zeros((len(events), 4))  # hit events, events, key states that hit, key states
    for row, (found, happened) in enumerate(zip(steps, events, strict=True)):
        present = {name: step for name, step in happened.items() if step is not None}
        distance = np.abs(np.asarray(found)[:, None] - np.array(list(present.values()), dtype=int)[None])
        for name, column in zip(present, distance.T, strict=True):
            errors.setdefault(name, []).append(int(column.min()))
        for when in present.values():
            later = [int(step) - when for step in found if step >= when]
            to_next.append(min(later, default=when - int(max(found))))
        near = distance.min(1) <= window if present else np.zeros(len(found), dtype=bool)
        for hit, name in zip(near, np.array(list(present))[distance.argmin(1)] if present else [], strict=bool(present)):
            nearest.setdefault(str(name), []).append(bool(hit))
        counts[row] = (distance.min(0) <= window).sum() if present else 0, len(present), near.sum(), len(found)
    if not errors:
        raise ValueError("none of the demonstrations has any event to compare with")
    f1, precision, recall = _rates(counts.sum(0))
    draws = np.random.default_rng(seed).integers(len(counts), size=(1000, len(counts)))
    resampled = [_rates(counts[draw].sum(0))[0] for draw in draws]
    low, high = np.quantile(resampled, [0.025, 0.975])
    return KeyStateScore(
        f1=f1,
        f1_interval=(float(low), float(high)),
        precision=precision,
        recall=recall,
        median_step_error=float(np.median(np.concatenate([np.array(values) for values in errors.values()]))),
        steps_to_next=float(np.mean(to_next)),
        by_event={
            name: {
                "median_step_error": float(np.median(values)),
                "recall": float((np.array(values) <= window).mean()),
                "precision": float(np.mean(nearest.get(name, [0]))),
            }
            for name, values in errors.items()
        },
    )


def _rates(counts: Array) -> tuple[float, float, float]:
    hit, events, right, found = (float(count) for count in counts)
    recall, precision = hit / max(events, 1), right / max(found, 1)
    total = recall + precision
    return (2 * recall * precision / total if total > 0 else 0.0), precision, recall


@dataclass(frozen=True)
class Consistency:
    """Does concept k mean the same thing in every demonstration? One value per concept."""

    phase_std: list[float]
    """Standard deviation of its time, as a share of the trajectory."""
    state_spread: list[float]
    """Mean standard deviation of the standardised states at the key state; 1 is that of any state."""
    same_event: list[float]
    """Share of demonstrations in which the nearest event is the concept's most frequent one."""


def consistency(steps: Steps, trajectories: Sequence[Array], events: Events | None = None) -> Consistency:
    """Spread of key states ``(N, K)`` over demonstrations ``(t_i, d)``."""
    lengths = np.array([len(trajectory) for trajectory in trajectories])
    everything = np.concatenate(trajectories)
    scale, changing = everything.std(0), np.isfinite(column_scales(trajectories)[1])
    at = np.stack([trajectory[row][:, changing] for trajectory, row in zip(trajectories, steps, strict=True)])
    same = []
    for column in steps.T if events is not None else ():
        names = [
            min((abs(step - when), name) for name, when in happened.items() if when is not None)[1]
            for step, happened in zip(column, events, strict=True)
            if any(when is not None for when in happened.values())
        ]
        same.append(max(names.count(name) for name in set(names)) / len(names) if names else 0.0)
    return Consistency(
        phase_std=[float(value) for value in (steps / (lengths[:, None] - 1)).std(0)],
        state_spread=[float(value) for value in (at.std(0) / scale[changing]).mean(1)],
        same_event=same,
    )


def agreement(first: Steps, second: Steps, window: int = WINDOW) -> tuple[float, float]:
    """How often key states of two runs, ``(N, K)`` each, lie within the window of each other: the share of demonstrations in
    which all of them do, and the share of key states; never, where the runs do not have as many."""
    if first.shape != second.shape:
        return 0.0, 0.0
    near = np.abs(first - second) <= window
    return float(near.all(1).mean()), float(near.mean())
