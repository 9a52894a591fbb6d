"""Rollouts: one function that runs a policy through a scene, and one that runs it through many in parallel processes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from infoatlas_rl.maniskill.events import detect_events
from infoatlas_rl.processes import scatter


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


def wilson(successes: float, trials: float, z: float = 1.959964) -> tuple[float, float]:
    """The 95 % interval of a success rate (Wilson 1927)."""
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    centre = share + z * z / (2 * trials)
    half = z * np.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def success_rate(k: int, n: int, *, trainings: int = 1) -> dict[str, Any]:
    """k of n with its interval, as result files hold it; scenes that several trainings were evaluated on count once in it."""
    return {"k": k, "n": n, "wilson95": [round(bound, 4) for bound in wilson(k / trainings, n / trainings)]}


def summary(episodes: Sequence[Episode]) -> dict[str, Any]:
    """Success at any step as k of n with its interval, at the end, and the share of episodes that passed each event."""
    n, k = len(episodes), sum(episode.success for episode in episodes)
    names = episodes[0].events if episodes else {}
    return {
        **success_rate(k, n),
        "rate": round(k / max(n, 1), 4),
        "k_at_end": sum(episode.success_at_end for episode in episodes),
        "events": {name: sum(episode.events[name] is not None for episode in episodes) for name in names},
        "mean_steps": round(float(np.mean([episode.steps for episode in episodes])), 1) if episodes else None,
    }


def evaluate(
    policy: Path | str,
    seeds: Iterable[int],
    *,
    stop_at_success: bool = False,
    processes: int = 2,
    record: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Episode]:
    """Run the policy of a file through scenes, in processes of their own.

    Args:
        policy: file of a :class:`~infoatlas_rl.policies.policy.KeyStatePolicy`.
        seeds: of the scenes.
        stop_at_success: do not wait for the horizon after a success; ``success_at_end`` then means nothing more.
        record: every finished episode is noted in this file, and not run again by another call with the same file.
        progress: called with (finished episodes, successes).

    Returns:
        The episodes in the order of ``seeds``; they do not depend on ``processes``.

    Raises:
        RuntimeError: worker processes died again and again; or what an episode raised, with its traceback.
    """
    from infoatlas_rl.policies.policy import KeyStatePolicy

    KeyStatePolicy.load(policy)  # an unfit file is refused here rather than in every worker
    seeds = list(seeds)
    done = noted(record) if record is not None else {}
    todo = [seed for seed in seeds if seed not in done]

    def finish(episode: Episode) -> None:
        done[episode.seed] = episode
        if record is not None:
            with open(record, "a") as file:
                file.write("\n" + json.dumps(asdict(episode)))  # the line before may be half a one
        if progress is not None:
            known = [done[seed] for seed in seeds if seed in done]
            progress(len(known), sum(episode.success for episode in known))

    scatter(_run_seed, todo, finish, processes=processes, initializer=_start_worker, initargs=(str(policy), stop_at_success))
    return [done[seed] for seed in seeds]


def noted(record: Path) -> dict[int, Episode]:
    """The episodes that :func:`evaluate` noted in a file, by seed."""
    lines = record.read_text().splitlines() if record.is_file() else []
    return {episode.seed: episode for episode in map(_parse, lines) if episode is not None}


def _parse(line: str) -> Episode | None:
    try:
        return Episode(**json.loads(line))
    except (ValueError, TypeError):  # the last line of a killed run
        return None


_worker: dict[str, Any] = {}


def _start_worker(policy: str, stop_at_success: bool) -> None:
    _worker.update(path=policy, stop_at_success=stop_at_success)


def _run_seed(seed: int) -> Episode:
    if "env" not in _worker:  # here, so that an error reaches the caller with its traceback
        import torch

        from infoatlas_rl.policies.environment import StateEnv
        from infoatlas_rl.policies.policy import KeyStatePolicy

        torch.set_num_threads(1)
        _worker["policy"] = KeyStatePolicy.load(_worker["path"])
        _worker["env"] = StateEnv(_worker["policy"].task, stop_at_success=_worker["stop_at_success"])
    return rollout(_worker["policy"], _worker["env"], seed)
