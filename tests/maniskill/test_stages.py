"""Names of stages, from states that are made for it."""

import numpy as np

from infoatlas_rl.maniskill.stages import stage_names
from infoatlas_rl.maniskill.states import STATE_DIM, STATE_INDEX
from infoatlas_rl.maniskill.tasks import TASKS, Task


def demonstration():
    """Above the object, down, closed, up with it, aside with it, open, at rest; five steps each."""
    gripper = np.array(
        [[0, 0, 0.3], [0.2, 0, 0.3], [0.2, 0, 0.02], [0.2, 0, 0.02], [0.2, 0, 0.2], [0.2, 0.2, 0.2], [0.2, 0.2, 0.2]]
    )
    width = np.array([0.08, 0.08, 0.08, 0.04, 0.04, 0.04, 0.08])
    thing = np.array([[0.2, 0, 0.02]] * 4 + [[0.2, 0, 0.2], [0.2, 0.2, 0.2], [0.2, 0.2, 0.2]])
    gripper, thing = (np.concatenate([part, part[-1:]]) for part in (gripper, thing))
    width = np.append(width, width[-1])
    time, knots = np.arange(36) / 5, np.arange(8)
    states = np.zeros((36, STATE_DIM))
    for name, values in (("tcp_position", gripper), ("object_position", thing), ("gripper_width", width[:, None])):
        states[:, STATE_INDEX[name]] = np.stack([np.interp(time, knots, column) for column in values.T], axis=1)
    return states


def test_stages_are_named_by_what_happens_in_them():
    steps = np.array([[5, 10, 15, 20, 25, 30, 35]] * 3)
    assert stage_names([demonstration()] * 3, steps, TASKS["PickCube"]) == [
        "gripper moves",
        "gripper sinks",
        "gripper closes",
        "object rises",
        "object moves",
        "gripper opens",
        "hardly any motion",
    ]
    assert stage_names([demonstration()], np.array([[15, 35]]), TASKS["PickCube"])[0] == "gripper closes, gripper sinks"


def test_another_object_is_no_movement():
    states = demonstration()
    states[18:, STATE_INDEX["object_position"]] += [0, -0.4, 0]  # while the gripper rises, another part of the task begins
    steps = np.array([[5, 10, 15, 20, 25, 30, 35]])
    assert stage_names([states], steps, TASKS["PickCube"])[3:5] == ["object rises", "object moves"]
    states[15:18, STATE_INDEX["object_position"]] = states[15, STATE_INDEX["object_position"]]
    states[18:21, STATE_INDEX["object_position"]] = states[20, STATE_INDEX["object_position"]]
    assert stage_names([states], steps, TASKS["PickCube"])[3] == "gripper rises"


def test_stages_of_other_tasks_are_numbered():
    steps = np.array([[5, 35]])
    assert stage_names([demonstration()], steps, None) == ["stage 1", "stage 2"]
    assert stage_names([demonstration()], steps, Task("Foo", "Foo-v1", 100)) == ["stage 1", "stage 2"]
