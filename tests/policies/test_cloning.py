"""Network and cloning: what sees what, checkpoints, and options that are refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from infoatlas_rl.policies.cloning import Cloning, CloningConfig
from infoatlas_rl.policies.dataset import Displacement
from infoatlas_rl.policies.network import KeyStateTransformer
from tests.conftest import small_policy

CONFIG = CloningConfig(steps=60, batch_size=32)


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


@pytest.mark.parametrize(
    ("schema", "option", "message"),
    [
        (CloningConfig, {"steps": 0}, "training.steps has to be at least 1, not 0"),
        (CloningConfig, {"learning_rate": float("nan")}, "training.learning_rate has to be positive and finite, not nan"),
        (CloningConfig, {"learning_rate": float("inf")}, "training.learning_rate has to be positive and finite, not inf"),
        (CloningConfig, {"key_weight": float("nan")}, "training.key_weight has to be 0 or more and finite, not nan"),
        (CloningConfig, {"gripper_weight": -1.0}, "training.gripper_weight has to be 0 or more and finite, not -1"),
        (CloningConfig, {"weight_decay": -0.1}, "training.weight_decay has to be 0 or more and finite, not -0.1"),
        (CloningConfig, {"averaging": 1.0}, r"training.averaging has to be in \[0, 1\), not 1"),
        (Displacement, {"share": 2}, r"training.displacement.share has to be in \[0, 1\], not 2"),
        (Displacement, {"move": -0.1}, "training.displacement.move has to be 0 or more and finite, not -0.1"),
    ],
)
def test_options_that_cannot_be_trained_with_are_refused(schema, option, message):
    with pytest.raises(ValueError, match=message):
        schema(**option)
