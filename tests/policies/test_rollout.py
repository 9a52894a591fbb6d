"""Policies in the simulator: environment, control, rollouts, evaluation in processes."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
import pytest
import torch

pytest.importorskip("mani_skill")
pytest.importorskip("stable_baselines3")

from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecMonitor

from infoatlas_rl.maniskill.envs import read_state
from infoatlas_rl.maniskill.tasks import Task, get_task
from infoatlas_rl.policies.control import Joints, commanded_joints, commanded_poses, to_action, to_joint_action
from infoatlas_rl.policies.environment import StateEnv
from infoatlas_rl.policies.evaluation import evaluate, summary
from infoatlas_rl.policies.policy import KeyStatePolicy
from infoatlas_rl.policies.rollout import Trace, rollout
from infoatlas_rl.policies.scene import Scene
from infoatlas_rl.policies.vector_env import ProcessVecEnv

pytestmark = pytest.mark.simulator

PICK = get_task("PickCube")


class Replay:
    """Carries out the commands of a demonstration, as a policy."""

    def __init__(self, demo):
        self.commands, self.gripper, self.step = commanded_poses(demo), torch.tensor(demo.actions[:, -1:]), 0

    def predict(self, observation, state=None, episode_start=None, deterministic=True):
        now = min(self.step, len(self.gripper) - 1)
        self.step += 1
        tcp = Scene.from_states(torch.tensor(observation)).tcp
        return to_action(self.commands[now], self.gripper[now], tcp).numpy(), state


def test_the_environment_is_a_gymnasium_environment(env):
    check_env(env, skip_render_check=True)
    observation, info = env.reset(seed=4)
    assert info["seed"] == 4
    np.testing.assert_array_equal(observation, read_state(env.env, PICK).astype(np.float32))
    again, _ = env.reset(seed=4)
    np.testing.assert_array_equal(again, observation)
    with pytest.raises(ValueError, match=r"shape \(7,\), not \(8,\)"):
        env.step(np.zeros(8))
    with pytest.raises(ValueError, match="no 100-D state"):
        StateEnv(Task("PushCube", "PushCube-v1", 50))


def test_an_action_leads_to_the_commanded_pose(env):
    """The controller's own target, which it computes from the action, is the command."""
    generator = torch.Generator().manual_seed(0)
    for seed in range(5):
        observation, _ = env.reset(seed=seed)
        tcp = Scene.from_states(torch.tensor(observation)).tcp
        command = tcp.offset_by(
            torch.cat([0.04 * torch.randn(3, generator=generator), 0.04 * torch.randn(3, generator=generator)])
        )
        env.step(to_action(command, torch.ones(1), tcp).numpy())
        agent = env.env.unwrapped.agent
        target = agent.controller.controllers["arm"]._target_pose
        root = agent.robot.pose
        reached = (root * target).to_transformation_matrix()[0]
        torch.testing.assert_close(reached[:3, 3], command.position, atol=1e-4, rtol=0)
        torch.testing.assert_close(reached[:3, :3], command.rotation, atol=1e-3, rtol=0)


def test_commands_of_demonstrations_solve_their_scenes(env, demos):
    episodes = [rollout(Replay(demo), env, demo.seed) for demo in demos]
    assert [episode.success for episode in episodes] == [True] * 3
    for episode, demo in zip(episodes, demos):
        assert 0 < episode.steps <= len(demo) + 5
        assert episode.events["grasped"] < episode.events["at_goal"]


class ReplayJoints(Replay):
    """The same with commands of joints."""

    def __init__(self, demo):
        super().__init__(demo)
        self.commands = commanded_joints(demo)

    def predict(self, observation, state=None, episode_start=None, deterministic=True):
        now = min(self.step, len(self.gripper) - 1)
        self.step += 1
        joints = Joints(torch.tensor(observation[:7]))
        return to_joint_action(self.commands[now], self.gripper[now], joints).numpy(), state


def test_joints_that_demonstrations_command_solve_their_scenes(demos):
    env = StateEnv(PICK, control_mode="pd_joint_delta_pos", stop_at_success=True)
    assert [rollout(ReplayJoints(demo), env, demo.seed).success for demo in demos] == [True] * 3
    env.close()


def test_success_at_any_step_and_at_the_end_are_told_apart(demos):
    """A demonstration, and then the gripper opens and the arm leaves."""
    env = StateEnv(PICK)
    demo = demos.demonstrations[0]

    class Drop(Replay):
        def predict(self, observation, state=None, episode_start=None, deterministic=True):
            action, state = super().predict(observation, state)
            return (np.array([0, 0, 1, 0, 0, 0, 1], np.float32) if self.step > len(demo) + 10 else action), state

    trace = Trace()
    episode = rollout(Drop(demo), env, demo.seed, trace=trace)
    env.close()
    assert (episode.success, episode.success_at_end) == (True, False)
    assert len(trace.states) == PICK.horizon + 1
    content = summary([episode])
    assert (content["k"], content["k_at_end"], content["n"]) == (1, 0, 1)


def test_evaluation_in_processes_is_that_of_one_rollout_and_resumes(policy_file, env, tmp_path):
    record, seen = tmp_path / "notes.jsonl", []
    episodes = evaluate(policy_file, [7, 8], stop_at_success=True, processes=2, record=record, progress=lambda *a: seen.append(a))
    policy = KeyStatePolicy.load(policy_file)
    assert episodes == [rollout(policy, env, seed) for seed in (7, 8)]
    assert [done for done, _ in seen] == [1, 2]
    # a killed run leaves half a line; what is noted is not run again
    lines = record.read_text().splitlines()
    noted = json.loads(lines[1]) | {"steps": 12345}
    record.write_text(json.dumps(noted) + "\n" + lines[2][:20])
    again = evaluate(policy_file, [7, 8], stop_at_success=True, processes=1, record=record)
    assert sorted(episode.steps == 12345 for episode in again) == [False, True]
    complete = record.read_text()
    assert evaluate(policy_file, [7, 8], stop_at_success=True, processes=1, record=record) == again
    assert record.read_text() == complete  # nothing was left to run


def test_evaluate_policy_of_stable_baselines3_runs_a_policy(policy_file):
    envs = VecMonitor(ProcessVecEnv([partial(StateEnv, PICK, horizon=12)] * 2))
    rewards, lengths = evaluate_policy(
        KeyStatePolicy.load(policy_file), envs, n_eval_episodes=2, return_episode_rewards=True, warn=False
    )
    envs.close()
    assert len(rewards) == 2
    assert lengths == [12, 12]
