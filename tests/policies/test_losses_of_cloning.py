"""The losses of cloning, compared with values computed by hand."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from infoatlas_rl.policies.cloning import Cloning
from infoatlas_rl.policies.dataset import Batch


class Written(torch.nn.Module):
    """A network that writes the same whatever it reads."""

    def __init__(self, commands, keys):
        super().__init__()
        self.commands, self.keys = torch.nn.Parameter(commands), torch.nn.Parameter(keys)

    def forward(self, steps):
        return self.commands, self.keys


def losses(error_of_past=0.0, error_ahead=0.0):
    """Of one sample with two commands and two key states, of which the first one is past; and the network, for its gradients."""
    policy = SimpleNamespace(
        inputs=lambda scenes, gripper: torch.zeros(1),
        decode=lambda scenes, commands, keys: (commands, keys),
        command_scale=torch.full((2, 6), 0.5),
        key_scale=torch.tensor([2.0] * 10 + [1.0]),
    )
    true_keys = torch.zeros(1, 2, 11)
    true_keys[0, 0, 10] = 1.0
    keys = torch.zeros(1, 2, 11)
    keys[0, 0, 3], keys[0, 1, 3] = error_of_past, error_ahead
    commands = torch.zeros(1, 2, 7)
    commands[0, 1, 0], commands[0, 0, 6] = 0.3, 1.0
    batch = Batch(None, None, commands=torch.zeros(1, 2, 6), closing=torch.tensor([[1.0, 0.0]]), keys=true_keys)
    network = Written(commands, keys)
    return Cloning.losses(SimpleNamespace(policy=policy), network, batch), network


def test_losses_are_absolute_errors_in_units_of_the_spread_and_cross_entropies():
    found, _ = losses(error_ahead=0.8)
    assert found["commands"].item() == pytest.approx(0.3 / 0.5 / 12)
    assert found["key_states"].item() == pytest.approx(0.8 / 2 / 20)
    assert found["gripper"].item() == pytest.approx((math.log(1 + math.exp(-1)) + math.log(2)) / 2)
    assert found["past"].item() == pytest.approx(math.log(2))


def test_where_key_states_were_that_are_past_does_not_count():
    assert losses(error_of_past=100.0)[0]["key_states"].item() == 0
    found, network = losses(error_of_past=100.0, error_ahead=0.8)
    assert found["key_states"].item() == pytest.approx(0.8 / 2 / 20)
    found["key_states"].backward()
    assert network.keys.grad[0, 0].abs().max() == 0
    assert network.keys.grad[0, 1, 3] == pytest.approx(1 / 2 / 20)
