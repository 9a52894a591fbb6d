"""Evaluation: a policy runs through many scenes in processes of their own, and its success is counted.

Success rates are k of n scenes with the 95 % interval of Wilson (1927). Finished episodes are noted in a file, so that an
evaluation that was killed goes on where it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from infoatlas_rl.files import require_same_run, sha256
from infoatlas_rl.maniskill.tasks import Task, describe
from infoatlas_rl.policies.environment import StateEnv
from infoatlas_rl.policies.policy import KeyStatePolicy
from infoatlas_rl.policies.protocol import evaluation_scenes
from infoatlas_rl.policies.rollout import Episode, rollout
from infoatlas_rl.processes import scatter

FORMAT = "infoatlas-evaluation-1"
BOOTSTRAPS = 10_000


def wilson(successes: float, trials: float, z: float = 1.959964) -> tuple[float, float]:
    """The 95 % interval of a success rate (Wilson 1927)."""
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    centre = share + z * z / (2 * trials)
    half = z * np.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def interval_of_runs(successes: Sequence[int], trials: int) -> tuple[float, float]:
    """The 95 % interval of the mean success rate of several learners, of ``trials`` scenes each: at either end the wider one of
    Wilson's over all scenes and the percentile bootstrap over learners (Agarwal et al. 2021), which says how much they differ."""
    low, high = wilson(sum(successes), trials * len(successes))
    least, most = bootstrap_interval(np.asarray(successes) / trials, np.random.default_rng(0))
    return min(low, least), max(high, most)


def bootstrap_interval(values: NDArray[np.float64], generator: np.random.Generator) -> tuple[float, float]:
    """The 95 % interval of the mean of values ``(n,)`` by resampling them."""
    means = values[generator.integers(len(values), size=(BOOTSTRAPS, len(values)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


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


# --- episodes in processes --------------------------------------------------------------------------------------------


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
        WeightsError: the file is no policy of this version.
        ValueError: fewer than one process.
        RuntimeError: worker processes died again and again; or what an episode raised, with its traceback.
    """
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
        torch.set_num_threads(1)
        policy = _worker["policy"] = KeyStatePolicy.load(_worker["path"])
        options = {"stop_at_success": _worker["stop_at_success"], "control_mode": policy.config.control_mode}
        _worker["env"] = StateEnv(policy.task, **options)
    return rollout(_worker["policy"], _worker["env"], seed)


# --- what is evaluated, and where the result goes ---------------------------------------------------------------------


@dataclass(frozen=True)
class Evaluation:
    """A policy and the scenes that it is evaluated in; make it with :meth:`of`."""

    policy: Path
    sha256: str
    """Of the policy's file."""
    record: dict[str, Any]
    """Of the policy's training."""
    task: Task
    split: str
    """"seen" or "unseen"."""
    seeds: list[int]
    whole: bool
    """These are the scenes of the protocol, all of them."""
    stop_at_success: bool

    @classmethod
    def of(
        cls,
        policy: Path,
        task: Task,
        split: str = "unseen",
        *,
        first_seed: int | None = None,
        episodes: int | None = None,
        stop_at_success: bool = False,
    ) -> Evaluation:
        """See :func:`~infoatlas_rl.policies.protocol.evaluation_scenes`.

        Raises:
            WeightsError: the file is no policy for this task.
            ValueError: the task has no policies, or there are no such scenes.
        """
        trained, record = KeyStatePolicy.load_with_record(policy, task.name)
        there, here = ({"name": said} if isinstance(said, str) else said for said in map(describe, (trained.task, task)))
        require_same_run(policy, there, here, "train it again, or evaluate it with the file that it was trained with")
        seeds = evaluation_scenes(task.name, record, split, first_seed=first_seed, episodes=episodes)
        whole = first_seed is None and episodes is None
        return cls(policy, sha256(policy), record, task, split, seeds, whole, stop_at_success)

    @property
    def notes(self) -> str:
        """Name of the file in which finished episodes are noted; other scenes of the same policy go into the same one."""
        return f"{self.sha256[:12]}{'-stopped' if self.stop_at_success else ''}.jsonl"

    @property
    def result(self) -> str:
        """Name of the file of results: split, policy, scenes where they are not all of the protocol, and how they ended."""
        scenes = "" if self.whole else f"-{self.seeds[0]}-to-{self.seeds[-1]}"
        return f"{self.split}-{self.sha256[:12]}{scenes}{'-stopped' if self.stop_at_success else ''}.json"

    def content(self, episodes: Sequence[Episode], seconds: float | None, origin: dict[str, Any]) -> dict[str, Any]:
        """What a file of results holds.

        Args:
            episodes: what :func:`evaluate` returned.
            seconds: that all of them took; None if that is not known.
            origin: version, machine and command, see :func:`~infoatlas_rl.records.provenance`.
        """
        content: dict[str, Any] = {
            "format": FORMAT,
            "task": self.task.name,
            "env_id": self.task.env_id,
            "horizon": self.task.horizon,
            "backend": "physx_cpu",
            "policy": {
                "path": str(self.policy),
                "sha256": self.sha256,
                "keystates": self.record.get("keystates"),
                "seed": self.record["config"]["training"]["seed"],
            },
            "demonstrations": self.record["demonstrations"]["count"],
            "split": self.split,
            **summary(episodes),
            "seconds": None if seconds is None else round(seconds, 1),
            **origin,
            "episodes": [asdict(episode) for episode in episodes],
        }
        if self.stop_at_success:
            del content["k_at_end"]
        return content
