"""Collect demonstrations with ManiSkill's own motion-planning solutions, in parallel processes, resumably.

Seeds are worked through in chunks. A worker records a chunk under a temporary name and renames it when it is complete,
so a killed run loses at most the chunks in progress, and a second run, or one that asks for more, goes on from there.
The result holds the first ``count`` successes in the order of seeds and does not depend on the number of processes.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import h5py

from infoatlas_rl.files import replace_file
from infoatlas_rl.maniskill.demos import geometry_to_json
from infoatlas_rl.maniskill.envs import make_env, read_geometry
from infoatlas_rl.maniskill.tasks import Task

SOURCE_MODE = "pd_joint_pos"
CHUNK = 10
HOPELESS = 50
"""After this many attempts without a success the collection gives up."""

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
    path: Path
    successes: int
    attempts: int
    reused: bool

    @property
    def failures(self) -> int:
        return self.attempts - self.successes


def collect_demonstrations(
    task: Task, root: Path | str, count: int, *, first_seed: int = 0, processes: int = 2, progress: Progress | None = None
) -> CollectionReport:
    """Solve scenes ``first_seed, first_seed + 1, ...`` until ``count`` of them succeed, and record those.

    Returns at once where the file already holds at least ``count`` episodes.

    Raises:
        ValueError: ``count`` below 1, or the place is taken by a complete file that this function did not make, or made
            from other scenes; that is never overwritten. A damaged one is made again from its chunks.
        RuntimeError: scene after scene fails; the reasons are listed.
    """
    if count < 1:
        raise ValueError(f"demos.count has to be at least 1, not {count}")
    path = demo_path(root, task)
    if (there := _reusable(path, count, first_seed)) is not None:
        return there

    def jobs() -> Iterator[tuple[Path, tuple[Any, ...]]]:
        for start in itertools.count(first_seed, CHUNK):
            seeds = list(range(start, start + CHUNK))
            part = _part_path(path, SOURCE_MODE, seeds)
            yield part, (_record_chunk, task, seeds, part)

    chunks = _run_chunks(jobs(), count, processes, progress)
    return _merge(path, chunks, count, first_seed)


def convert_demonstrations(
    task: Task, root: Path | str, count: int, control_mode: str, *, processes: int = 2, progress: Progress | None = None
) -> CollectionReport:
    """Replay the collected demonstrations with the actions of another control mode, until ``count`` follow.

    Demonstrations that the other controller cannot follow are dropped, so there may be fewer than ``count``: collect more.
    """
    source = demo_path(root, task)
    path = demo_path(root, task, control_mode)
    source_meta = _finished(source)
    if source_meta is None:
        raise ValueError(f"{source} is missing or damaged; python tasks/collect_demos.py env={task.name} makes it")
    episodes = source_meta["episodes"]
    first_seed = source_meta.get("collection", {}).get("first_seed", 0)
    if (there := _reusable(path, count, first_seed)) is not None:
        return there

    def jobs() -> Iterator[tuple[Path, tuple[Any, ...]]]:
        for start in range(0, len(episodes), CHUNK):
            chunk = episodes[start : start + CHUNK]
            part = _part_path(path, control_mode, [episode["episode_seed"] for episode in chunk])
            yield part, (_convert_chunk, task, chunk, source, control_mode, part)

    chunks = _run_chunks(jobs(), count, processes, progress)
    return _merge(path, chunks, count, first_seed)


def _reusable(path: Path, count: int, first_seed: int) -> CollectionReport | None:
    """What is at ``path`` if it serves; None if it has to be made or extended; an error if it is not ours to replace."""
    meta = _finished(path)
    if meta is None:
        return None
    collection = meta.get("collection", {})
    if collection.get("first_seed") != first_seed:
        raise ValueError(
            f"{path} is there already and was not collected from first_seed={first_seed}; read it with demos.path={path}, "
            "or collect to another folder with paths.demos="
        )
    if len(meta["episodes"]) < count:
        return None
    return CollectionReport(path, collection["successes"], collection["attempts"], reused=True)


def _part_path(path: Path, control_mode: str, seeds: list[int]) -> Path:
    return path.parent / "parts" / control_mode / f"seeds_{seeds[0]:06d}_{seeds[-1]:06d}.h5"


# --- scheduling -------------------------------------------------------------------------------------------------------


def _run_chunks(
    jobs: Iterator[tuple[Path, tuple[Any, ...]]], count: int, processes: int, progress: Progress | None
) -> list[Path]:
    """Work the chunks through in order until ``count`` successes or the end; the finished prefix is returned."""
    if processes < 1:
        raise ValueError(f"demos.processes has to be at least 1, not {processes}")
    parts: list[Path] = []
    done: dict[Path, dict[str, Any]] = {}
    running: dict[Future[None], Path] = {}

    def prefix_successes() -> int:
        total = 0
        for part in parts:
            if part not in done:
                break
            total += len(done[part]["episodes"])
        return total

    exhausted = False
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"), initializer=_quiet_worker)
    try:
        while True:
            while len(running) < processes and not exhausted and prefix_successes() < count:
                job = next(jobs, None)
                if job is None:
                    exhausted = True
                    break
                part, (function, *args) = job
                parts.append(part)
                part.parent.mkdir(parents=True, exist_ok=True)
                finished_part = _finished(part)
                if finished_part is not None:
                    done[part] = finished_part
                else:
                    running[pool.submit(function, *args)] = part
            attempts = sum(meta["collection"]["attempts"] for meta in done.values())
            successes = sum(len(meta["episodes"]) for meta in done.values())
            if attempts >= HOPELESS and successes == 0:
                reasons = {failure["reason"] for meta in done.values() for failure in meta["collection"]["failures"]}
                raise RuntimeError(f"none of {attempts} attempts succeeded; reasons: {'; '.join(sorted(reasons))}")
            if progress is not None:
                progress(min(successes, count), count, f"{attempts - successes} of {attempts} attempts failed")
            if prefix_successes() >= count or not running:
                break
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                part = running.pop(future)
                future.result()
                done[part] = json.loads(part.with_suffix(".json").read_text())
    except BrokenProcessPool as error:
        raise RuntimeError(
            "a simulator process died without a traceback; the usual cause is numpy 2 with mplib 0.1.1. "
            "Run `python -m infoatlas_rl.doctor`; finished chunks are kept."
        ) from error
    finally:
        workers = list((pool._processes or {}).values())
        pool.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join()
        for folder in {part.parent for part in parts}:
            _remove_leftovers(folder)
    return [part for part in parts if part in done]


def _remove_leftovers(folder: Path) -> None:
    """Delete temporary files of processes that no longer live, ours or those of a killed run."""
    for leftover in folder.glob("*.tmp.*"):
        try:
            os.kill(int(leftover.name.split(".tmp.")[1].split(".")[0]), 0)
        except (ProcessLookupError, ValueError):
            leftover.unlink(missing_ok=True)
        except PermissionError:
            continue


def _quiet_worker() -> None:
    """One thread per process, and no planner chatter on the terminal."""
    import torch

    torch.set_num_threads(1)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)


# --- work of one process ----------------------------------------------------------------------------------------------


def _record_chunk(task: Task, seeds: list[int], part: Path) -> None:
    from mani_skill.examples.motionplanning.panda.run import MP_SOLUTIONS

    if task.env_id not in MP_SOLUTIONS:
        raise ValueError(
            f"ManiSkill has no motion-planning solution for {task.env_id}; it has: {', '.join(sorted(MP_SOLUTIONS))}"
        )
    solve = MP_SOLUTIONS[task.env_id]
    env = make_env(task, control_mode=SOURCE_MODE)
    with (
        _recorder(env, part, "official motion planning solution of ManiSkill", len(seeds)) as recorder,
        _stage_ends() as stage_ends,
    ):
        for seed in seeds:
            reason = None
            stage_ends.clear()
            try:
                result = solve(recorder, seed=seed, debug=False, vis=False)
                if isinstance(result, int):
                    reason = "no motion plan"
                elif not bool(result[-1]["success"]):
                    reason = "plan executed, task not solved"
                elif int(result[-1]["elapsed_steps"]) > task.horizon:
                    reason = f"longer than {task.horizon} steps"
            except Exception as error:  # the planner raises bare exceptions of many kinds
                reason = f"{type(error).__name__}: {error}"
            recorder.keep(seed, reason, read_geometry(env, task), list(stage_ends))


@contextmanager
def _stage_ends() -> Iterator[list[int]]:
    """A list that fills with the steps at which the planner ends a path or a movement of the gripper."""
    from mani_skill.examples.motionplanning.two_finger_gripper.motionplanner import TwoFingerGripperMotionPlanningSolver as Solver

    ends: list[int] = []
    originals = {name: getattr(Solver, name) for name in ("follow_path", "close_gripper", "open_gripper")}

    def noting(original: Callable[..., Any]) -> Callable[..., Any]:
        def run(self: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(self, *args, **kwargs)
            ends.append(int(self.elapsed_steps))
            return result

        return run

    for name, original in originals.items():
        setattr(Solver, name, noting(original))
    try:
        yield ends
    finally:
        for name, original in originals.items():
            setattr(Solver, name, original)


def _convert_chunk(task: Task, episodes: list[dict[str, Any]], source: Path, control_mode: str, part: Path) -> None:
    from mani_skill.trajectory.utils.actions.conversion import from_pd_joint_pos

    original = make_env(task, control_mode=SOURCE_MODE)
    env = make_env(task, control_mode=control_mode)
    with _recorder(env, part, f"converted from {source.name}", len(episodes)) as recorder, h5py.File(source, "r") as file:
        for episode in episodes:
            seed = int(episode["episode_seed"])
            recorder.reset(seed=seed)
            original.reset(seed=seed)
            try:
                actions = file[f"traj_{episode['episode_id']}"]["actions"][:]
                info = from_pd_joint_pos(control_mode, actions, original, recorder)
                reason = None if bool(info["success"]) else "converted actions do not solve the task"
            except Exception as error:  # what a controller cannot follow must not end the chunk
                reason = f"{type(error).__name__}: {error}"
            recorder.keep(seed, reason, read_geometry(env, task))
    original.close()


@contextmanager
def _recorder(env: Any, part: Path, source: str, attempts: int) -> Iterator[Any]:
    """ManiSkill's recorder writing to a temporary name that is moved to ``part`` when the block ends well."""
    from mani_skill.utils.wrappers.record import RecordEpisode

    class Recorder(RecordEpisode):
        def keep(self, seed: int, reason: str | None, geometry: Any, stage_ends: list[int] | None = None) -> None:
            self.flush_trajectory(save=reason is None)
            if reason is None:
                episode = self._json_data["episodes"][-1]
                episode |= {} if geometry is None else {"geometry": geometry_to_json(geometry)}
                episode |= {"stage_ends": stage_ends} if stage_ends else {}
            else:
                failures.append({"seed": seed, "reason": reason})

    failures: list[dict[str, Any]] = []
    temporary = part.with_name(f"{part.stem}.tmp.{os.getpid()}")
    recorder = Recorder(
        env,
        output_dir=str(part.parent),
        trajectory_name=temporary.name,
        save_video=False,
        source_type="motionplanning",
        source_desc=source,
        record_reward=False,
        save_on_reset=False,
    )
    h5_name, json_name = Path(recorder._h5_file.filename), Path(recorder._json_path)
    try:
        yield recorder
        meta = recorder._json_data | {"collection": {"attempts": attempts, "failures": failures}}
        recorder._h5_file.close()
        recorder._h5_file = None
        os.replace(h5_name, part)
        _write_json(part.with_suffix(".json"), meta)
    finally:
        for leftover in (h5_name, json_name):
            leftover.unlink(missing_ok=True)
        env.close()


# --- merging ----------------------------------------------------------------------------------------------------------


def _merge(path: Path, chunks: list[Path], count: int, first_seed: int) -> CollectionReport:
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
    _write_json(path.with_suffix(".json"), merged | {"collection": collection, "episodes": episodes})
    return CollectionReport(path, len(episodes), attempts, reused=False)


def _finished(path: Path) -> dict[str, Any] | None:
    """The metadata of a complete pair of files; None where one is missing, damaged, or not of the other."""
    try:
        meta = json.loads(path.with_suffix(".json").read_text())
        with h5py.File(path, "r") as file:
            complete = all(f"traj_{episode['episode_id']}" in file for episode in meta["episodes"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return meta if complete else None


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with replace_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, default=_plain))


def _plain(value: Any) -> Any:
    """JSON for NumPy and torch scalars and arrays."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
