"""Collect demonstrations with ManiSkill's own motion-planning solutions, in parallel processes, resumably.

Seeds are worked through in chunks. A worker records a chunk under a temporary name and renames it when it is complete,
so a killed run loses at most the chunks in progress, and a second run, or one that asks for more, goes on from there.
The result holds the first ``count`` successes in the order of seeds and does not depend on the number of processes.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py

from infoatlas_rl.files import FullDiskError, full_disk, lock_folder, remove_leftovers, replace_file
from infoatlas_rl.maniskill.recording import SOURCE_MODE, MadeFor, convert_chunk, record_chunk, write_notes
from infoatlas_rl.maniskill.tasks import Task
from infoatlas_rl.processes import cause_of_death, worker_pool

CHUNK = 10
HOPELESS = 50, 0.02
"""The collection gives up after this many attempts if fewer than this share of them succeeded."""

Progress = Callable[[int, int, str], None]
"""Called with (done, total, note)."""


def demo_path(root: Path | str, task: Task, control_mode: str = SOURCE_MODE) -> Path:
    """Where the demonstrations of a task lie; the names are ManiSkill's."""
    folder = Path(root) / task.env_id / "motionplanning"
    if control_mode == SOURCE_MODE:
        return folder / "trajectory.h5"
    return folder / f"trajectory.state.{control_mode}.physx_cpu.h5"


@dataclass(frozen=True)
class CollectionReport:
    """What a collection, or a conversion, came to."""

    path: Path
    successes: int
    attempts: int
    reused: bool
    reasons: Mapping[str, int] = field(default_factory=dict)
    """Why attempts failed, and how often; empty where the file was there already."""

    @property
    def failures(self) -> int:
        return self.attempts - self.successes

    def text(self, what: str) -> str:
        """Lines for people; ``what`` was done."""
        if self.reused:
            return f"{what}: {self.successes} demonstrations are there already\n  {self.path}"
        first = f"{what}: {self.successes} demonstrations, {self.failures} of {self.attempts} attempts failed"
        reasons = sorted(self.reasons.items(), key=lambda item: -item[1])
        return "\n".join([first, *(f"  {times} x {reason}" for reason, times in reasons), f"  {self.path}"])


def collect_demonstrations(
    task: Task, root: Path | str, count: int, *, first_seed: int = 0, processes: int = 2, progress: Progress | None = None
) -> CollectionReport:
    """Solve scenes ``first_seed, first_seed + 1, ...`` until ``count`` of them succeed, and record those.

    Returns at once where the file already holds at least ``count`` episodes.

    Raises:
        ValueError: ``count`` below 1, another run is collecting there, or the place is taken by a complete file that this
            function did not make, or made from other scenes; that is never overwritten. A damaged one is made again from its
            chunks.
        RuntimeError: scene after scene fails, and the reasons are listed; or a process died.
        FullDiskError: in one line.
    """
    if processes < 1:
        raise ValueError(f"demos.processes has to be at least 1, not {processes}")
    if count < 1:
        raise ValueError(f"demos.count has to be at least 1, not {count}")
    if first_seed < 0:
        raise ValueError(f"demos.first_seed has to be at least 0, not {first_seed}")
    path = demo_path(root, task)

    def jobs() -> Iterator[Job]:
        for start in itertools.count(first_seed, CHUNK):
            seeds = list(range(start, start + CHUNK))
            part, made_for = part_path(path, SOURCE_MODE, seeds), _made_for(task, SOURCE_MODE, first_seed, seeds)
            yield Job(part, made_for, (record_chunk, task, seeds, part, made_for))

    return make_file(path, jobs(), count, first_seed, processes, progress)


