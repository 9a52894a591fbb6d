"""Policies: acting, and files."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from infoatlas_rl.maniskill.states import STATE_DIM
from infoatlas_rl.policies.cloning import Cloning, CloningConfig
from infoatlas_rl.policies.policy import KeyStatePolicy, PolicyConfig
from infoatlas_rl.policies.scene import Pose, raw_features
from infoatlas_rl.weights import WeightsError
from tests.conftest import random_states, small_policy


@pytest.fixture(scope="module")
def policy(windows):
    cloning = Cloning(small_policy(), windows, CloningConfig(steps=60, batch_size=32))
    return cloning.average


def test_predict_works_for_one_and_for_many_environments(policy):
    observations = random_states(3, seed=9).numpy()
    together, state = policy.predict(observations)
    assert together.shape == (3, 7)
    assert np.abs(together).max() <= 1
    for index in range(3):
        alone, _ = policy.predict(observations[index])
        np.testing.assert_allclose(alone, together[index], atol=1e-5)
    again, after = policy.predict(observations, state, np.array([True, False, False]))
    assert after.cursor.tolist() == [1, 2, 2]
    np.testing.assert_allclose(again[0], together[0], atol=1e-5)  # a new episode begins with the same decision


def test_a_chunk_is_carried_out_before_the_next_is_decoded(policy, monkeypatch):
    decided = []
    decide = policy._decide
    monkeypatch.setattr(policy, "_decide", lambda *args: decided.append(1) or decide(*args))
    state = None
    for observation in random_states(9, seed=2).numpy():
        _, state = policy.predict(observation, state)
    assert len(decided) == 3  # at steps 0, 4 and 8


def test_observations_of_another_size_are_refused(policy):
    for wrong in (np.zeros(42, np.float32), np.zeros((1, 1, STATE_DIM), np.float32)):
        with pytest.raises(ValueError, match=r"have shape \(.*\), the policy takes \(100,\) or \(n, 100\) states.*StateEnv"):
            policy.predict(wrong)
    with pytest.raises(ValueError, match="quaternions are zero"):
        policy.predict([0.0] * STATE_DIM)
    with pytest.raises(ValueError, match="have to be finite"):
        policy.predict(np.full(STATE_DIM, np.nan, np.float32))


def test_a_policy_file_gives_the_same_policy(policy, tmp_path):
    policy.save(tmp_path / "p.safetensors", {"keystates": {"arm": "even"}})
    read, record = KeyStatePolicy.load_with_record(tmp_path / "p.safetensors", "PickCube")
    assert record == {"keystates": {"arm": "even"}}
    observation = random_states(1).numpy()[0]
    np.testing.assert_array_equal(read.predict(observation)[0], policy.predict(observation)[0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"control_mode": "pd_joint_vel"}, "pd_joint_vel is unknown; choose one of pd_ee_delta_pose, pd_joint_delta_pos"),
        ({"control_mode": "pd_joint_delta_pos"}, "joints, which know no object or target: it goes with policy.features=raw"),
        ({"state_layout": "48-D abc"}, "'48-D abc', this version of the code '100-D "),
        ({"key_states": 0}, "at least 1"),
        ({"heads": 3}, "policy.width=32 has to be a multiple of policy.heads=3"),
    ],
)
def test_policies_that_do_not_fit_are_refused(policy, tmp_path, change, message):
    policy.save(tmp_path / "p.safetensors", {})
    with safe_open(tmp_path / "p.safetensors", framework="pt") as file:
        header, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    header["config"] = json.dumps(json.loads(header["config"]) | change)
    save_file(tensors, tmp_path / "other.safetensors", metadata=header)
    with pytest.raises(WeightsError, match=message):
        KeyStatePolicy.load(tmp_path / "other.safetensors")
    header["format"] = "infoatlas-policy-0"
    save_file(tensors, tmp_path / "old.safetensors", metadata=header)
    with pytest.raises(WeightsError, match=r"format 'infoatlas-policy-0', this version reads.*train_policy.py"):
        KeyStatePolicy.load(tmp_path / "old.safetensors")


def test_a_policy_for_another_task_is_refused(policy, tmp_path):
    policy.save(tmp_path / "p.safetensors", {})
    with pytest.raises(WeightsError, match=r"a policy for PickCube, not for StackCube; train one with .*env=StackCube"):
        KeyStatePolicy.load(tmp_path / "p.safetensors", "StackCube")


def test_a_policy_without_key_states_predicts_none(tmp_path):
    policy = KeyStatePolicy(PolicyConfig("PickCube", key_states=4, width=32, depth=1))
    policy.save(tmp_path / "policy.safetensors", {"config": {"training": {"key_weight": 0.0}}})
    KeyStatePolicy.load(tmp_path / "policy.safetensors")
    with pytest.raises(WeightsError, match="trained without key states and predicts none"):
        KeyStatePolicy.load(tmp_path / "policy.safetensors", key_states=True)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_policy_file_with_weights_that_are_not_finite_is_refused(policy, tmp_path, value):
    broken = small_policy()
    with torch.no_grad():
        broken.network.tokens[0, 0] = value
    broken.save(tmp_path / "p.safetensors", {})
    with pytest.raises(WeightsError, match="not finite"):
        KeyStatePolicy.load(tmp_path / "p.safetensors")


def test_a_policy_that_has_diverged_is_not_blamed_on_the_observations():
    broken = small_policy()
    with torch.no_grad():
        broken.network.tokens[0, 0] = float("nan")
    with pytest.raises(ValueError, match="the policy has diverged: what it commands in these states is not finite"):
        broken.predict(random_states(1).numpy()[0])


def test_others_can_read_a_policy(policy, tmp_path):
    before = os.umask(0o022)
    try:
        policy.save(tmp_path / "p.safetensors", {})
    finally:
        os.umask(before)
    assert (tmp_path / "p.safetensors").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("name", ["key_states", "context", "chunk", "execute", "width", "depth", "heads"])
def test_a_policy_has_at_least_one_of_everything(name):
    with pytest.raises(ValueError, match=f"policy.{name} has to be at least 1, not 0"):
        small_policy(**{name: 0})


def test_a_raw_policy_sees_poses_in_the_world_and_commands_in_no_frame(windows):
    """What it does depends on the network alone: a gripper elsewhere leads to the same offsets, if the network says the same."""
    policy = small_policy(features="raw")
    batch = windows.batch(torch.arange(4), torch.Generator())
    scene = batch.scenes
    raw = raw_features(scene)
    torch.testing.assert_close(raw[..., :3], scene.tcp.position)
    torch.testing.assert_close(raw[..., 27:30], scene.object.position - scene.tcp.position)
    assert policy.input_mean.shape == (raw.shape[-1] + 1,)
    written = torch.randn(4, 8, 7), torch.randn(4, 4, 11)
    here = policy.decode(scene, *written)
    there = policy.decode(replace(scene, tcp=Pose(scene.tcp.position + 0.1, scene.tcp.rotation)), *written)
    torch.testing.assert_close(here, there)
    relative = small_policy()
    moved = replace(scene, tcp=Pose(scene.tcp.position + 0.1, scene.tcp.rotation))
    written = torch.randn(4, 8, 17), torch.randn(4, 4, 21)
    assert (relative.decode(scene, *written)[0] - relative.decode(moved, *written)[0]).abs().max() > 0.01
    with pytest.raises(ValueError, match="features=pixels is unknown; choose one of relative, raw"):
        small_policy(features="pixels")


def test_a_policy_that_commands_joints_sends_their_differences():
    policy = small_policy(features="raw", control_mode="pd_joint_delta_pos")
    observation = random_states(2, seed=4).numpy()
    action, state = policy.predict(observation)
    assert (action.shape, state.commands.shape) == ((2, 8), (2, 8, 8))
    expected = (state.commands[:, 0, :7] - observation[:, :7]) / 0.1
    np.testing.assert_allclose(action[:, :7], np.clip(expected, -1, 1), atol=1e-5)
