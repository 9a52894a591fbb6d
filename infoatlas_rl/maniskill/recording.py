"""The work of one process of a collection: a chunk of scenes is solved, or of episodes converted, and recorded.

A chunk is recorded under a temporary name and renamed when it is complete.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py

from infoatlas_rl.files import FullDiskError, full_disk, replace_file
from infoatlas_rl.maniskill.envs import make_env, read_geometry
from infoatlas_rl.maniskill.tasks import Task

SOURCE_MODE = "pd_joint_pos"

MadeFor = dict[str, Any]
"""What a chunk was made for, noted beside it: only the same is taken for the same."""


def record_chunk(task: Task, seeds: list[int], part: Path, made_for: MadeFor) -> None:
    """Solve the scenes of ``seeds`` by motion planning and record those that succeed to ``part``, failures in its notes."""
    from mani_skill.examples.motionplanning.panda.run import MP_SOLUTIONS

    if task.env_id not in MP_SOLUTIONS:
        raise ValueError(
            f"ManiSkill has no motion-planning solution for {task.env_id}; it has: {', '.join(sorted(MP_SOLUTIONS))}"
        )
    solve = MP_SOLUTIONS[task.env_id]
    env = make_env(task, control_mode=SOURCE_MODE)
    with (
        recording(env, part, "official motion planning solution of ManiSkill", len(seeds), made_for) as recorder,
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
                _raise_if_full(error, part)
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


def convert_chunk(
    task: Task, episodes: list[dict[str, Any]], source: Path, control_mode: str, part: Path, made_for: MadeFor
) -> None:
    """Follow recorded episodes with the actions of another control mode and record those that succeed to ``part``."""
    from mani_skill.trajectory.utils.actions.conversion import from_pd_joint_pos

    original = make_env(task, control_mode=SOURCE_MODE)
    env = make_env(task, control_mode=control_mode)
    with (
        recording(env, part, f"converted from {source.name}", len(episodes), made_for) as recorder,
        h5py.File(source, "r") as file,
    ):
        for episode in episodes:
            seed = int(episode["episode_seed"])
            recorder.reset(seed=seed)
            original.reset(seed=seed)
            try:
                actions = file[f"traj_{episode['episode_id']}"]["actions"][:]
                info = from_pd_joint_pos(control_mode, actions, original, recorder)
                reason = None if bool(info["success"]) else "converted actions do not solve the task"
            except Exception as error:  # what a controller cannot follow must not end the chunk
                _raise_if_full(error, part)
                reason = f"{type(error).__name__}: {error}"
            recorder.keep(seed, reason, read_geometry(env, task))
    original.close()


@contextmanager
def recording(env: Any, part: Path, source: str, attempts: int, made_for: MadeFor, kind: str = "motionplanning") -> Iterator[Any]:
    """ManiSkill's recorder writing to a temporary name that is moved to ``part`` when the block ends well.

    Raises:
        FullDiskError: in one line.
    """
    from mani_skill.utils.wrappers.record import RecordEpisode

    class Recorder(RecordEpisode):
        def reset(self, *args: Any, **kwargs: Any) -> Any:
            if self._trajectory_buffer is not None:
                self.flush_trajectory(save=False)  # an attempt in the same scene that was given up
            return super().reset(*args, **kwargs)

        def keep(self, seed: int, reason: str | None, geometry: Any, stage_ends: list[int] | None = None) -> None:
            self.flush_trajectory(save=reason is None)
            if reason is None:
                episode = self._json_data["episodes"][-1]
                episode |= {} if geometry is None else {"geometry": geometry.to_json()}
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
        source_type=kind,
        source_desc=source,
        record_reward=False,
        save_on_reset=False,
    )
    h5_name, json_name = Path(recorder._h5_file.filename), Path(recorder._json_path)
    try:
        yield recorder
        meta = recorder._json_data | {"collection": {"attempts": attempts, "failures": failures, "made_for": made_for}}
        recorder._h5_file.close()
        recorder._h5_file = None
        os.replace(h5_name, part)
        write_notes(part.with_suffix(".json"), meta)
    except Exception as error:
        _raise_if_full(error, part)
        raise
    finally:
        for leftover in (h5_name, json_name):
            leftover.unlink(missing_ok=True)
        env.close()


def _raise_if_full(error: Exception, part: Path) -> None:
    """Say of a full disk that it is full, while it is: the temporary file is about to go."""
    if (full := full_disk(error, part.parent)) is not None:
        raise FullDiskError(f"{part} could not be written: {full}; finished chunks are kept") from error


def write_notes(path: Path, content: dict[str, Any]) -> None:
    """The ``.json`` beside a file of trajectories."""
    with replace_file(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, default=_plain))


def _plain(value: Any) -> Any:
    """JSON for NumPy and torch scalars and arrays."""
    return value.tolist() if hasattr(value, "tolist") else str(value)
