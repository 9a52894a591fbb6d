"""New demonstrations from a few, in parallel processes, resumably, in ManiSkill's own format.

Scene after scene is replayed (:mod:`~infoatlas_rl.policies.replay`), and kept where the task was solved. Scenes are worked
through in chunks, as those of a collection are.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from infoatlas_rl.checks import check_whole
from infoatlas_rl.maniskill.collect import CHUNK, CollectionReport, Job, Progress, make_file, part_path
from infoatlas_rl.maniskill.demos import DemonstrationSet
from infoatlas_rl.maniskill.envs import make_env, read_geometry
from infoatlas_rl.maniskill.recording import SOURCE_MODE, MadeFor, recording
from infoatlas_rl.maniskill.tasks import Task, describe
from infoatlas_rl.policies.agreement import agreeing_cuts
from infoatlas_rl.policies.references import Course, find_references
from infoatlas_rl.policies.replay import Plan, Replay

REPLAY = 3
"""Counts up where a plan is replayed in another way, so that files of both are not mixed."""


def make_plan(demos: DemonstrationSet, cuts: NDArray[np.int64], *, agree: bool = True) -> Plan:
    """The plan of demonstrations that are cut at ``cuts (n, k)``, the last of which is their end; with ``agree`` the others are
    moved to where the demonstrations agree.

    Raises:
        ValueError: they were recorded with another control mode than ``pd_joint_pos``, show no object that is moved, or have
            fewer than two steps.
    """
    demos.require_control_mode(SOURCE_MODE, "what is replayed are the poses that joint targets stand for")
    for demo in demos:
        if len(demo.actions) < 2:
            raise ValueError(
                f"{demos.path}: demonstration {demo.episode_id} (seed {demo.seed}) has {len(demo.actions)} step, which is no "
                "motion; leave it out"
            )
    courses = [Course.of(demo, demos.task) for demo in demos]
    cuts = agreeing_cuts(courses, cuts, demos.task) if agree else cuts
    return Plan(courses, cuts, find_references(courses, cuts, demos.task))


def generated_path(root: Path | str, task: Task, name: str) -> Path:
    """Where generated demonstrations lie."""
    return Path(root) / task.env_id / "generated" / name / "trajectory.h5"


def check_generation(count: int, first_seed: int, processes: int) -> None:
    """Raise a ``ValueError`` for what :func:`generate_demonstrations` cannot do, before the work."""
    for name, value, least in (("count", count, 1), ("first_seed", first_seed, 0), ("processes", processes, 1)):
        check_whole(f"generate.{name}", value, least=least)


def generate_demonstrations(
    demos: DemonstrationSet,
    plan: Plan,
    path: Path,
    count: int,
    *,
    first_seed: int = 10_000,
    processes: int = 2,
    progress: Progress | None = None,
) -> CollectionReport:
    """Replay ``plan`` in scenes ``first_seed, first_seed + 1, ...`` until ``count`` of them succeed, and record those.

    Raises:
        ValueError: ``count``, ``first_seed`` or ``processes`` too small, scenes of the demonstrations among the new ones, or the
            place is taken by demonstrations that were made of others.
        RuntimeError: scene after scene fails, and the reasons are listed; or a process died.
        FullDiskError: in one line.
    """
    check_generation(count, first_seed, processes)
    if known := [demo.seed for demo in demos if demo.seed >= first_seed]:
        raise ValueError(
            f"scene {known[0]} of the demonstrations is at or after generate.first_seed={first_seed}; choose a later first_seed"
        )
    task, made_of = demos.task, _digest(demos, plan)

    def jobs() -> Iterator[Job]:
        for start in itertools.count(first_seed, CHUNK):
            seeds = list(range(start, start + CHUNK))
            made_for = {"env_id": task.env_id, "horizon": task.horizon, "seeds": seeds, "made_of": made_of}
            part = part_path(path, SOURCE_MODE, seeds)
            yield Job(part, made_for, (generate_chunk, task, plan, seeds, part, made_for))

    return make_file(path, jobs(), count, first_seed, processes, progress, made_of)


def generate_chunk(task: Task, plan: Plan, seeds: list[int], part: Path, made_for: MadeFor) -> None:
    """Replay in the scenes of ``seeds`` and record those that succeed to ``part``, failures in its notes."""
    env = make_env(task, control_mode=SOURCE_MODE)
    with recording(env, part, f"replayed from {len(plan.courses)} demonstrations", len(seeds), made_for, "generated") as recorder:
        replay = Replay(recorder, task, plan)
        for seed in seeds:
            outcome = replay(seed)
            recorder.keep(seed, outcome.reason, read_geometry(env, task), list(outcome.ends))


def _digest(demos: DemonstrationSet, plan: Plan) -> str:
    """What demonstrations that are made of a plan depend on, as 16 digits."""
    references = [(r.actor, r.turns, r.carried) for r in plan.references]
    content = [REPLAY, describe(demos.task), [demo.seed for demo in demos], plan.cuts.tolist(), references]
    actions = b"".join(np.ascontiguousarray(demo.actions).tobytes() for demo in demos)
    return hashlib.sha256(json.dumps(content).encode() + actions).hexdigest()[:16]
