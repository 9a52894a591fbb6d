"""Demonstrations in ManiSkill's own format: an ``.h5`` file of trajectories and a ``.json`` file of the same name.

:func:`load_demonstrations` reads the files that :mod:`infoatlas_rl.maniskill.collect` writes as well as those that
ManiSkill distributes; all it needs are the recorded simulation states (``env_states``).
"""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from infoatlas_rl.files import one_line
from infoatlas_rl.maniskill.envs import make_env, read_geometry
from infoatlas_rl.maniskill.states import encode_states, plain_states, positions, without_jumps
from infoatlas_rl.maniskill.tasks import Geometry, Task

Array = NDArray[np.float64]

MOST_UNSTORED = 2**26
"""Bytes that a data set may have without being stored: HDF5 gives zeros for what was never written."""
MOST_PACKED = 1100
"""What deflate can pack into a byte, 1032, rounded up."""


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
    """Steps at which the motion planner ended a path or a movement of the gripper, where our collector noted them; of generated
    demonstrations the ends of the stretches that were replayed."""
    planned: bool = False
    """These are the motion planner's."""
    success: NDArray[np.bool_] | None = None
    """``(t,)``, whether the task was solved after every action, where that was recorded."""

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

    def require_control_mode(self, mode: str, use: str) -> None:
        """Raise a ``ValueError`` where they were recorded with another control mode; ``use`` says what needs it."""
        if self.control_mode != mode:
            raise ValueError(
                f"{self.path} was recorded with control mode {self.control_mode!r}; {use}, so it has to be {mode!r}: "
                f"python tasks/collect_demos.py env={self.task.name}"
            )

    def __len__(self) -> int:
        return len(self.demonstrations)

    def __iter__(self) -> Any:
        return iter(self.demonstrations)


def trajectory_of(demo: Demonstration, task: Task) -> Array:
    """What key states are found in, ``(t + 1, d)``: the state without velocities, for motion is taken from the positions. Of a
    task in several parts it is the plain state, as the 100-D state is about one object, and then about another."""
    if task.first:
        return plain_states(demo.env_states)
    return positions(demo.states if task.object is None else without_jumps(demo.states), task)


def load_demonstrations(path: Path | str, task: Task, *, count: int | None = None) -> DemonstrationSet:
    """Read the first ``count`` successful demonstrations of a file (all by default). No link out of the file is followed.

    Raises:
        DemonstrationFileError: no such file, a damaged or foreign one, another task, too few demonstrations.
    """
    path = Path(path)
    remedy = f"make a good one with: python tasks/collect_demos.py env={task.name}"
    meta = _read_meta(path, remedy)
    if (env_id := _env_id(meta, path, remedy)) != task.env_id:
        raise DemonstrationFileError(f"{path}: recorded in {env_id}, but env={task.name} needs {task.env_id}; {remedy}")
    chosen = [episode for episode in meta["episodes"] if episode.get("success", True)][:count]
    if not chosen or (count is not None and len(chosen) < count):
        raise DemonstrationFileError(
            f"{path}: {len(chosen)} successful demonstrations, {count or 'some'} are needed; {remedy} demos.count={count or 500}"
        )
    demonstrations: list[Demonstration] = []
    geometry_of = _GeometryReader(task)
    try:
        recorded = _read_trajectories(path, chosen)
        for episode, (env_states, actions, success) in zip(chosen, recorded, strict=True):
            geometry = geometry_of(episode, env_states)
            with np.errstate(all="ignore"):  # what is not finite is refused below
                states = encode_states(env_states, geometry, task)
            if not (np.isfinite(states).all() and np.isfinite(actions).all()):
                raise ValueError(f"traj_{episode['episode_id']} contains NaN or infinity")
            demonstrations.append(
                Demonstration(
                    episode_id=episode["episode_id"],
                    seed=episode["episode_seed"],
                    states=states,
                    actions=actions,
                    geometry=geometry,
                    env_states=env_states,
                    stage_ends=tuple(episode.get("stage_ends", ())),
                    planned=meta.get("source_type") == "motionplanning",
                    success=success,
                )
            )
    except ValueError as error:
        raise DemonstrationFileError(f"{path}: {error}; {remedy}") from error
    finally:
        geometry_of.close()
    control_mode = meta["env_info"].get("env_kwargs", {}).get("control_mode", "unknown")
    return DemonstrationSet(task, path, control_mode, meta.get("source_type", "unknown"), demonstrations)


