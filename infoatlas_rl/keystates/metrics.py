"""How well key states meet the events that a person would name, and the baseline of evenly spaced key states."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Steps = NDArray[np.int64]

WINDOW = 5
"""A key state within this many steps of an event hits it."""


@dataclass(frozen=True)
class KeyStateScore:
    """Agreement of key states with ground-truth events."""

    median_step_error: float
    """Median over all events of the distance to the nearest key state, in steps."""
    hit_rate: float
    """Recall: share of events with a key state within the window."""
    precision: float
    """Share of key states within the window of an event."""
    by_event: dict[str, dict[str, float]]
    """The first two for every event."""

    @property
    def f1(self) -> float:
        total = self.hit_rate + self.precision
        return 2 * self.hit_rate * self.precision / total if total > 0 else 0.0


def score_key_states(steps: Steps, events: Sequence[Mapping[str, int | None]], window: int = WINDOW) -> KeyStateScore:
    """Compare key states ``(N, K)`` with the events ``{name: step or None}`` of each of N demonstrations."""
    if len(steps) != len(events):
        raise ValueError(f"{len(steps)} rows of key states for {len(events)} demonstrations")
    errors: dict[str, list[int]] = {}
    near: list[bool] = []
    for row, happened in zip(steps, events, strict=True):
        present = {name: step for name, step in happened.items() if step is not None}
        for name, step in present.items():
            errors.setdefault(name, []).append(int(np.abs(row - step).min()))
        times = np.array(list(present.values()))
        near += [bool(len(times)) and bool(np.abs(times - step).min() <= window) for step in row]
    if not errors:
        raise ValueError("none of the demonstrations has any event to compare with")
    everything = np.concatenate([np.array(values) for values in errors.values()])
    return KeyStateScore(
        median_step_error=float(np.median(everything)),
        hit_rate=float((everything <= window).mean()),
        precision=float(np.mean(near)),
        by_event={
            name: {"median_step_error": float(np.median(values)), "hit_rate": float((np.array(values) <= window).mean())}
            for name, values in errors.items()
        },
    )


def evenly_spaced(lengths: Sequence[int], concepts: int) -> Steps:
    """K key states at 1/K, 2/K, ..., 1 of every trajectory, ``(N, K)``; the last is the final state."""
    phases = (np.arange(concepts) + 1) / concepts
    return np.rint(phases[None] * (np.asarray(lengths)[:, None] - 1)).astype(np.int64)