def convert_demonstrations(
    task: Task, root: Path | str, count: int, control_mode: str, *, processes: int = 2, progress: Progress | None = None
) -> CollectionReport:
    """Replay the collected demonstrations with the actions of another control mode, until ``count`` follow.

    Demonstrations that the other controller cannot follow are dropped, so there may be fewer than ``count``: collect more.

    Raises:
        As :func:`collect_demonstrations`, and a ValueError where there are no demonstrations to convert.
    """
    source = demo_path(root, task)
    path = demo_path(root, task, control_mode)
    source_meta = _finished(source)
    if source_meta is None:
        raise ValueError(f"{source} is missing or damaged; python tasks/collect_demos.py env={task.name} makes it")
    episodes = source_meta["episodes"]
    collection = source_meta.get("collection")
    first_seed = collection.get("first_seed", 0) if isinstance(collection, dict) else 0

    def jobs() -> Iterator[Job]:
        for start in range(0, len(episodes), CHUNK):
            chunk = episodes[start : start + CHUNK]
            seeds = [episode["episode_seed"] for episode in chunk]
            part, made_for = part_path(path, control_mode, seeds), _made_for(task, control_mode, first_seed, seeds)
            yield Job(part, made_for, (convert_chunk, task, chunk, source, control_mode, part, made_for))

    return make_file(path, jobs(), count, first_seed, processes, progress)


@dataclass(frozen=True)
class Job:
    """A chunk: where it goes, what it is made for, and the call that makes it."""

    part: Path
    made_for: MadeFor
    call: tuple[Any, ...]

    def finished(self) -> dict[str, Any] | None:
        """The notes of the chunk where it is there, whole, and made for the same (older versions did not note for what)."""
        meta = _finished(self.part)
        return meta if meta is not None and meta["collection"].get("made_for", self.made_for) == self.made_for else None


def make_file(
    path: Path,
    jobs: Iterator[Job],
    count: int,
    first_seed: int,
    processes: int,
    progress: Progress | None,
    made_of: str | None = None,
) -> CollectionReport:
    """What is at ``path``, if it serves, or what the jobs make of it, while no other run works there.

    Args:
        jobs: one chunk after the other; as many are worked through as it takes.
        count: demonstrations that are asked for.
        first_seed: first scene of the first chunk.
        made_of: what they are made of, besides scenes; a file that was made of something else does not serve.

    Raises:
        As :func:`collect_demonstrations`.
    """
    if (there := _reusable(path, count, first_seed, made_of)) is not None:
        return there
    with lock_folder(path.parent):
        # A run that has just ended may have made it.
        if (there := _reusable(path, count, first_seed, made_of)) is not None:
            return there
        return _merge(path, _run_chunks(jobs, count, processes, progress), count, first_seed, made_of)


def _reusable(path: Path, count: int, first_seed: int, made_of: str | None) -> CollectionReport | None:
    """What is at ``path`` if it serves; None if it has to be made or extended; an error if it is not ours to replace."""
    meta = _finished(path)
    if meta is None:
        return None
    collection = meta.get("collection")
    if not isinstance(collection, dict) or collection.get("first_seed") != first_seed:
        raise ValueError(
            f"{path} is there already and was not collected from first_seed={first_seed}; read it with demos.path={path}, "
            "or collect to another folder with paths.demos="
        )
    if collection.get("made_of") != made_of:
        raise ValueError(
            f"{path} is there already and was made of other demonstrations or key states; read it with demos.path={path}, or "
            "choose another name="
        )
    successes = len(meta["episodes"])
    return None if successes < count else CollectionReport(path, successes, collection.get("attempts", successes), reused=True)


def part_path(path: Path, control_mode: str, seeds: list[int]) -> Path:
    return path.parent / "parts" / control_mode / f"seeds_{seeds[0]:06d}_{seeds[-1]:06d}.h5"


def _made_for(task: Task, control_mode: str, first_seed: int, seeds: list[int]) -> MadeFor:
    return {
        "env_id": task.env_id,
        "horizon": task.horizon,
        "control_mode": control_mode,
        "first_seed": first_seed,
        "seeds": seeds,
    }


