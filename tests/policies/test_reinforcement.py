"""Learners without a simulator: their files are read without running what somebody put there, and give the same learner."""

from __future__ import annotations

import pickle
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import torch

pytest.importorskip("mani_skill")
pytest.importorskip("stable_baselines3")

from infoatlas_rl.policies import reinforcement
from infoatlas_rl.policies.learner import CurveConfig, LearnerConfig
from infoatlas_rl.policies.learner_files import checkpoints, read_buffer, write_buffer
from infoatlas_rl.policies.reinforcement import Learning, finished, load

SAC = {"learning_starts": 4, "batch_size": 4, "buffer_size": 30, "policy_kwargs": {"net_arch": [8]}}
PPO = {"n_steps": 20, "batch_size": 10, "n_epochs": 1, "policy_kwargs": {"net_arch": [8]}}
CONFIG = LearnerConfig("PickCube", SAC, steps=20, eval=CurveConfig(every=20, episodes=1))


class Walk(gymnasium.Env):
    """Five steps in which the action is the reward."""

    observation_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 5
        return self.np_random.random(3).astype(np.float32), {}

    def step(self, action):
        self.left -= 1
        over = self.left == 0
        return self.np_random.random(3).astype(np.float32), float(action[0]), False, over, {"is_success": over}


@pytest.fixture(autouse=True)
def _walk(monkeypatch):
    monkeypatch.setattr(reinforcement, "build_env", lambda config, training, nearest: Walk())


def learn(config, out, **options):
    with Learning(config, out, **options) as learning:
        learning.write(learning.fit(), {"version": "1"})
    return learning


def same(here, there):
    if isinstance(here, torch.Tensor):
        return torch.equal(here, there)
    if isinstance(here, dict):
        return here.keys() == there.keys() and all(same(here[name], there[name]) for name in here)
    return here == there


@pytest.mark.parametrize("algorithm", ["sac", "ppo"])
def test_a_learner_goes_on_with_its_networks_optimisers_counters_and_transitions(algorithm, tmp_path):
    config = replace(CONFIG, algorithm=algorithm, options=SAC if algorithm == "sac" else PPO)
    first = learn(config, tmp_path).model
    assert finished(config, tmp_path)["curve"] == [{"steps": 20, "k": 1}]
    further = replace(config, steps=60)
    assert finished(further, tmp_path) is None
    with Learning(further, tmp_path) as learning:
        second = learning.model
        assert learning.checkpoint == tmp_path / "checkpoints/model_20_steps.pt"
        assert learning.done == 20
        if algorithm == "sac":
            # SB3 calls back in step 20 before it stores the transition and counts the fourth episode.
            assert (second._episode_num, second.replay_buffer.pos) == (3, 19)
            np.testing.assert_array_equal(second.replay_buffer.actions[:19], first.replay_buffer.actions[:19])
            assert second.log_ent_coef.item() != 0
            assert second.actor.optimizer.state_dict()["state"]
        learning.write(learning.fit(), {})
    assert [point["steps"] for point in finished(further, tmp_path)["curve"]] == [20, 40, 60]
    assert len(checkpoints(tmp_path / "checkpoints")) == 3
    if algorithm == "sac":
        assert second.replay_buffer.full
        assert [path.name for path in (tmp_path / "checkpoints").glob("replay*")] == ["replay_buffer_60_steps.safetensors"]

    read, env = load(tmp_path, "model")
    env.close()
    assert same(read.get_parameters(), second.get_parameters())
    observation = np.full(3, 0.3, np.float32)
    actions = [model.predict(observation, deterministic=True)[0] for model in (read, second)]
    np.testing.assert_array_equal(*actions)
    assert read.num_timesteps == 60


def test_a_full_replay_buffer_goes_on_where_it_was(tmp_path):
    whole = learn(replace(CONFIG, steps=40), tmp_path).model.replay_buffer
    assert (whole.full, whole.pos) == (True, 10)
    write_buffer(tmp_path / "b.safetensors", whole)
    with Learning(CONFIG, tmp_path / "other", resume=False) as other:
        read_buffer(tmp_path / "b.safetensors", other.model.replay_buffer)
        assert (other.model.replay_buffer.full, other.model.replay_buffer.pos) == (True, 10)
        np.testing.assert_array_equal(other.model.replay_buffer.next_observations, whole.next_observations)


