"""Demonstrations as prior data of a learner."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("mani_skill")
pytest.importorskip("stable_baselines3")

from gymnasium import spaces

from infoatlas_rl.maniskill.states import STATE_INDEX
from infoatlas_rl.maniskill.tasks import get_task
from infoatlas_rl.policies.conditioning import FeatureObservations
from infoatlas_rl.policies.environment import StateEnv
from infoatlas_rl.policies.learner import CurveConfig, LearnerConfig
from infoatlas_rl.policies.prior import PriorReplayBuffer, Transitions, actions_of, transitions
from infoatlas_rl.policies.reinforcement import Learning

PICK = get_task("PickCube")
pytestmark = pytest.mark.simulator


def features(env):
    return FeatureObservations(env, PICK)


def test_transitions_are_those_of_the_environment_that_carries_the_actions_out(demos):
    """Acting so in the scene of a demonstration goes where that went, and is paid for when it was solved."""
    demo = demos.demonstrations[0]
    found = transitions(replace(demos, demonstrations=[demo]), features)
    assert len(found.rewards) == len(demo.actions) == len(found.observations)
    np.testing.assert_array_equal(found.observations[1:], found.next_observations[:-1])
    gripper = demo.states[:, STATE_INDEX["tcp_position"]] / 0.3  # the first of the features
    np.testing.assert_allclose(found.observations[:, :3], gripper[:-1], atol=1e-5)
    np.testing.assert_allclose(found.next_observations[:, :3], gripper[1:], atol=1e-5)
    np.testing.assert_array_equal(found.rewards, demo.success)
    assert found.rewards[-1] == 1 > found.rewards[0]
    assert np.abs(found.actions).max() <= 1

    env = features(StateEnv(PICK, reward="sparse"))
    observation, _ = env.reset(seed=demo.seed)
    np.testing.assert_allclose(observation, found.observations[0], atol=1e-4)
    for action in found.actions[:20]:
        observation, *_ = env.step(action)
    env.close()
    # The arm follows another controller a little differently: 1 cm on features of 30 cm.
    np.testing.assert_allclose(observation[:3], found.observations[20, :3], atol=0.03)
    assert np.abs(found.observations[20, :3] - found.observations[0, :3]).max() > 0.1


def test_the_gripper_of_an_action_is_that_of_the_demonstration(demos):
    demo = demos.demonstrations[0]
    np.testing.assert_array_equal(actions_of(demo)[:, -1], demo.actions[:, -1])


def test_demonstrations_without_successes_or_of_another_controller_are_refused(demos):
    first = demos.demonstrations[0]
    for changed, message in (
        (replace(demos, demonstrations=[replace(first, success=None)]), "does not say when it was solved"),
        (replace(demos, control_mode="pd_ee_delta_pose"), "prior data are made of joint targets, so it has to be 'pd_joint_pos'"),
    ):
        with pytest.raises(ValueError, match=message) as refused:
            transitions(changed, features)
        assert "\n" not in str(refused.value)


def buffer(rows=6):
    made = PriorReplayBuffer(10, spaces.Box(-1, 1, (2,)), spaces.Box(-1, 1, (1,)))
    for _ in range(rows):
        made.add(np.zeros((1, 2)), np.zeros((1, 2)), np.zeros((1, 1)), np.zeros(1), np.ones(1), [{}])
    return made


def test_half_of_a_batch_is_prior_data():
    made = buffer()
    assert not made.sample(8).rewards.any()
    made.prior = Transitions(*(np.ones(shape, np.float32) for shape in ((3, 2), (3, 2), (3, 1), (3,))))
    batch = made.sample(9)
    assert [part.dtype for part in batch[:5]] == [torch.float32] * 5
    assert [tuple(part.shape) for part in batch[:5]] == [(9, 2), (9, 1), (9, 2), (9, 1), (9, 1)]
    assert batch.rewards.sum() == batch.actions.sum() == 4
    assert batch.dones[batch.rewards == 1].sum() == 0
    assert batch.dones[batch.rewards == 0].sum() == 5


def test_a_learner_begins_with_demonstrations_and_goes_on_with_the_same_only(demos, tmp_path):
    sac = {"learning_starts": 4, "batch_size": 4, "buffer_size": 30, "policy_kwargs": {"net_arch": [8]}}
    few = CurveConfig(every=10, episodes=1)
    config = LearnerConfig("PickCube", sac, steps=10, reward="sparse", prior=True, horizon=5, eval=few)
    with pytest.raises(ValueError, match="prior=true needs stop_at_success=false"):
        replace(config, stop_at_success=True)
    with pytest.raises(ValueError, match="prior data are for prior=true, which needs them"):
        Learning(config, tmp_path)
    with Learning(config, tmp_path, prior=demos) as learning:
        assert len(learning.model.replay_buffer.prior.rewards) == sum(len(demo.actions) for demo in demos)
        learning.write(learning.fit(), {})
        (size,) = learning.model.observation_space.shape
        with torch.no_grad():  # what no transition shows is not worth more and more
            far, farther = (learning.model.critic(10.0**power * torch.ones(1, size), torch.ones(1, 7))[0] for power in (4, 8))
        torch.testing.assert_close(far, farther, rtol=0.01, atol=0.01)
    with Learning(replace(config, steps=20), tmp_path, prior=demos) as further:
        assert further.done == 10
        assert further.model.replay_buffer.prior is not None
    fewer = replace(demos, demonstrations=demos.demonstrations[:1])
    with pytest.raises(ValueError, match="prior_sha256"):
        Learning(replace(config, steps=20), tmp_path, prior=fewer)


@pytest.mark.parametrize("changed", [{"algorithm": "ppo"}, {"reward": "dense"}, {"start": "cloned"}])
def test_prior_data_are_for_sac_from_scratch_with_a_sparse_reward(changed):
    asked = {"reward": "sparse", "prior": True} | changed
    with pytest.raises(ValueError, match="prior=true needs algorithm=sac start=scratch reward=sparse, not"):
        LearnerConfig("PickCube", {}, **asked)