def _run_chunks(jobs: Iterator[Job], count: int, processes: int, progress: Progress | None) -> list[Path]:
    """Work the chunks through in order until ``count`` successes or the end; the finished prefix is returned."""
    if processes < 1:
        raise ValueError(f"demos.processes has to be at least 1, not {processes}")
    parts: list[Path] = []
    done: dict[Path, dict[str, Any]] = {}
    running: dict[Future[None], Path] = {}

    def prefix_successes() -> int:
        return sum(len(done[part]["episodes"]) for part in itertools.takewhile(done.__contains__, parts))

    exhausted = False
    pool = worker_pool(processes, _quiet_worker)
    try:
        while True:
            while len(running) < processes and not exhausted and prefix_successes() < count:
                job = next(jobs, None)
                if job is None:
                    exhausted = True
                    break
                parts.append(job.part)
                job.part.parent.mkdir(parents=True, exist_ok=True)
                if (finished := job.finished()) is not None:
                    done[job.part] = finished
                else:
                    running[pool.submit(*job.call)] = job.part
            attempts = sum(meta["collection"]["attempts"] for meta in done.values())
            successes = sum(len(meta["episodes"]) for meta in done.values())
            if attempts >= HOPELESS[0] and successes < HOPELESS[1] * attempts:
                reasons = {failure["reason"] for meta in done.values() for failure in meta["collection"]["failures"]}
                solved = f"only {successes}" if successes else "none"
                raise RuntimeError(f"{solved} of {attempts} attempts succeeded; reasons: {'; '.join(sorted(reasons))}")
            if progress is not None:
                progress(min(successes, count), count, f"{attempts - successes} of {attempts} attempts failed")
            if prefix_successes() >= count or not running:
                break
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                part = running.pop(future)
                future.result()
                done[part] = json.loads(part.with_suffix(".json").read_text())
    except BrokenProcessPool as error:
        full = full_disk(None, parts[-1].parent)  # while the temporary files are there
        died = f"a simulator process died without a traceback by {cause_of_death(pool)}"
        if full is not None:  # HDF5 crashes where it cannot close a file
            raise FullDiskError(f"{full}; finished chunks are kept; {died}") from error
        raise RuntimeError(f"{died}; `infoatlas doctor` checks the set-up, and finished chunks are kept") from error
    finally:
        workers = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join()
        for folder in {part.parent for part in parts}:
            # Of these processes, or of a killed run.
            remove_leftovers(folder, re.compile(r".+\.tmp\.(\d+)\.(?:h5|json)"))
    return [part for part in parts if part in done]


def _quiet_worker() -> None:
    """One thread per process, and no planner chatter on the terminal."""
    import torch

    torch.set_num_threads(1)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)


def _merge(path: Path, chunks: list[Path], count: int, first_seed: int, made_of: str | None) -> CollectionReport:
    merged: dict[str, Any] = {}
    episodes: list[dict[str, Any]] = []
    failures: list[dict[str, Any]] = []
    with replace_file(path) as temporary:
        with h5py.File(temporary, "w") as out:
            for chunk in chunks:
                meta = json.loads(chunk.with_suffix(".json").read_text())
                kept = ("env_info", "commit_info", "source_type", "source_desc")
                merged = merged or {key: meta[key] for key in kept if key in meta}
                taken = meta["episodes"][: count - len(episodes)]
                with h5py.File(chunk, "r") as part:
                    for episode in taken:
                        part.copy(f"traj_{episode['episode_id']}", out, name=f"traj_{len(episodes)}")
                        episodes.append(episode | {"episode_id": len(episodes)})
                last = taken[-1]["episode_seed"] if len(episodes) == count and taken else None
                failures += [failure for failure in meta["collection"]["failures"] if last is None or failure["seed"] < last]
                if len(episodes) == count:
                    break
        if not episodes:
            raise RuntimeError(f"none of {len(failures)} attempts succeeded; reasons: {sorted({f['reason'] for f in failures})}")
        # Never a new .h5 beside an old .json.
        path.with_suffix(".json").unlink(missing_ok=True)
    attempts = len(episodes) + len(failures)
    collection = {"first_seed": first_seed, "successes": len(episodes), "attempts": attempts, "failures": failures}
    collection |= {} if made_of is None else {"made_of": made_of}
    write_notes(path.with_suffix(".json"), merged | {"collection": collection, "episodes": episodes})
    reasons = Counter(failure["reason"] for failure in failures)
    return CollectionReport(path, len(episodes), attempts, reused=False, reasons=reasons)


def _finished(path: Path) -> dict[str, Any] | None:
    """The metadata of a complete pair of files; None where one is missing, damaged, or not of the other."""
    try:
        meta = json.loads(path.with_suffix(".json").read_text())
        with h5py.File(path, "r") as file:
            complete = all(f"traj_{episode['episode_id']}" in file for episode in meta["episodes"])
    except (OSError, RuntimeError, ValueError, KeyError, TypeError):
        return None
    return meta if complete else None
