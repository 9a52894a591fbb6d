"""Collect demonstrations with ManiSkill's own motion-planning solutions, in parallel processes, resumably.

Seeds are worked through in chunks. A worker records a chunk under a temporary name and renames it when it is complete,
so a killed run loses at most the chunks in progress, and a second run, or one that asks for more, goes on from there.
The result holds the first ``count`` successes in the order of seeds and does not depend on the number of processes.
"""

from __future__ import annotations

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

from infoatlas_rl.maniskill.demos import geometry_to_json
from infoatlas_rl.maniskill.envs import make_env, read_geometry
from infoatlas_rl.maniskill.tasks import Task, get_task

SOURCE_MODE = "pd_joint_pos"
CHUNK = 10

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

    Returns at once where the file already holds at least ``count`` episodes of the same first seed.
    """
    path = demo_path(root, task)
    meta = _finished(path, count)
    if meta is not None and meta["collection"]["first_seed"] == first_seed:
        info = meta["collection"]
        return CollectionReport(path, info["successes"], info["attempts"], reused=True)
    parts = path.parent / "parts" / SOURCE_MODE

    def jobs() -> Iterator[tuple[Path, tuple[Any, ...]]]:
        start = first_seed
        while True:
            part = parts / f"seeds_{start:06d}_{start + CHUNK - 1:06d}.h5"
            yield part, (_record_chunk, task.name, list(range(start, start + CHUNK)), part)
            start += CHUNK

    chunks = _run_chunks(jobs(), count, processes, progress)
    return _merge(path, chunks, count, first_seed)


def convert_demonstrations(
    task: Task, root: Path | str, count: int, control_mode: str, *, processes: int = 2, progress: Progress | None = None
) -> CollectionReport:
    """Replay the collected demonstrations with the actions of another control mode; failures to follow are dropped."""
    source = demo_path(root, task)
    path = demo_path(root, task, control_mode)
    source_meta = json.loads(source.with_suffix(".json").read_text())
    episodes = source_meta["episodes"]
    meta = _finished(path, 0)
    if meta is not None and meta["collection"]["attempts"] == min(count, len(episodes)):
        info = meta["collection"]
        return CollectionReport(path, info["successes"], info["attempts"], reused=True)
    parts = path.parent / "parts" / control_mode

    def jobs() -> Iterator[tuple[Path, tuple[Any, ...]]]:
        for start in range(0, min(count, len(episodes)), CHUNK):
            chunk = episodes[start : min(start + CHUNK, count)]
            part = parts / f"episodes_{start:06d}_{start + len(chunk) - 1:06d}.h5"
            yield part, (_convert_chunk, task.name, chunk, source, control_mode, part)

    chunks = _run_chunks(jobs(), count, processes, progress)
    return _merge(path, chunks, count, source_meta["collection"]["first_seed"])


# --- scheduling -------------------------------------------------------------------------------------------------------


def _run_chunks(
    jobs: Iterator[tuple[Path, tuple[Any, ...]]], count: int, processes: int, progress: Progress | None
) -> list[Path]:
    """Work the chunks through in order until ``count`` successes or the end; the finished prefix is returned."""
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
                if part.with_suffix(".json").is_file():
                    done[part] = json.loads(part.with_suffix(".json").read_text())
                else:
                    running[pool.submit(function, *args)] = part
            if progress is not None:
                attempts = sum(meta["collection"]["attempts"] for meta in done.values())
                successes = sum(len(meta["episodes"]) for meta in done.values())
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


def _record_chunk(task_name: str, seeds: list[int], part: Path) -> None:
    from mani_skill.examples.motionplanning.panda.run import MP_SOLUTIONS

    task = get_task(task_name)
    solve = MP_SOLUTIONS[task.env_id]
    env = make_env(task, control_mode=SOURCE_MODE)
    with _recorder(env, part, "official motion planning solution of ManiSkill", len(seeds)) as recorder:
        for seed in seeds:
            reason = None
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
            recorder.keep(seed, reason, read_geometry(env, task))


def _convert_chunk(task_name: str, episodes: list[dict[str, Any]], source: Path, control_mode: str, part: Path) -> None:
    from mani_skill.trajectory.utils.actions.conversion import from_pd_joint_pos

    task = get_task(task_name)
    original = make_env(task, control_mode=SOURCE_MODE)
    env = make_env(task, control_mode=control_mode)
    with _recorder(env, part, f"converted from {source.name}", len(episodes)) as recorder, h5py.File(source, "r") as file:
        for episode in episodes:
            seed = int(episode["episode_seed"])
            recorder.reset(seed=seed)
            original.reset(seed=seed)
            info = from_pd_joint_pos(control_mode, file[f"traj_{episode['episode_id']}"]["actions"][:], original, recorder)
            reason = None if bool(info["success"]) else "converted actions do not solve the task"
            recorder.keep(seed, reason, read_geometry(env, task))
    original.close()


@contextmanager
def _recorder(env: Any, part: Path, source: str, attempts: int) -> Iterator[Any]:
    """ManiSkill's recorder writing to a temporary name that is moved to ``part`` when the block ends well."""
    from mani_skill.utils.wrappers.record import RecordEpisode

    class Recorder(RecordEpisode):
        def keep(self, seed: int, reason: str | None, geometry: Any) -> None:
            self.flush_trajectory(save=reason is None)
            if reason is None:
                self._json_data["episodes"][-1]["geometry"] = geometry_to_json(geometry)
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
    temporary = path.with_suffix(".tmp")
    merged: dict[str, Any] = {}
    episodes: list[dict[str, Any]] = []
    failures: list[dict[str, Any]] = []
    with h5py.File(temporary, "w") as out:
        for chunk in chunks:
            meta = json.loads(chunk.with_suffix(".json").read_text())
            merged = merged or {
                key: meta[key] for key in ("env_info", "commit_info", "source_type", "source_desc") if key in meta
            }
            last_seed = None
            with h5py.File(chunk, "r") as part:
                for episode in meta["episodes"][: count - len(episodes)]:
                    last_seed = episode["episode_seed"]
                    part.copy(f"traj_{episode['episode_id']}", out, name=f"traj_{len(episodes)}")
                    episodes.append(episode | {"episode_id": len(episodes)})
            full = len(episodes) == count
            failures += [
                f for f in meta["collection"]["failures"] if not full or (last_seed is not None and f["seed"] < last_seed)
            ]
            if full:
                break
    if not episodes:
        temporary.unlink()
        raise RuntimeError(f"none of {len(failures)} attempts succeeded; reasons: {sorted({f['reason'] for f in failures})}")
    attempts = len(episodes) + len(failures)
    collection = {"first_seed": first_seed, "successes": len(episodes), "attempts": attempts, "failures": failures}
    os.replace(temporary, path)
    _write_json(path.with_suffix(".json"), merged | {"collection": collection, "episodes": episodes})
    return CollectionReport(path, len(episodes), attempts, reused=False)


def _finished(path: Path, count: int) -> dict[str, Any] | None:
    json_path = path.with_suffix(".json")
    if not (path.is_file() and json_path.is_file()):
        return None
    meta = json.loads(json_path.read_text())
    if "collection" not in meta or len(meta["episodes"]) < count:
        return None
    return meta


def _write_json(path: Path, content: dict[str, Any]) -> None:
    temporary = path.with_suffix(".json.tmp")
    temporary.write_text(json.dumps(content, indent=1, default=_plain))
    os.replace(temporary, path)


def _plain(value: Any) -> Any:
    """JSON for NumPy and torch scalars and arrays."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
