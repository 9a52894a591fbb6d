"""The protocol of the CoTPC and MaxMI papers: which scenes a policy is trained, validated and evaluated on.

Seen scenes are those of the policy's own demonstrations; unseen ones have the seeds 2000 to 2099 (PegInsertion: to 2399). The
checkpoint is chosen on validation scenes that are neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infoatlas_rl.maniskill.tasks import TASKS, Task, TaskDescription, configured_task
from infoatlas_rl.policies.policy import FORMAT
from infoatlas_rl.weights import released_file

UNSEEN_SEED = 2000
EPISODES = 100
UNSEEN_EPISODES = {"PegInsertion": 400}


def policy_task(description: TaskDescription | None) -> Task:
    """The task of a name or description, if it is one that policies are for."""
    task = configured_task(description)
    if task.object is None:
        raise ValueError(
            f"env={task.name} has no 100-D state, which policies need: say object, target and geometry under task in its file of "
            f"configs/env (as PlugCharger does), or choose one of {', '.join(TASKS)}"
        )
    return task


def released_policy(task: str) -> Path:
    """File of the released policy of a task, checked against the manifest.

    Raises:
        WeightsError: there is none.
    """
    return released_file(task, FORMAT)


def validation_scenes(config: Mapping[str, Any]) -> range:
    """Seeds of the scenes that choose the checkpoint."""
    first = config["validation"]["first_seed"]
    return range(first, first + config["validation"]["episodes"])


def unseen_episodes(task: str) -> int:
    """How many unseen scenes the protocol has."""
    return UNSEEN_EPISODES.get(task, EPISODES)


def evaluation_scenes(
    task: str, record: Mapping[str, Any], split: str, *, first_seed: int | None = None, episodes: int | None = None
) -> list[int]:
    """Seeds of the scenes of a split, "seen" or "unseen", for a policy with this record of its training.

    Raises:
        ValueError: an unknown split, fewer than one episode, more than there are, or unseen scenes that were seen.
    """
    if split not in ("seen", "unseen"):
        raise ValueError(f"eval.split={split} is unknown; choose seen or unseen")
    for name, value, least in (("episodes", episodes, 1), ("first_seed", first_seed, 0)):
        if value is not None and not isinstance(value, int):
            raise ValueError(f"eval.{name} has to be an integer, not {value!r}")
        if value is not None and value < least:
            raise ValueError(f"eval.{name} has to be at least {least}, not {value}")
    if not {"demonstrations", "config"} <= set(record):
        raise ValueError("the policy does not say which scenes it has seen; take one that tasks/train_policy.py has written")
    seen = record["demonstrations"]["seeds"]
    if split == "unseen":
        start = UNSEEN_SEED if first_seed is None else first_seed
        seeds = range(start, start + (episodes or unseen_episodes(task)))
        used = {"among the policy's demonstrations": seen, "those of its validation": validation_scenes(record["config"])}
        for what, known in used.items():
            if both := set(seeds) & set(known):
                raise ValueError(f"{len(both)} of the scenes {start} to {seeds[-1]} are {what}, so not unseen")
        return list(seeds)
    seen = [seed for seed in seen if first_seed is None or seed >= first_seed]
    if len(seen) < (episodes or 1):
        raise ValueError(f"eval.episodes={episodes or 1}, but the policy has seen {len(seen)} such scenes")
    return seen[: episodes or EPISODES]
