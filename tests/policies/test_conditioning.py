"""Key states in reinforcement learning: conditioning, shaping, residual actions, features."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("mani_skill")
pytest.importorskip("stable_baselines3")

from infoatlas_rl.keystates.files import read_key_states
from infoatlas_rl.maniskill.states import STATE_DIM, STATE_INDEX
from infoatlas_rl.maniskill.tasks import get_task
from infoatlas_rl.policies.conditioning import (
    CONDITION_SIZE,
    FeatureObservations,
    KeyStateConditioning,
    NearestDemonstration,
    PredictedKeyStates,
    ResidualActions,
)
from infoatlas_rl.policies.policy import KeyStatePolicy, PolicyConfig
from infoatlas_rl.policies.rollout import Trace, rollout
from infoatlas_rl.policies.scene import Scene, features, symmetry_of

pytestmark = pytest.mark.simulator

PICK = get_task("PickCube")


class FixedKeys:
    def __init__(self, keys):
        self.keys = keys

    def reset(self):
        pass

    def key_states(self, observation):
        return self.keys


def key_at(observation, move):
    parts = [observation[STATE_INDEX[name]] for name in ("tcp_position", "object_position", "gripper_width")]
    key = np.concatenate(parts).astype(np.float32)
    key[:3] += move
    return key


def test_conditioning_appends_the_next_key_state_and_its_shaping_adds_up(env):
    start, _ = env.reset(seed=1)
    keys = np.stack([key_at(start, (0, 0, -0.03)), key_at(start, (0, 0, -0.3))])
    wrapped = KeyStateConditioning(env, FixedKeys(keys), shaping=1.0, gamma=1.0)
    observation, _ = wrapped.reset(seed=1)
    assert observation.shape == (STATE_DIM + CONDITION_SIZE,) == wrapped.observation_space.shape
    np.testing.assert_allclose(observation[STATE_DIM:], [0, 0, -0.03, 0, 0, 0, 0, 0], atol=1e-6)
    first, total, passed = wrapped._potential, 0.0, []
    for _ in range(6):
        observation, reward, *_, info = wrapped.step(np.array([0, 0, -0.3, 0, 0, 0, 1], np.float32))
        total += reward
        passed.append(info["key_states_passed"])
    assert passed == sorted(passed)
    assert passed[-1] == 1  # the first one, and not yet the second
    assert observation[-1] == 0.5
    assert total == pytest.approx(wrapped._potential - first, abs=1e-6)
    assert total > 0.2  # one key state is passed, and the next one is 27 cm away


def test_a_key_state_that_was_left_out_is_passed_with_the_next_one(env):
    start, _ = env.reset(seed=1)
    elsewhere, here, closed, ahead = (key_at(start, move) for move in ((0.3, 0, 0), (0, 0, 0), (0, 0, 0), (0, 0, -0.3)))
    closed[6] = 0.0
    wrapped = KeyStateConditioning(env, FixedKeys(np.stack([elsewhere, here, closed, ahead])))
    observation, _ = wrapped.reset(seed=1)
    assert wrapped.passed == 2
    # The next one is where the gripper is, but closed, and that is part of its distance.
    np.testing.assert_allclose(observation[STATE_DIM:], [0, 0, 0, 0, 0, 0, -0.08, 0.5], atol=1e-3)
    assert wrapped._potential == pytest.approx(-(1 + np.tanh(0.08 / 0.2)), abs=0.01)


def test_key_states_come_from_a_policy_or_from_the_nearest_demonstration(env, demos, policy_file, tmp_path):
    policy = KeyStatePolicy.load(policy_file)
    wrapped = KeyStateConditioning(env, PredictedKeyStates(policy))
    observation, _ = wrapped.reset(seed=2)
    _, state = policy.predict(observation[:STATE_DIM])
    expected = state.keys[0, 0, :3] - observation[STATE_INDEX["tcp_position"]]
    np.testing.assert_allclose(observation[STATE_DIM : STATE_DIM + 3], expected, atol=1e-5)

    states = np.stack([demo.states[[40, len(demo) - 1]] for demo in demos])
    seeds = np.array([demo.seed for demo in demos])
    np.savez(tmp_path / "keystates.npz", seed=seeds[::-1], step=np.zeros((3, 2), int), states=states[::-1])
    _, found = read_key_states(tmp_path / "keystates.npz", seeds.tolist())
    np.testing.assert_array_equal(found, states)
    nearest = NearestDemonstration(found, np.stack([demo.states[0] for demo in demos]))
    wrapped = KeyStateConditioning(env, nearest)
    for index, demo in enumerate(demos):
        observation, _ = wrapped.reset(seed=demo.seed)
        expected = states[index, 0, STATE_INDEX["tcp_position"]] - observation[STATE_INDEX["tcp_position"]]
        np.testing.assert_allclose(observation[STATE_DIM : STATE_DIM + 3], expected, atol=1e-4)
    with pytest.raises(ValueError, match=r"key states \(3, 2, 100\) of 1 demonstrations"):
        NearestDemonstration(found, demos.demonstrations[0].states[:1])
    with pytest.raises(ValueError, match="1 of the 4 that are needed are not among them"):
        read_key_states(tmp_path / "keystates.npz", [*seeds.tolist(), 99])


def test_a_learner_that_does_nothing_acts_as_the_cloned_policy(env, policy_file):
    policy = KeyStatePolicy.load(policy_file)
    plain = Trace()
    rollout(policy, env, 3, trace=plain)
    wrapped = ResidualActions(env, policy, scale=0.2)
    observation, _ = wrapped.reset(seed=3)
    assert observation.shape == (STATE_DIM + 7,)
    for expected in plain.states[:20]:
        np.testing.assert_allclose(observation[:STATE_DIM], expected, atol=1e-5)
        observation, *_ = wrapped.step(np.zeros(7, np.float32))


def test_a_policy_for_another_task_is_refused_by_the_wrappers(env):
    stacking = KeyStatePolicy(PolicyConfig("StackCube", key_states=2, width=32, depth=1))
    joints = KeyStatePolicy(PolicyConfig("PickCube", 4, features="raw", control_mode="pd_joint_delta_pos", width=32, depth=1))
    with pytest.raises(ValueError, match="commands pd_joint_delta_pos; corrections are of pd_ee_delta_pose"):
        ResidualActions(env, joints)
    for wrap in (lambda: ResidualActions(env, stacking), lambda: KeyStateConditioning(env, PredictedKeyStates(stacking))):
        with pytest.raises(ValueError, match="the environment is PickCube, the policy was trained for StackCube"):
            wrap()


def test_learners_see_the_features_of_cloned_policies(env):
    inner = KeyStateConditioning(env, FixedKeys(np.zeros((1, 7), np.float32)))
    wrapped = FeatureObservations(inner, PICK)
    observation, _ = wrapped.reset(seed=0)
    raw, _ = inner.reset(seed=0)
    assert observation.shape == wrapped.observation_space.shape
    expected = features(Scene.from_states(torch.tensor(raw[:STATE_DIM])), symmetry_of(PICK)).numpy()
    np.testing.assert_array_equal(observation[: len(expected)], expected)
    np.testing.assert_allclose(observation[len(expected) : -1], np.tanh(raw[STATE_DIM:-1] / 0.1), atol=1e-6)
    assert np.abs(observation).max() < 5
