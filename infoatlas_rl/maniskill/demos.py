"""Demonstrations in ManiSkill's own format: an ``.h5`` file of trajectories and a ``.json`` file of the same name.

:func:`load_demonstrations` reads the files that :mod:`infoatlas_rl.maniskill.collect` writes as well as those that
ManiSkill distributes; all it needs are the recorded simulation states (``env_states``).
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from infoatlas_rl.maniskill.states import encode_states
from infoatlas_rl.maniskill.tasks import Geometry, Task

Array = NDArray[np.float64]


class DemonstrationFileError(ValueError):
    """A demonstration file is missing, damaged or of another task; the message says which, why and what to do."""


@dataclass(frozen=True)
class Demonstration:
    """One recorded episode of t actions and t + 1 states."""

    episode_id: int
    seed: int
    states: Array
    """``(t + 1, 100)``, see :mod:`infoatlas_rl.maniskill.states`; of another size for other tasks."""
    actions: NDArray[np.float32]
    """``(t, action_dim)``"""
    geometry: Geometry | None
    env_states: dict[str, dict[str, NDArray[np.float32]]]
    """The raw simulation states, to set an environment to a step of the episode."""
    stage_ends: tuple[int, ...] = ()
    """Steps at which the motion planner ended a path or a movement of the gripper, where our collector noted them."""

    def __len__(self) -> int:
        return len(self.states)


@dataclass(frozen=True)
class DemonstrationSet:
    """The successful episodes of one file."""

    task: Task
    path: Path
    control_mode: str
    source: str
    demonstrations: list[Demonstration]

    def __len__(self) -> int:
        return len(self.demonstrations)

    def __iter__(self) -> Any:
        return iter(self.demonstrations)


def load_demonstrations(path: Path | str, task: Task, *, count: int | None = None) -> DemonstrationSet:
    """Read the first ``count`` successful demonstrations of a file (all by default).

    Raises:
        DemonstrationFileError: no such file, a truncated or foreign one, another task, too few demonstrations.
    """
    path = Path(path)
    remedy = f"make a good one with: python tasks/collect_demos.py env={task.name}"
    meta = _read_meta(path, remedy)
    env_id = meta.get("env_info", {}).get("env_id")
    if env_id != task.env_id:
        raise DemonstrationFileError(f"{path}: recorded in {env_id}, but env={task.name} needs {task.env_id}; {remedy}")
    geometry_of = _GeometryReader(task)
    demonstrations: list[Demonstration] = []
    try:
        with h5py.File(path, "r") as file:
            for episode in meta["episodes"]:
                if count is not None and len(demonstrations) == count:
                    break
                if not episode.get("success", True):
                    continue
                group = file[f"traj_{episode['episode_id']}"]
                if "env_states" not in group:
                    raise DemonstrationFileError(
                        f"{path}: traj_{episode['episode_id']} has no env_states, from which the state is computed; "
                        f"record with env states, or {remedy}"
                    )
                env_states = {
                    kind: {name: values[:] for name, values in group["env_states"][kind].items()}
                    for kind in ("actors", "articulations")
                }
                geometry = geometry_of(episode, env_states)
                demonstrations.append(
                    Demonstration(
                        episode_id=int(episode["episode_id"]),
                        seed=int(episode["episode_seed"]),
                        states=encode_states(env_states, geometry, task),
                        actions=group["actions"][:],
                        geometry=geometry,
                        env_states=env_states,
                        stage_ends=tuple(episode.get("stage_ends", ())),
                    )
                )
    except DemonstrationFileError:
        raise
    except (OSError, KeyError, ValueError) as error:
        raise DemonstrationFileError(f"{path}: truncated, or not a file that can be used ({error}); {remedy}") from error
    finally:
        geometry_of.close()
    if not demonstrations or (count is not None and len(demonstrations) < count):
        raise DemonstrationFileError(
            f"{path}: {len(demonstrations)} successful demonstrations, {count or 'some'} are needed; "
            f"{remedy} demos.count={count or 500}"
        )
    control_mode = meta.get("env_info", {}).get("env_kwargs", {}).get("control_mode", "unknown")
    return DemonstrationSet(task, path, control_mode, meta.get("source_type", "unknown"), demonstrations)


def _read_meta(path: Path, remedy: str) -> dict[str, Any]:
    json_path = path.with_suffix(".json")
    for required in (path, json_path):
        if not required.is_file():
            raise DemonstrationFileError(f"{required}: no such file; {remedy}")
    try:
        meta = json.loads(json_path.read_text())
    except ValueError as error:
        raise DemonstrationFileError(f"{json_path}: not valid JSON ({error}); {remedy}") from error
    if not isinstance(meta, dict) or "episodes" not in meta:
        raise DemonstrationFileError(f"{json_path}: no list of episodes, so not a ManiSkill demonstration file; {remedy}")
    return meta


class _GeometryReader:
    """Sizes of an episode: from the file where our collector noted them, else by resetting the task to its seed."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.env: Any = None

    def __call__(self, episode: dict[str, Any], env_states: dict[str, dict[str, Any]]) -> Geometry | None:
        if self.task.geometry is not None or self.task.object is None:
            return self.task.geometry
        if "geometry" in episode:
            return Geometry(**episode["geometry"])
        from infoatlas_rl.maniskill.envs import make_env, read_geometry

        if self.env is None:
            self.env = make_env(self.task)
        seed = int(episode["episode_seed"])
        self.env.reset(seed=seed)
        scene = self.env.unwrapped.get_state_dict()["actors"]
        for name in (self.task.object, self.task.target):
            if not np.allclose(scene[name][0, :7].cpu().numpy(), env_states["actors"][name][0, :7], atol=1e-3):
                raise ValueError(
                    f"traj_{episode['episode_id']} notes no sizes, and resetting to its seed {seed} does not give its scene; "
                    "it was recorded with another version of ManiSkill"
                )
        return read_geometry(self.env, self.task)

    def close(self) -> None:
        if self.env is not None:
            self.env.close()


def recorded_env(path: Path | str) -> str:
    """The ManiSkill id of the task that a demonstration file was recorded in."""
    meta = _read_meta(Path(path), "say demos.path=FILE.h5 with its .json beside it")
    return str(meta.get("env_info", {}).get("env_id"))


def geometry_to_json(geometry: Geometry) -> dict[str, Any]:
    return {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in asdict(geometry).items()}
