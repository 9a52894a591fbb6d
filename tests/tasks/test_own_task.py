"""A task that a user describes in a file: the same states, policies and evaluation as built-in ones."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("mani_skill")

from omegaconf import OmegaConf

from infoatlas_rl.maniskill.demos import load_demonstrations
from infoatlas_rl.maniskill.states import STATE_INDEX
from infoatlas_rl.maniskill.tasks import describe, get_task, task_of
from infoatlas_rl.policies.policy import KeyStatePolicy
from tests.conftest import compose, refusal, run

GEOMETRY = {"tip_offset": [0, 0, 0], "target_offset": [0, 0, 0], "half_size": [0.02] * 3, "clearance": 0.025}
DESCRIBED = {"env_id": "PickCube-v1", "horizon": 20, "object": "cube", "target": "goal_site", "symmetry": "cube"}
FILE = """
name: Mine
concepts: 3
training_steps: 2
task:
  name: ${env.name}
  env_id: PickCube-v1
  horizon: 20
  object: cube
  target: goal_site
  symmetry: cube
  geometry: {tip_offset: [0, 0, 0], target_offset: [0, 0, 0], half_size: [0.02, 0.02, 0.02], clearance: 0.025}
"""


def test_a_described_task_has_the_state_of_the_built_in_one(demos):
    mine = get_task("Mine", **DESCRIBED, geometry=GEOMETRY)
    found = load_demonstrations(demos.path, mine)
    np.testing.assert_array_equal(found.demonstrations[0].states, demos.demonstrations[0].states)
    turned = get_task("Mine", **DESCRIBED, geometry=GEOMETRY, target_turn=90)
    here, there = (s[STATE_INDEX["target_quaternion"]] for s in (found.demonstrations[0].states[0], _first(demos.path, turned)))
    np.testing.assert_allclose(here, [1, 0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(there, [0.5**0.5, 0, 0, 0.5**0.5], atol=1e-6)


def _first(path, task):
    return load_demonstrations(path, task, count=1).demonstrations[0].states[0]


def test_a_description_makes_the_same_task_again():
    mine = get_task("Mine", **DESCRIBED, geometry=GEOMETRY, aims=True, target_turn=180)
    again = task_of(json.loads(json.dumps(describe(mine))))
    assert describe(again) == describe(mine)
    assert (again.aims, again.target_turn, again.geometry.clearance) == (True, 180, 0.025)
    assert describe(get_task("PickCube")) == "PickCube"
    assert describe(get_task("Other", "Other-v1", 9)) == {"name": "Other", "env_id": "Other-v1", "horizon": 9}
    charger = compose("train_policy", "env=PlugCharger").env.task
    assert get_task(**charger).object == "charger"


@pytest.mark.parametrize("env", ["PlugCharger", "PullCubeTool"])
def test_described_tasks_have_policies_with_a_number_of_key_states(env):
    assert OmegaConf.to_object(compose("train_policy", f"env={env}").policy).key_states > 1


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"geometry": None},
            "task Mine: geometry is missing; a task with a 100-D state is described by object, target, geometry",
        ),
        ({"colour": "red"}, "task Mine: there is no colour"),
        ({"aims": "yes"}, "aims='yes'; it has to be true or false"),
        ({"target_turn": "left"}, "target_turn='left'; it has to be a number of degrees"),
        ({"symmetry": "sphere"}, "symmetry='sphere' is unknown; choose one of none, cube, bar"),
        ({"geometry": {"half_size": [1, 1, 1]}}, "geometry needs tip_offset, target_offset and half_size, three numbers each"),
        ({"geometry": GEOMETRY | {"half_size": [1, 1]}}, "geometry needs tip_offset"),
    ],
)
def test_a_description_that_is_wrong_is_answered_in_one_line(changed, message):
    with pytest.raises(ValueError, match=message) as refused:
        get_task("Mine", **{**DESCRIBED, "geometry": GEOMETRY, **changed})
    assert "\n" not in str(refused.value)


@pytest.mark.simulator
def test_a_policy_is_trained_and_evaluated_on_a_task_of_a_file(demos, tmp_path):
    (tmp_path / "Mine.yaml").write_text(FILE)
    env, out = f"env={tmp_path}/Mine.yaml", tmp_path / "policy"
    train = ["keystates=none", f"demos.path={demos.path}", f"out={out}", "validation.episodes=1", "validation.processes=1"]
    answer = run("tasks/train_policy.py", env, *train)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    path = out / "policy.safetensors"
    assert KeyStatePolicy.load(path).task.horizon == 20  # the file of the policy needs no other
    options = [f"policy={path}", "eval.first_seed=70000", "eval.episodes=1", f"out={tmp_path}/r.json", f"run={tmp_path}/run"]
    answer = run("tasks/evaluate_policy.py", env, *options)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    found = json.loads((tmp_path / "r.json").read_text())
    assert (found["task"], found["horizon"], found["n"]) == ("Mine", 20, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "no such file"), ("name: [", "describes no task"), ("name: Mine", "it lacks one of name, concepts, task")],
)
def test_a_file_that_describes_no_task_is_answered_in_one_line(content, message, tmp_path):
    path = tmp_path / "Mine.yaml"
    if content is not None:
        path.write_text(content)
    assert message in refusal("train_policy", f"env={path}")
