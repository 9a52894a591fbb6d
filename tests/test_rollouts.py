"""Policies in the simulator: environment, control, rollouts in processes, stable-baselines3, key-state wrappers."""

from __future__ import annotations

import json
import os
import time
from functools import partial
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces

pytest.importorskip("mani_skill")
pytest.importorskip("stable_baselines3")

from stable_baselines3.common.env_checker import check_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecMonitor

from infoatlas_rl.keystates.files import read_key_states
from infoatlas_rl.maniskill.collect import collect_demonstrations
from infoatlas_rl.maniskill.demos import load_demonstrations
from infoatlas_rl.maniskill.envs import read_state
from infoatlas_rl.maniskill.states import STATE_DIM, STATE_INDEX
from infoatlas_rl.maniskill.tasks import Task, get_task
from infoatlas_rl.policies.conditioning import (
    CONDITION_SIZE,
    FeatureObservations,
    KeyStateConditioning,
    NearestDemonstration,
    PredictedKeyStates,
    ResidualActions,
)
from infoatlas_rl.policies.control import commanded_poses, to_action
from infoatlas_rl.policies.environment import StateEnv
from infoatlas_rl.policies.policy import KeyStatePolicy, PolicyConfig
from infoatlas_rl.policies.rollout import Trace, evaluate, rollout, scatter, summary
from infoatlas_rl.policies.scene import CUBE, Scene, features
from infoatlas_rl.policies.vector_env import ProcessVecEnv, WorkerError

pytestmark = pytest.mark.simulator

PICK = get_task("PickCube")


@pytest.fixture(scope="module")
def demos(tmp_path_factory):
    report = collect_demonstrations(PICK, tmp_path_factory.mktemp("demos"), 3, processes=1)
    return load_demonstrations(report.path, PICK)


@pytest.fixture(scope="module")
def env():
    env = StateEnv(PICK, stop_at_success=True)
    yield env
    env.close()