def test_a_learner_with_key_states_of_demonstrations_keeps_them(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(reinforcement, "build_env", lambda config, training, nearest: given.append(nearest) or Walk())
    config, nearest = replace(CONFIG, conditioning="nearest"), (np.ones((2, 3, 100)), np.zeros((2, 100)))
    learn(config, tmp_path, nearest=nearest)
    given.clear()
    load(tmp_path)[1].close()
    np.testing.assert_array_equal(given[0][0], nearest[0])
    assert config.identity(nearest) != config.identity((nearest[0] + 1, nearest[1]))
    with pytest.raises(ValueError, match="demonstrations are for conditioning=nearest, which needs them"):
        Learning(config, tmp_path)


class Planted:
    """What runs when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


FILES = {
    "options.json": None,
    "curve.json": None,
    "evaluations.npz": None,
    "checkpoints/model_20_steps.pt": None,
    "checkpoints/replay_buffer_20_steps.safetensors": None,
    "best_model.pt": "best_model",
    "model.pt": "model",
}


def goes_on(out):
    finished(CONFIG, out)
    Learning(replace(CONFIG, steps=40), out)


def test_these_are_all_files_of_a_run(tmp_path):
    learn(CONFIG, tmp_path)
    assert SAC["policy_kwargs"] == {"net_arch": [8]}  # or else the same options would be those of another run
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert {name for name in files if "tensorboard" not in name} == set(FILES)


def plain(content, path):
    path.write_bytes(pickle.dumps(content))


def in_npz(content, path):
    names = ("timesteps", "results", "ep_lengths", "successes")
    with open(path, "wb") as file:
        np.savez(file, **dict.fromkeys(names, np.array([content], dtype=object)))


@pytest.mark.parametrize("save", [plain, torch.save, in_npz])
@pytest.mark.parametrize("name", FILES)
def test_a_planted_pickle_is_refused_and_not_run(name, save, tmp_path):
    learn(CONFIG, tmp_path)
    marker = tmp_path / "marker"
    save(Planted(marker), tmp_path / name)
    with pytest.raises(ValueError, match=rf"{name} is (missing or )?damaged") as refused:
        load(tmp_path, FILES[name]) if FILES[name] else goes_on(tmp_path)
    assert "\n" not in str(refused.value)
    assert not marker.exists()


def test_pickles_of_an_earlier_version_are_not_read(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/model_20_steps.zip").touch()
    with pytest.raises(ValueError, match="holds pickles of an earlier version, which are not read; resume=false starts anew"):
        Learning(CONFIG, tmp_path)


def test_a_checkpoint_of_another_learner_is_refused(tmp_path):
    learn(CONFIG, tmp_path)
    with pytest.raises(ValueError, match="reward: normalized_dense there, sparse here"):
        Learning(replace(CONFIG, steps=40, reward="sparse"), tmp_path)
    other = replace(CONFIG, options=SAC | {"policy_kwargs": {"net_arch": [9]}})
    learn(other, tmp_path / "other")
    (tmp_path / "other/model.pt").replace(tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"model.pt is of another learner than the options describe"):
        load(tmp_path, "model")
    buffer = "checkpoints/replay_buffer_20_steps.safetensors"
    learn(replace(CONFIG, options=SAC | {"buffer_size": 10}), tmp_path / "smaller")
    (tmp_path / buffer).replace(tmp_path / "smaller" / buffer)
    with pytest.raises(ValueError, match=r"steps.safetensors is of another replay buffer than the options describe"):
        Learning(replace(CONFIG, options=SAC | {"buffer_size": 10}, steps=40), tmp_path / "smaller")
    with pytest.raises(ValueError, match=r"no learner at .*best_model.pt; tasks/train_rl.py writes it"):
        load(tmp_path / "nowhere")
