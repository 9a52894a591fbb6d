"""Policies without a simulator: poses and symmetries, training samples, network, cloning, files."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from infoatlas_rl.maniskill.states import STATE_DIM, STATE_INDEX
from infoatlas_rl.policies.cloning import Cloning, CloningConfig
from infoatlas_rl.policies.dataset import Displacement, Windows
from infoatlas_rl.policies.network import KeyStateTransformer
from infoatlas_rl.policies.policy import KeyStatePolicy, PolicyConfig
from infoatlas_rl.policies.rollout import wilson
from infoatlas_rl.policies.scene import (
    CUBE,
    PEG,
    Pose,
    Scene,
    features,
    frames,
    quaternion_matrix,
    rotation_matrix,
    rotation_vector,
)
from infoatlas_rl.policies.scene import SYMMETRIES as ALL_SYMMETRIES
from infoatlas_rl.weights import WeightsError


def random_quaternions(count, generator):
    return torch.nn.functional.normalize(torch.randn(count, 4, generator=generator), dim=-1)


def random_states(count, seed=0):
    """States whose poses, sizes and relations fit together; the rest is zero."""
    g = torch.Generator().manual_seed(seed)
    states = torch.zeros(count, STATE_DIM)
    down = torch.tensor([0.0, 1.0, 0.0, 0.0])
    for name, around in (("tcp", down), ("object", None), ("target", None)):
        states[:, STATE_INDEX[f"{name}_position"]] = 0.2 * torch.randn(count, 3, generator=g)
        noise = random_quaternions(count, g)
        pose = torch.nn.functional.normalize(around + 0.1 * noise, dim=-1) if around is not None else noise
        states[:, STATE_INDEX[f"{name}_quaternion"]] = pose
    half = torch.rand(count, 3, generator=g) * 0.05 + 0.02
    states[:, STATE_INDEX["object_half_size"]] = half
    rotation = quaternion_matrix(states[:, STATE_INDEX["object_quaternion"]])
    tip = states[:, STATE_INDEX["object_position"]] + rotation[:, :, 0] * half[:, :1]
    states[:, STATE_INDEX["tip_to_target"]] = states[:, STATE_INDEX["target_position"]] - tip
    states[:, STATE_INDEX["gripper_width"]] = 0.08 * torch.rand(count, 1, generator=g)
    return states


def turned_object(scene, rotation):
    """The same object, described by another of its frames; its tip stays where it is."""
    return replace(scene, object=Pose(scene.object.position, scene.object.rotation @ rotation), tip=scene.tip @ rotation)


def test_rotation_vectors_and_matrices_are_inverse():
    vectors = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    vectors = vectors / vectors.norm(dim=-1, keepdim=True) * torch.linspace(0, 3.0, 200)[:, None]
    matrices = rotation_matrix(vectors)
    torch.testing.assert_close(matrices @ matrices.mT, torch.eye(3).expand(200, 3, 3), atol=1e-5, rtol=0)
    # near pi the sine is small and float32 leaves 1e-3
    torch.testing.assert_close(rotation_vector(matrices), vectors, atol=1e-3, rtol=0)


def test_offsets_lead_from_one_pose_to_the_other():
    scenes = Scene.from_states(random_states(50))
    reached = scenes.tcp.offset_by(scenes.object.offset_from(scenes.tcp))
    torch.testing.assert_close(reached.position, scenes.object.position)
    torch.testing.assert_close(reached.rotation, scenes.object.rotation, atol=1e-3, rtol=0)


@pytest.mark.parametrize(("symmetry", "size"), [(CUBE, 24), (PEG, 4)])
def test_features_and_frames_do_not_change_when_an_object_is_turned_to_look_the_same(symmetry, size):
    scene = Scene.from_states(random_states(40))
    if symmetry is CUBE:  # a cube's tip is its centre
        scene = replace(scene, tip=torch.zeros_like(scene.tip))
    assert len(symmetry.rotations) == size
    expected, near = features(scene, symmetry), frames(scene, symmetry)
    for rotation in symmetry.rotations:
        turned = turned_object(scene, rotation)
        torch.testing.assert_close(features(turned, symmetry), expected, atol=2e-3, rtol=0)
        torch.testing.assert_close(frames(turned, symmetry).offsets, near.offsets, atol=2e-3, rtol=0)


def test_a_peg_that_is_turned_around_looks_different():
    scene = Scene.from_states(random_states(40))
    backwards = torch.diag(torch.tensor([-1.0, -1.0, 1.0]))
    assert (features(turned_object(scene, backwards), PEG) - features(scene, PEG)).abs().amax(-1).min() > 0.05


def test_the_target_frame_is_where_the_gripper_has_to_go():
    """Moving the gripper there, with the object held, brings the tip to the target and aligns it."""
    scene = Scene.from_states(random_states(40))
    offset = frames(scene, PEG).offsets[:, 1]
    arrived = scene.displaced(offset, torch.ones(40, 1, dtype=torch.bool))
    tip = arrived.object.position + (arrived.object.rotation @ scene.tip.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(tip, scene.target.position, atol=1e-4, rtol=0)
    # up to a symmetry of the peg, whose x axis is unique
    torch.testing.assert_close(arrived.object.rotation[:, :, 0], scene.target.rotation[:, :, 0], atol=1e-3, rtol=0)


# --- samples ----------------------------------------------------------------------------------------------------------


def fake_demos(count=6, length=40, task="PickCube", control_mode="pd_joint_pos"):
    """Demonstrations of random smooth joint motion; the object is held in the second half."""
    generator = np.random.default_rng(0)
    demos = []
    for seed in range(count):
        steps = length + seed
        joints = np.array([0, 0.4, 0, -2.0, 0, 2.4, 0.8]) + 0.2 * generator.normal(size=7) * np.linspace(0, 1, steps + 1)[:, None]
        robot = np.zeros((steps + 1, 31), np.float32)
        robot[:, 0], robot[:, 3], robot[:, 13:20] = -0.615, 1, joints
        states = random_states(steps + 1, seed).numpy().astype(np.float64)
        states[:, STATE_INDEX["gripper_width"]] = np.where(np.arange(steps + 1) < steps // 2, 0.08, 0.04)[:, None]
        # at the gripper from the middle on
        held = np.arange(steps + 1) >= steps // 2
        states[held, STATE_INDEX["object_position"]] = states[held, STATE_INDEX["tcp_position"]]
        states[:, STATE_INDEX["tcp_to_object"]] = (
            states[:, STATE_INDEX["object_position"]] - states[:, STATE_INDEX["tcp_position"]]
        )
        gripper = np.where(np.arange(steps) < steps // 2, 1.0, -1.0)[:, None]
        actions = np.concatenate([joints[1:], gripper], 1).astype(np.float32)
        demos.append(
            SimpleNamespace(states=states, actions=actions, env_states={"articulations": {"panda_wristcam": robot}}, seed=seed)
        )

    class Demos(list):
        pass

    out = Demos(demos)
    out.control_mode, out.path = control_mode, "demos.h5"
    out.task = SimpleNamespace(name=task)
    return out


def keys_of(demos, count=4):
    return np.stack([np.linspace(5, len(demo.states) - 1, count).astype(np.int64) for demo in demos])


@pytest.fixture(scope="module")
def windows():
    demos = fake_demos()
    return Windows(demos, keys_of(demos), context=4, chunk=8)


def test_windows_stay_inside_their_demonstration(windows):
    g = torch.Generator().manual_seed(0)
    batch = windows.batch(torch.arange(len(windows)), g)
    lengths = [40 + seed for seed in range(6)]
    assert len(windows) == sum(lengths)
    start = 0
    for length in lengths:
        for step in (0, 1, length - 1):
            row, past = start + step, [start + max(0, step - back) for back in (3, 2, 1, 0)]
            torch.testing.assert_close(batch.scenes.tcp.position[row], windows.scenes.tcp.position[past])
            last = windows.commands.position[min(start + step + 7, start + length - 1)]
            torch.testing.assert_close(batch.commands[row, -1, :3], last - windows.scenes.tcp.position[row])
        assert batch.gripper[start].tolist() == [[1.0]] * 4  # open before the first step
        start += length
    assert batch.keys[0, :, 10].tolist() == [0, 0, 0, 0]
    assert batch.keys[39, :, 10].tolist() == [1, 1, 1, 0]


def test_displaced_samples_command_the_same_poses_in_the_world(windows):
    now = torch.nonzero(~windows.held)[:, 0]
    plain = windows.batch(now, torch.Generator().manual_seed(0))
    moved = windows.batch(now, torch.Generator().manual_seed(0), Displacement(share=1.0))
    reached = moved.scenes.tcp[:, -1:].offset_by(moved.commands)
    expected = plain.scenes.tcp[:, -1:].offset_by(plain.commands)
    torch.testing.assert_close(reached.position, expected.position, atol=1e-5, rtol=0)
    torch.testing.assert_close(reached.rotation, expected.rotation, atol=1e-3, rtol=0)
    assert (moved.scenes.tcp.position - plain.scenes.tcp.position).norm(dim=-1).max() > 0.01
    torch.testing.assert_close(moved.scenes.object.position, plain.scenes.object.position)


def test_a_slipped_object_is_brought_to_where_it_would_have_come(windows):
    now = torch.nonzero(windows.held)[:, 0]
    assert len(now) > 50
    plain = windows.batch(now, torch.Generator().manual_seed(0))
    moved = windows.batch(now, torch.Generator().manual_seed(0), Displacement(share=1.0, slip=0.01, slip_turn=0.1))

    def arrivals(batch):
        tcp = batch.scenes.tcp[:, -1:]
        return tcp.offset_by(batch.commands) @ (tcp.inverse() @ batch.scenes.object[:, -1:])

    torch.testing.assert_close(arrivals(moved).position, arrivals(plain).position, atol=1e-5, rtol=0)
    torch.testing.assert_close(arrivals(moved).rotation, arrivals(plain).rotation, atol=1e-3, rtol=0)
    grip = [(b.scenes.tcp.inverse() @ b.scenes.object).position[:, -1] for b in (plain, moved)]
    assert (grip[0] - grip[1]).norm(dim=-1).max() > 3e-3


def test_other_control_modes_are_refused():
    demos = fake_demos(control_mode="pd_ee_delta_pose")
    with pytest.raises(ValueError, match=r"pd_ee_delta_pose.*has to be 'pd_joint_pos'.*collect_demos.py env=PickCube"):
        Windows(demos, keys_of(demos), 4, 8)


# --- network ----------------------------------------------------------------------------------------------------------


def test_key_states_do_not_depend_on_the_action_token_and_actions_depend_on_key_tokens():
    torch.manual_seed(0)
    network = KeyStateTransformer(
        10, context=3, key_states=2, key_size=5, chunk=4, command_size=7, width=32, depth=2, heads=2
    ).eval()
    steps = torch.randn(2, 3, 10)
    action, keys = network(steps)
    assert action.shape == (2, 4, 7)
    assert keys.shape == (2, 2, 5)
    with torch.no_grad():
        network.tokens[-1] += torch.randn(32)
    other_action, same_keys = network(steps)
    torch.testing.assert_close(same_keys, keys)
    assert (other_action - action).abs().max() > 1e-3
    with torch.no_grad():
        network.tokens[0] += torch.randn(32)
    assert (network(steps)[0] - other_action).abs().max() > 1e-3


# --- cloning ----------------------------------------------------------------------------------------------------------

SMALL = {"task": "PickCube", "key_states": 4, "context": 4, "chunk": 8, "execute": 4, "width": 32, "depth": 1, "heads": 2}
CONFIG = CloningConfig(steps=60, batch_size=32)


def small_policy(seed=0, **changes):
    torch.manual_seed(seed)
    return KeyStatePolicy(PolicyConfig(**(SMALL | changes)))


def losses(cloning, path, **options):
    return [figures["loss"] for figures in cloning.fit(path, every=10, **options)]


def test_an_interrupted_training_resumes_to_the_same_losses(windows, tmp_path):
    whole = losses(Cloning(small_policy(), windows, CONFIG), tmp_path / "whole.pt")
    assert whole[-1] < 0.95 * whole[0]  # 60 steps, on random motion
    first = Cloning(small_policy(), windows, CONFIG)
    halves = []
    for figures in first.fit(tmp_path / "half.pt", every=10):
        halves.append(figures["loss"])
        if first.step == 30:
            break
    second = Cloning(small_policy(seed=5), windows, CONFIG)
    second.load(tmp_path / "half.pt")
    assert second.step == 30
    assert halves + losses(second, tmp_path / "half.pt") == whole


def test_a_checkpoint_of_another_run_is_refused(windows, tmp_path):
    cloning = Cloning(small_policy(), windows, CONFIG)
    cloning.save(tmp_path / "a.pt")
    other = Cloning(small_policy(), windows, replace(CONFIG, batch_size=16))
    with pytest.raises(ValueError, match=r"batch_size: 32 there, 16 here.*resume=false"):
        other.load(tmp_path / "a.pt")
    (tmp_path / "a.pt").write_bytes(b"no checkpoint")
    with pytest.raises(ValueError, match="not a checkpoint"):
        cloning.load(tmp_path / "a.pt")


def test_without_key_states_their_head_gets_no_gradient(windows, tmp_path):
    policy = small_policy()
    before = policy.network.key_head.weight.clone()
    cloning = Cloning(policy, windows, replace(CONFIG, key_weight=0.0, weight_decay=0.0, steps=3))
    losses(cloning, tmp_path / "none.pt")
    assert torch.equal(policy.network.key_head.weight, before)
    assert not torch.equal(policy.network.tokens, small_policy().network.tokens)


# --- acting and files -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def policy(windows):
    cloning = Cloning(small_policy(), windows, CONFIG)
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
        ({"control_mode": "pd_joint_delta_pos"}, "'pd_joint_delta_pos', this version of the code 'pd_ee_delta_pose'"),
        ({"state_layout": "48-D abc"}, "'48-D abc', this version of the code '100-D "),
        ({"key_states": 0}, "at least 1"),
        ({"heads": 3}, "width=32 has to be a multiple of heads=3"),
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


def test_every_task_has_a_symmetry():
    from infoatlas_rl.maniskill.tasks import TASKS

    assert set(ALL_SYMMETRIES) == set(TASKS)


@pytest.mark.parametrize(("k", "n", "low", "high"), [(0, 10, 0.0, 0.2775), (95, 100, 0.8882, 0.9785), (10, 10, 0.7225, 1.0)])
def test_wilson_intervals(k, n, low, high):
    """Reference values of statsmodels.stats.proportion.proportion_confint(method="wilson")."""
    assert wilson(k, n) == pytest.approx((low, high), abs=1e-4)
