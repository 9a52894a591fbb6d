"""What happens between key states, in words: of the gripper, and of the object that is manipulated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from infoatlas_rl.maniskill.states import STATE_INDEX
from infoatlas_rl.maniskill.tasks import Task

Array = NDArray[np.float64]

MOVED = 0.015
"""Movements of less than this, in m, are not named; of the fingers, a third of it."""
LEAP = 0.05
"""An object that is elsewhere by more than this in one step, in m, is another object."""


def stage_names(states: Sequence[Array], steps: NDArray[np.int64], task: Task | None) -> list[str]:
    """What happens in each of the K stages that end at the key states ``steps (N, K)``, in most of N demonstrations.

    Stages of tasks without a 100-D state are numbered.
    """
    count = steps.shape[1]
    if task is None or task.object is None:
        return [f"stage {number + 1}" for number in range(count)]
    first = np.concatenate([np.zeros((len(steps), 1), dtype=np.int64), steps[:, :-1]], axis=1)
    return [
        _name([_change(trajectory, a, b) for trajectory, a, b in zip(states, first[:, k], steps[:, k])]) for k in range(count)
    ]


def _change(states: Array, first: int, last: int) -> Array:
    """Change of the gripper's width and height, its way, change of the object's height, and its way: ``(5,)``, in m."""
    part = states[first : last + 1]
    gripper, thing = (part[:, STATE_INDEX[name]] for name in ("tcp_position", "object_position"))
    thing = _moved(thing)
    width = part[:, STATE_INDEX["gripper_width"]][:, 0]
    ways = [np.linalg.norm(place - place[0], axis=1).max() for place in (gripper, thing)]
    return np.array([width[-1] - width[0], gripper[-1, 2] - gripper[0, 2], ways[0], thing[-1, 2] - thing[0, 2], ways[1]])


def _moved(places: Array) -> Array:
    """Where an object has been moved to ``(t, 3)``, from 0. Where a part of the task is done the object is another: that is no
    movement."""
    steps = np.diff(places, axis=0, prepend=places[:1])
    return np.cumsum(steps * (np.linalg.norm(steps, axis=1, keepdims=True) < LEAP), axis=0)


def _name(changes: Sequence[Array]) -> str:
    width, height, way, risen, carried = np.median(changes, axis=0)
    happens = []
    if abs(width) > MOVED / 3:
        happens.append("gripper opens" if width > 0 else "gripper closes")
    if carried > MOVED:
        sideways = carried > 1.5 * abs(risen)
        happens.append("object moves" if sideways else "object rises" if risen > 0 else "object sinks")
    elif way > MOVED:
        sideways = way > 1.5 * abs(height)
        happens.append("gripper moves" if sideways else "gripper rises" if height > 0 else "gripper sinks")
    return ", ".join(happens) or "hardly any motion"
