"""The tasks: which actor is moved, where it has to go, and how long an episode may take.

Three points describe every task. The *object* is the actor that is manipulated; its *tip* is the point of it that
matters (the centre of a cube, the head of a peg); the *target* is the pose where the tip has to be.
"""

from __future__ import annotations

from dataclasses import dataclass

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
    """One manipulation task of ManiSkill."""

    name: str
    env_id: str
    horizon: int
    object: str
    """Actor that is manipulated."""
    target: str
    """Actor that carries the target."""
    events: tuple[str, ...]
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
            events=("grasped", "success"),
            geometry=Geometry(_ORIGIN, _ORIGIN, _CUBE, 0.025),
        ),
        Task(
            name="StackCube",
            env_id="StackCube-v1",
            horizon=200,
            object="cubeA",
            target="cubeB",
            events=("grasped", "on_cube_b", "success"),
            geometry=Geometry(_ORIGIN, np.array([0, 0, 0.04]), _CUBE, 0.005),
        ),
        Task(
            name="PegInsertion",
            env_id="PegInsertionSide-v1",
            horizon=250,
            object="peg",
            target="box_with_hole",
            events=("grasped", "aligned", "success"),
        ),
    )
}


def get_task(name: str) -> Task:
    """Look a task up by its short name (``PegInsertion``) or by its ManiSkill id (``PegInsertionSide-v1``)."""
    for task in TASKS.values():
        if name in (task.name, task.env_id):
            return task
    raise ValueError(f"unknown env {name!r}; choose one of {', '.join(TASKS)}")