def recorded_env(path: Path | str) -> str:
    """The ManiSkill id of the task that a demonstration file was recorded in.

    Raises:
        DemonstrationFileError: no such file, a damaged one, or one that does not say.
    """
    remedy = "a file of ManiSkill has its .json beside it, and one of robomimic, if it is not damaged, data/demo_*"
    return _env_id(_read_meta(Path(path), remedy), Path(path), remedy)


def _read_meta(path: Path, remedy: str) -> dict[str, Any]:
    json_path = path.with_suffix(".json")
    for required in (path, json_path):
        if not required.is_file():
            raise DemonstrationFileError(f"{required}: no such file; {remedy}")
    try:
        meta = json.loads(json_path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise DemonstrationFileError(f"{json_path}: not valid JSON ({error}); {remedy}") from error
    if not isinstance(meta, dict) or not isinstance(meta.get("episodes"), list):
        raise DemonstrationFileError(f"{json_path}: no list of episodes, so not a ManiSkill demonstration file; {remedy}")
    for name, value in (("env_info", meta.get("env_info", {})), ("env_kwargs", _env_info(meta).get("env_kwargs", {}))):
        if not isinstance(value, dict):
            raise DemonstrationFileError(f"{json_path}: {name} has to be an object, not {_short(value)}; {remedy}")
    for number, episode in enumerate(meta["episodes"]):
        if (fault := _episode_fault(episode)) is not None:
            raise DemonstrationFileError(f"{json_path}: episode {number} {fault}; {remedy}")
    ids = [episode["episode_id"] for episode in meta["episodes"]]
    if double := [number for number, count in Counter(ids).items() if count > 1]:
        raise DemonstrationFileError(f"{json_path}: two episodes have the episode_id {double[0]}; {remedy}")
    return meta


def _env_info(meta: dict[str, Any]) -> dict[str, Any]:
    return info if isinstance(info := meta.get("env_info"), dict) else {}


def _env_id(meta: dict[str, Any], path: Path, remedy: str) -> str:
    env_id = _env_info(meta).get("env_id")
    if not isinstance(env_id, str):
        raise DemonstrationFileError(
            f"{path.with_suffix('.json')}: no env_id in its env_info, so it does not say in which task it was recorded; "
            f'add "env_info": {{"env_id": "PickCube-v1"}}, with the right id, or {remedy}'
        )
    return env_id


def _episode_fault(episode: Any) -> str | None:
    """What is wrong with the notes of an episode, None if nothing is."""
    if not isinstance(episode, dict):
        return f"has to be an object, not {_short(episode)}"
    for name in ("episode_id", "episode_seed"):
        value = episode.get(name)
        if type(value) is not int or not 0 <= value < 2**63:
            return f"needs a whole number {name}, not {_short(value)}"
    if type(episode.get("success", True)) is not bool:
        return f"needs a success that is true or false, not {_short(episode['success'])}"
    ends = episode.get("stage_ends", [])
    if not isinstance(ends, list) or not all(type(end) is int for end in ends):
        return f"has stage_ends that are no list of whole numbers: {_short(ends)}"
    if "geometry" in episode:
        try:
            geometry = Geometry(**episode["geometry"])
            sizes = np.concatenate([geometry.tip_offset, geometry.target_offset, geometry.half_size, [geometry.clearance]])
            if not np.isfinite(sizes.astype(np.float64)).all():
                raise ValueError("NaN or infinity")
        except (TypeError, ValueError, OverflowError) as error:
            return f"has a geometry that is none ({error})"
    return None


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:40]}..."


EnvStates = dict[str, dict[str, NDArray[np.float32]]]
Recorded = tuple[EnvStates, NDArray[np.float32], NDArray[np.bool_] | None]
"""Simulation states, actions and successes of an episode."""


