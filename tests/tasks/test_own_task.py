"""A task that a user describes in a file: the same states, policies and evaluation as built-in ones."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("mani_skill")

from omegaconf import OmegaConf

from infoatlas_rl.maniskill.demos import load_demonstrations, trajectory_of
from infoatlas_rl.maniskill.states import STATE_INDEX, encode_states
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


def in_parts(**changed):
    """PickCube, and then the table, of all things, has to be brought between the cube and its goal."""
    first = {"object": "cube", "target": "goal_site", "geometry": GEOMETRY} | changed
    described = DESCRIBED | {"object": "table-workspace", "target": ["cube", "goal_site"], "first": [first]}
    return get_task("Mine", **described, geometry=GEOMETRY)


def test_a_state_is_about_the_first_part_that_is_not_done(demos):
    one = demos.demonstrations[0]
    cube, goal, table = (one.env_states["actors"][name][:, :3].astype(float) for name in ("cube", "goal_site", "table-workspace"))
    tcp = one.states[:, STATE_INDEX["tcp_position"]]
    to_cube, to_table = (np.linalg.norm(place - tcp, axis=1) for place in (cube, table))
    # Wherever the cube is counts as arrived: what is left to say is whether the gripper has left it.
    found = _states(one, in_parts(geometry=GEOMETRY | {"clearance": 10}))
    left = to_cube > np.minimum(0.06, to_table)
    assert left.any()
    assert not left.all()
    np.testing.assert_allclose(found[:, STATE_INDEX["object_position"]], np.where(left[:, None], table, cube), atol=1e-6)
    between = np.where(left[:, None], (cube + goal) / 2, goal)
    np.testing.assert_allclose(found[:, STATE_INDEX["target_position"]], between, atol=1e-6)
    # Nowhere does: the second part is never begun, and the state is that of the task without it.
    never = _states(one, in_parts(geometry=GEOMETRY | {"clearance": 1e-9}))
    never[:, STATE_INDEX["clearance"]] = one.states[:, STATE_INDEX["clearance"]]
    np.testing.assert_array_equal(never, one.states)


def _states(demo, task):
    return encode_states(demo.env_states, task.geometry, task)


def test_key_states_of_a_task_in_parts_are_found_in_its_plain_state(demos):
    one = demos.demonstrations[0]
    plain = encode_states(one.env_states, None, get_task("Other", "PickCube-v1"))
    np.testing.assert_array_equal(trajectory_of(one, in_parts()), plain)
    assert plain.shape[1] != 100


def test_a_description_makes_the_same_task_again():
    mine = get_task("Mine", **DESCRIBED, geometry=GEOMETRY, aims=True, target_turn=180)
    again = task_of(json.loads(json.dumps(describe(mine))))
    assert describe(again) == describe(mine)
    assert (again.aims, again.target_turn, again.geometry.clearance) == (True, 180, 0.025)
    # A description is compared with the one in a file: it is JSON.
    assert json.loads(json.dumps(describe(in_parts()))) == describe(in_parts())
    parts = task_of(json.loads(json.dumps(describe(in_parts()))))
    assert describe(parts) == describe(in_parts())
    assert (parts.targets, parts.objects) == (("cube", "goal_site"), ("cube", "table-workspace"))
    assert parts.first[0].targets == ("goal_site",)
    pyramid = get_task(**compose("train_policy", "env=StackPyramid").env.task)
    assert (pyramid.first[0].object, pyramid.targets) == ("cubeA", ("cubeA", "cubeB"))
    assert describe(get_task("PickCube")) == "PickCube"
    assert describe(get_task("Other", "Other-v1", 9)) == {"name": "Other", "env_id": "Other-v1", "horizon": 9}
    charger = compose("train_policy", "env=PlugCharger").env.task
    assert get_task(**charger).object == "charger"


@pytest.mark.parametrize("env", ["PlugCharger", "PullCubeTool", "StackPyramid"])
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
        ({"geometry": GEOMETRY | {"clearance": 0}}, "clearance=0; it has to be a number of metres above 0"),
        ({"horizon": "abc"}, "horizon='abc'; it has to be a whole number of steps, at least 1"),
        ({"horizon": -5}, "horizon=-5; it has to be a whole number of steps, at least 1"),
        ({"target": []}, "object has to be the name of an actor, and target that of another or a list of others"),
        ({"target": ""}, "object has to be the name of an actor, and target that of another or a list of others"),
        ({"target": ["goal_site", "cube"]}, "object has to be the name of an actor, and target that of another"),
        ({"first": [{3: 1, "object": "cube"}]}, "part 1 of first: there is no 3"),
        ({"first": 3}, "first has to be a list of parts, each with object, target, geometry"),
        ({"first": {"object": "cube"}}, "first has to be a list of parts, each with object, target, geometry"),
        (
            {"first": [{"object": "cube"}]},
            "part 1 of first: target, geometry is missing; a part is described by object, target, geo",
        ),
        (
            {"first": [{"object": "cube", "target": "x", "geometry": GEOMETRY | {"clearance": "wide"}}]},
            "part 1 of first: clearance='wide'; it has to be a number of metres above 0",
        ),
        ({"first": [{"object": "cube", "target": "x", "geometry": {}}]}, "part 1 of first: geometry needs tip_offset"),
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
    (tmp_path / "Mine.yaml").write_text(FILE.replace("horizon: 20", "horizon: 30"))
    said = refusal("evaluate_policy", env, f"policy={path}")
    assert "is of another run (horizon: 20 there, 30 here); train it again" in said
    (tmp_path / "Mine.yaml").write_text(FILE.replace("name: Mine", "name: PickCube"))
    assert "name: PickCube is that of a task that is there already" in refusal("evaluate_policy", env, "policy=p")
    (tmp_path / "Mine.yaml").write_text(FILE)
    assert f"tasks/evaluate_policy.py env={tmp_path}/Mine.yaml policy=" in answer.stdout
    options = [f"policy={path}", "eval.first_seed=70000", "eval.episodes=1", f"out={tmp_path}/r.json", f"run={tmp_path}/run"]
    answer = run("tasks/evaluate_policy.py", env, *options)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    found = json.loads((tmp_path / "r.json").read_text())
    assert (found["task"], found["horizon"], found["n"]) == ("Mine", 20, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        ("name: [", "describes no task"),
        ("name: Mine", "it lacks one of name, concepts, task"),
        (FILE.replace("name: Mine", "name: 5"), "name: 5 is none; give it letters, digits, - and _"),
        (FILE.replace("name: Mine", "name: a/b"), "name: 'a/b' is none"),
        (FILE.replace("concepts: 3", "concepts: six"), "concepts: 'six' is no whole number of at least 1"),
        (FILE.replace("training_steps: 2", "training_steps: 0"), "training_steps: 0 is no whole number of at least 1"),
    ],
)
def test_a_file_that_describes_no_task_is_answered_in_one_line(content, message, tmp_path):
    path = tmp_path / "Mine.yaml"
    if content is not None:
        path.write_text(content)
    assert message in refusal("train_policy", f"env={path}")
