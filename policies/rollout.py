"""A rollout: a policy runs through one scene, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from infoatlas_rl.maniskill.events import detect_events


class Policy(Protocol):
    """Anything with the ``predict`` of stable-baselines3."""

    def predict(self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True) -> Any: ...


@dataclass(frozen=True)
class Episode:
    """What came of one scene."""

    seed: int
    success: bool
    """At any step."""
    success_at_end: bool
    """At the last step."""
    steps: int
    """Until success, else the horizon."""
    events: dict[str, int | None]
    """First step of every intermediate event of the task."""


@dataclass
class Trace:
    """The course of an episode, for pictures and analysis."""

    states: list[NDArray[np.float32]] = field(default_factory=list)
    env_states: list[dict[str, dict[str, NDArray[np.float32]]]] = field(default_factory=list)
    """Those of the simulator, to draw the scene; only of an environment that has ``snapshot``."""
    keys: list[NDArray[np.float32]] = field(default_factory=list)
    """The key states that the policy predicted, see ``PolicyState.keys``."""


def rollout(policy: Policy, env: Any, seed: int, *, trace: Trace | None = None) -> Episode:
    """Run ``policy`` through scene ``seed`` of a :class:`~infoatlas_rl.policies.environment.StateEnv` to the episode's end."""
    observation, _ = env.reset(seed=seed)
    snapshot = getattr(env, "snapshot", None) if trace is not None else None
    trace = trace or Trace()
    state, solved, ended, info = None, None, False, {"success": False}
    start = np.ones(1, dtype=bool)
    while not ended:
        trace.states.append(observation)
        if snapshot is not None:
            trace.env_states.append(snapshot())
        action, state = policy.predict(observation, state=state, episode_start=start, deterministic=True)
        if hasattr(state, "keys"):
            trace.keys.append(state.keys[0])
        observation, _, terminated, truncated, info = env.step(action)
        start = np.zeros(1, dtype=bool)
        if info["success"] and solved is None:
            solved = len(trace.states)
        ended = terminated or truncated
    trace.states.append(observation)
    events = detect_events(np.asarray(trace.states, dtype=np.float64), env.task)
    return Episode(seed, solved is not None, info["success"], solved or len(trace.states) - 1, events)