def _read_trajectories(path: Path, episodes: list[dict[str, Any]]) -> list[Recorded]:
    """What is recorded of episodes.

    Raises:
        ValueError: what is wrong with the file.
    """
    try:
        with h5py.File(path, "r") as file:
            return [_read_trajectory(file, f"traj_{episode['episode_id']}") for episode in episodes]
    except _Unfit:
        raise
    except Exception as error:  # HDF5 tells of damage by errors of many kinds, MemoryError among them
        raise ValueError(f"truncated, or not a file that can be used ({one_line(error)})") from error


class _Unfit(ValueError):
    """A sound HDF5 file that is no demonstration."""


def _read_trajectory(file: h5py.File, name: str) -> Recorded:
    group = _member(file, name, h5py.Group)
    if group.get("env_states", getlink=True) is None:
        raise _Unfit(f"{name} has no env_states, from which the state is computed; record with env states")
    states = _member(group, "env_states", h5py.Group)
    actions = _numbers(group, "actions", steps=None, least=1)
    env_states: EnvStates = {}
    for kind, least in (("actors", 7), ("articulations", 13)):
        members = _member(states, kind, h5py.Group)
        env_states[kind] = {str(key): _numbers(members, str(key), steps=len(actions) + 1, least=least) for key in members}
    return env_states, actions, _successes(group, len(actions))


def _successes(group: h5py.Group, steps: int) -> NDArray[np.bool_] | None:
    if group.get("success", getlink=True) is None:
        return None
    data = _member(group, "success", h5py.Dataset)
    if data.is_virtual or data.external or data.dtype != bool or data.shape != (steps,):
        raise _Unfit(f"{data.name} has shape {data.shape} and type {data.dtype}; ({steps},) of bool is needed, in this file")
    return data[:]


def _member(group: h5py.Group, name: str, kind: type) -> Any:
    """A group or a data set that lies in this very file, under this very name."""
    where = f"{group.name.rstrip('/')}/{name}"
    link = group.get(name, getlink=True)
    if link is None:
        raise _Unfit(f"there is no {where}")
    if not isinstance(link, h5py.HardLink):
        raise _Unfit(f"{where} is a link to another place, which is not followed; put the data itself there")
    member = group[name]
    if not isinstance(member, kind):
        raise _Unfit(f"{where} is not a {'group' if kind is h5py.Group else 'data set'}, as ManiSkill records it")
    return member


def _numbers(group: h5py.Group, name: str, steps: int | None, least: int) -> NDArray[np.float32]:
    """A data set of real numbers ``(steps, at least least)``, or of more dimensions, that is in the file as a whole."""
    data = _member(group, name, h5py.Dataset)
    if data.is_virtual or data.external:
        raise _Unfit(f"{data.name} lies in another file, which is not followed; put the data itself there")
    shape = data.shape
    if (
        data.dtype.kind not in "iuf"
        or shape is None
        or len(shape) < 2
        or (steps or shape[0]) != shape[0]
        or math.prod(shape[1:]) < least
    ):
        raise _Unfit(
            f"{data.name} has shape {shape} and type {data.dtype}; ({steps or 'steps'}, {least} or more) numbers are needed"
        )
    if data.nbytes > max(MOST_UNSTORED, MOST_PACKED * data.id.get_storage_size()):
        raise _Unfit(f"{data.name} declares {data.nbytes / 1e9:.1f} GB, which this file does not hold")
    return data[:]


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
        if self.env is None:
            self.env = make_env(self.task)
        seed = int(episode["episode_seed"])
        self.env.reset(seed=seed)
        scene = self.env.unwrapped.get_state_dict()["actors"]
        for name in (self.task.object, *self.task.targets):
            if name not in env_states["actors"]:
                raise ValueError(f"no actor {name!r} in the recorded states; there are {list(env_states['actors'])}")
            if not np.allclose(scene[name][0, :7].cpu().numpy(), env_states["actors"][name][0, :7], atol=1e-3):
                raise ValueError(
                    f"traj_{episode['episode_id']} notes no sizes, and resetting to its seed {seed} does not give its scene; "
                    "it was recorded with another version of ManiSkill"
                )
        return read_geometry(self.env, self.task)

    def close(self) -> None:
        if self.env is not None:
            self.env.close()