@pytest.fixture(scope="module")
def policy_file(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("policy") / "policy.safetensors"
    KeyStatePolicy(PolicyConfig("PickCube", key_states=4, width=32, depth=1)).save(path, {})
    return path


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


def test_an_unfit_policy_is_refused_before_processes_start(tmp_path):
    (tmp_path / "p.safetensors").write_bytes(b"nothing")
    with pytest.raises(RuntimeError, match="not a readable safetensors file"):
        evaluate(tmp_path / "p.safetensors", [0])


def _die_once(item, folder):
    marker = Path(folder) / str(item)
    if item == 1 and not marker.exists():
        marker.touch()
        os._exit(3)
    return item


def _die(item):
    os._exit(3)


def _fail(item):
    raise KeyError(f"no scene {item}")


def test_worker_processes_that_die_are_replaced_and_errors_keep_their_traceback(tmp_path):
    found = []
    scatter(partial(_die_once, folder=str(tmp_path)), [0, 1, 2], found.append, processes=2)
    assert sorted(found) == [0, 1, 2]
    with pytest.raises(RuntimeError, match=r"died 3 times .* 2 of 2 episodes are left.*doctor"):
        scatter(_die, [0, 1], found.append, processes=1)
    with pytest.raises(KeyError, match="no scene 5") as caught:
        scatter(_fail, [5], found.append, processes=1)
    assert "_fail" in str(caught.value.__cause__)  # the traceback of the worker


# --- stable-baselines3 ------------------------------------------------------------------------------------------------


class Countdown(gymnasium.Env):
    """Ends after four steps: solved if the last action was positive, out of time otherwise. Or it breaks."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, trouble=None):
        self.trouble, self.step_count = trouble, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.step_count = 0
        return np.zeros(1, np.float32), {"seed": seed}

    def step(self, action):
        self.step_count += 1
        if self.step_count == 3 and self.trouble == "raise":
            raise ZeroDivisionError("the arm fell off")
        if self.step_count == 3 and self.trouble == "die":
            os._exit(9)
        if self.step_count == 3 and self.trouble == "hang":
            time.sleep(100)
        solved = self.step_count == 4 and action[0] > 0
        out_of_time = self.step_count == 4 and not solved
        return np.full(1, self.step_count, np.float32), 1.0, bool(solved), bool(out_of_time), {"is_success": bool(solved)}


def test_the_vector_environment_has_the_semantics_of_stable_baselines3():
    envs = ProcessVecEnv([Countdown, Countdown])
    envs.seed(3)
    assert envs.reset().tolist() == [[0], [0]]
    assert [info["seed"] for info in envs.reset_infos] == [3, 4]
    actions = np.array([[1.0], [-1.0]], np.float32)
    for step in range(1, 4):
        observations, rewards, dones, _ = envs.step(actions)
        assert (observations[:, 0] == step).all()
        assert not dones.any()
        assert rewards.tolist() == [1, 1]
    observations, _, dones, infos = envs.step(actions)
    assert dones.tolist() == [True, True]
    assert observations.tolist() == [[0], [0]]  # of the next episode
    assert [info["terminal_observation"].tolist() for info in infos] == [[4], [4]]
    assert [info["TimeLimit.truncated"] for info in infos] == [False, True]
    assert [info["is_success"] for info in infos] == [True, False]
    assert envs.get_attr("step_count") == [0, 0]
    envs.set_attr("step_count", 2, indices=1)
    assert envs.get_attr("step_count") == [0, 2]
    assert envs.env_is_wrapped(gymnasium.Wrapper) == [False, False]
    assert (envs.has_attr("step_count"), envs.has_attr("nothing")) == (True, False)
    envs.close()


@pytest.mark.parametrize(
    ("trouble", "message"),
    [("raise", "ZeroDivisionError: the arm fell off"), ("die", "died with exit code 9"), ("hang", "has not answered for 20 s")],
)
def test_a_worker_in_trouble_ends_the_run(trouble, message):
    envs = ProcessVecEnv([Countdown, partial(Countdown, trouble)], patience=20.0 if trouble == "hang" else 100.0)
    envs.reset()
    for _ in range(2):
        envs.step(np.zeros((2, 1), np.float32))
    began = time.monotonic()
    with pytest.raises(WorkerError, match=message):
        envs.step(np.zeros((2, 1), np.float32))
    assert time.monotonic() - began < 50  # far below `patience` where nothing hangs
    assert not any(process.is_alive() for process in envs._processes)


def test_evaluate_policy_of_stable_baselines3_runs_a_policy(policy_file):
    envs = VecMonitor(ProcessVecEnv([partial(StateEnv, PICK, horizon=12)] * 2))
    rewards, lengths = evaluate_policy(
        KeyStatePolicy.load(policy_file), envs, n_eval_episodes=2, return_episode_rewards=True, warn=False
    )
    envs.close()
    assert len(rewards) == 2
    assert lengths == [12, 12]


# --- key states in reinforcement learning -----------------------------------------------------------------------------


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
    for wrap in (lambda: ResidualActions(env, stacking), lambda: KeyStateConditioning(env, PredictedKeyStates(stacking))):
        with pytest.raises(ValueError, match="the environment is PickCube, the policy was trained for StackCube"):
            wrap()


def test_learners_see_the_features_of_cloned_policies(env):
    inner = KeyStateConditioning(env, FixedKeys(np.zeros((1, 7), np.float32)))
    wrapped = FeatureObservations(inner, PICK)
    observation, _ = wrapped.reset(seed=0)
    raw, _ = inner.reset(seed=0)
    assert observation.shape == wrapped.observation_space.shape
    expected = features(Scene.from_states(torch.tensor(raw[:STATE_DIM])), CUBE).numpy()
    np.testing.assert_array_equal(observation[: len(expected)], expected)
    np.testing.assert_allclose(observation[len(expected) : -1], np.tanh(raw[STATE_DIM:-1] / 0.1), atol=1e-6)
    assert np.abs(observation).max() < 5
