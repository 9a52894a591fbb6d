"""The tasks: which actor is moved, where it has to go, and how long an episode may take.

Three points describe a task with a 100-D state. The *object* is the actor that is manipulated; its *tip* is the point of it that
matters (the centre of a cube, the head of a peg); the *target* is the pose where the tip has to be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Task:
    """One manipulation task of ManiSkill. Without an object it has the plain state (see ``states.py``) and no events."""

    name: str
    env_id: str
    horizon: int
    object: str | None = None
    """Actor that is manipulated."""
    target: str | None = None
    """Actor that carries the target."""
    events: tuple[str, ...] = ()
    """Ground-truth events in the order in which a demonstration passes them."""
    geometry: Geometry | None = None
    """Fixed sizes; None where they are drawn at reset."""


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
        ),
        Task(
            name="StackCube",
            env_id="StackCube-v1",
            horizon=200,
            object="cubeA",
            target="cubeB",
            events=("reached", "grasped", "above", "placed", "released"),
            geometry=Geometry(_ORIGIN, np.array([0, 0, 0.04]), _CUBE, 0.005),
        ),
        Task(
            name="PegInsertion",
            env_id="PegInsertionSide-v1",
            horizon=250,
            object="peg",
            target="box_with_hole",
            events=("reached", "grasped", "aligned", "inserted"),
        ),
    )
}


def get_task(name: str, env_id: str | None = None, horizon: int = 250) -> Task:
    """Look a task up by its short name (``PegInsertion``) or by its ManiSkill id (``PegInsertionSide-v1``).

    Any other task of ManiSkill is described by its ``env_id`` and horizon alone.
    """
    for task in TASKS.values():
        if name in (task.name, task.env_id):
            return task
    if env_id is not None:
        return Task(name, env_id, horizon)
    raise ValueError(f"unknown env {name!r}; choose one of {', '.join(TASKS)}")


def configured_task(options: Mapping[str, Any] | None) -> Task:
    """The task of a configuration's ``env.task``, the arguments of :func:`get_task`.

    Raises:
        ValueError: it names none, as ``env=any`` does, or an unknown one.
    """
    if options is None:
        raise ValueError(
            f"env=any stands for demonstrations that are there, and names no task of which new ones can be made; "
            f"say env={'|'.join(TASKS)}, or any other file of configs/env with an env_id"
        )
    return get_task(**options)
