"""The tasks: which actor is moved, where it has to go, and how long an episode may take.

Three points describe a task with a 100-D state. The *object* is the actor that is manipulated; its *tip* is the point of it that
matters (the centre of a cube, the head of a peg); the *target* is the pose where the tip has to be. Any task of ManiSkill with
one object and one target can be described so, in a file of ``configs/env``, and so can one in which several are brought to their
targets, one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Geometry:
    """The sizes of one episode that are drawn at reset and then fixed, in metres."""

    tip_offset: Array  # (3,), the tip in the frame of the object
    target_offset: Array  # (3,), the target in the frame of its actor
    half_size: Array  # (3,), of the object
    clearance: float  # how far the tip may be off the target

    def __post_init__(self) -> None:
        for name in ("tip_offset", "target_offset", "half_size"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.float64).reshape(3))

    def to_json(self) -> dict[str, Any]:
        return {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in asdict(self).items()}


SYMMETRIES = ("none", "cube", "bar")
"""How an object looks the same when it is turned: in no other way, as a cube, or as a bar of square section along x."""


Target = str | tuple[str, ...]
"""The actor that carries a target; of several, it is in the middle of them, with the rotation of the first."""


@dataclass(frozen=True)
class Part:
    """What has to be done before the rest of a task: bring an object to a target. It is done while the tip of the object is
    within the clearance of the target and the gripper has left it. Symmetry and ``aims`` are those of the task."""

    object: str
    target: Target
    geometry: Geometry

    @property
    def targets(self) -> tuple[str, ...]:
        return _several(self.target)


@dataclass(frozen=True)
class Task:
    """One manipulation task of ManiSkill. Without an object it has the plain state (see ``states.py``) and no events."""

    name: str
    env_id: str
    horizon: int
    object: str | None = None
    """Actor that is manipulated."""
    target: Target | None = None
    """Actor that carries the target, or several."""
    events: tuple[str, ...] = ()
    """Ground-truth events in the order in which a demonstration passes them."""
    geometry: Geometry | None = None
    """Fixed sizes; None where they are drawn at reset."""
    symmetry: str = "none"
    """One of :data:`SYMMETRIES`, of the object."""
    aims: bool = False
    """The object has to have the rotation of its target; a cube may lie as it likes."""
    hole: bool = False
    """The target is a hole along its x axis, which the tip enters."""
    target_turn: float = 0.0
    """How far the target is turned against the actor that carries it, about its z axis, in degrees."""
    first: tuple[Part, ...] = ()
    """What has to be done before, in order, with other objects."""

    @property
    def objects(self) -> tuple[str | None, ...]:
        """Actors that are brought to a target, in order."""
        return (*(part.object for part in self.first), self.object)

    @property
    def targets(self) -> tuple[str, ...]:
        """Actors that carry the target."""
        return _several(self.target) if self.target else ()


_CUBE = np.full(3, 0.02)
_ORIGIN = np.zeros(3)

TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            name="PickCube",
            env_id="PickCube-v1",
            horizon=150,
            object="cube",
            target="goal_site",
            events=("reached", "grasped", "at_goal"),
            geometry=Geometry(_ORIGIN, _ORIGIN, _CUBE, 0.025),
            symmetry="cube",
        ),
        Task(
            name="StackCube",
            env_id="StackCube-v1",
            horizon=200,
            object="cubeA",
            target="cubeB",
            events=("reached", "grasped", "above", "placed", "released"),
            geometry=Geometry(_ORIGIN, np.array([0, 0, 0.04]), _CUBE, 0.005),
            symmetry="cube",
        ),
        Task(
            name="PegInsertion",
            env_id="PegInsertionSide-v1",
            horizon=250,
            object="peg",
            target="box_with_hole",
            events=("reached", "grasped", "aligned", "inserted"),
            symmetry="bar",
            aims=True,
            hole=True,
        ),
    )
}


TaskDescription = str | Mapping[str, Any]
"""What names a task: its name, or the arguments of :func:`get_task`."""


def get_task(name: str, env_id: str | None = None, horizon: int = 250, **described: Any) -> Task:
    """Look a task up by its short name (``PegInsertion``) or by its ManiSkill id (``PegInsertionSide-v1``).

    Any other task of ManiSkill is described by its ``env_id`` and horizon. If objects are brought to targets in it, further
    fields of :class:`Task` say so: ``object``, ``target``, ``geometry`` (the fields of :class:`Geometry`), ``symmetry``,
    ``aims``, ``target_turn`` and ``first``, a list of parts that are done before, each with ``object``, ``target`` and
    ``geometry``.

    Raises:
        ValueError: an unknown task, or a description that lacks something or says it wrongly.
    """
    for task in TASKS.values():
        if name in (task.name, task.env_id):
            if env_id not in (None, task.env_id) or described:
                raise ValueError(f"task {name} is there already, and cannot be described anew; give yours another name")
            return task
    if env_id is None:
        raise ValueError(f"unknown env {name!r}; choose one of {', '.join(TASKS)}, or describe the task with its env_id")
    if type(horizon) is not int or horizon < 1:
        raise ValueError(f"task {name}: horizon={horizon!r}; it has to be a whole number of steps, at least 1")
    if not described:
        return Task(name, env_id, horizon)
    needed, also = ("object", "target", "geometry"), ("symmetry", "aims", "target_turn", "first")
    _require_fields(f"task {name}", described, needed, also)
    first = described.pop("first", None)
    first = () if first is None else first
    if isinstance(first, str) or not isinstance(first, Sequence) or not all(isinstance(part, Mapping) for part in first):
        raise ValueError(f"task {name}: first has to be a list of parts, each with {', '.join(needed)}")
    parts = []
    for number, part in enumerate(first, start=1):
        what = f"task {name}: part {number} of first"
        _require_fields(what, part, needed)
        parts.append(Part(**_read(what, part)))
    task = Task(name, env_id, horizon, first=tuple(parts), **_read(f"task {name}", described))
    if task.symmetry not in SYMMETRIES:
        raise ValueError(f"task {name}: symmetry={task.symmetry!r} is unknown; choose one of {', '.join(SYMMETRIES)}")
    if not isinstance(task.aims, bool):
        raise ValueError(f"task {name}: aims={task.aims!r}; it has to be true or false")
    if not _is_number(task.target_turn):
        raise ValueError(f"task {name}: target_turn={task.target_turn!r}; it has to be a number of degrees")
    return task


def _require_fields(what: str, described: Mapping[str, Any], needed: tuple[str, ...], also: tuple[str, ...] = ()) -> None:
    unknown = sorted(str(key) for key in set(described) - {*needed, *also})
    if unknown or (missing := [key for key in needed if described.get(key) is None]):
        fault = f"there is no {unknown[0]}" if unknown else f"{', '.join(missing)} is missing"
        whole = f"a task with a 100-D state is described by {', '.join(needed)}, and if need be by {', '.join(also)}"
        raise ValueError(f"{what}: {fault}; {whole if also else 'a part is described by ' + ', '.join(needed)}")


def _read(what: str, described: Mapping[str, Any]) -> dict[str, Any]:
    """A description with its geometry and its targets as :class:`Task` and :class:`Part` have them."""
    try:
        geometry = Geometry(**described["geometry"])
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{what}: geometry needs tip_offset, target_offset and half_size, three numbers each, and clearance ({error})"
        ) from error
    if not _is_number(geometry.clearance) or geometry.clearance <= 0:
        raise ValueError(f"{what}: clearance={geometry.clearance!r}; it has to be a number of metres above 0")
    names = _several(described["target"])
    actors = (described["object"], *names)
    if not names or not all(isinstance(name, str) and name for name in actors) or len(set(actors)) < len(actors):
        raise ValueError(f"{what}: object has to be the name of an actor, and target that of another or a list of others")
    return {**described, "geometry": geometry, "target": names[0] if len(names) == 1 else names}


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _several(target: Any) -> tuple[Any, ...]:
    return (target,) if isinstance(target, str) or not isinstance(target, Sequence) else tuple(target)


def describe(task: Task) -> TaskDescription:
    """What :func:`task_of` makes this task of again; JSON."""
    if task.name in TASKS:
        return task.name
    if task.geometry is None:
        return {"name": task.name, "env_id": task.env_id, "horizon": task.horizon}
    said = {key: value for key, value in vars(task).items() if key not in ("geometry", "target", "events", "hole", "first")}
    first = [{"object": part.object, **_said_of_both(part)} for part in task.first]
    return {**said, **_said_of_both(task)} | ({"first": first} if first else {})


def _said_of_both(what: Task | Part) -> dict[str, Any]:
    target = what.target if isinstance(what.target, str) else list(what.targets)
    return {"target": target, "geometry": what.geometry.to_json()}


def task_of(description: TaskDescription) -> Task:
    """The task of a name or of a description.

    Raises:
        ValueError: it is neither, or of no task.
    """
    if isinstance(description, str):
        return get_task(description)
    if not isinstance(description, Mapping) or "name" not in description:
        raise ValueError(f"a task is a name or a description with a name, not {description!r:.60}")
    return get_task(**description)


def configured_task(options: TaskDescription | None) -> Task:
    """The task of a configuration's ``env.task``.

    Raises:
        ValueError: it names none, as ``env=any`` does, or an unknown one.
    """
    if options is None:
        raise ValueError(
            f"env=any stands for demonstrations that are there, and names no task of which new ones can be made; "
            f"say env={'|'.join(TASKS)}, or any other file of configs/env with an env_id"
        )
    return task_of(options)
