"""MIST: what its architecture promises, its training, and its file."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from infoatlas_rl.baselines.estimators import MIST
from infoatlas_rl.baselines.mist import MISTConfig, MISTNetwork, load_mist, write_mist
from infoatlas_rl.pretraining.mist import MISTTraining, pinball, train_step
from infoatlas_rl.weights import WeightsError, weights_hash

SMALL = MISTConfig(width=16, blocks=1, inducing=4)
LEVELS = torch.tensor([[0.05, 0.5, 0.95]])


def samples(seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(1, 60, 3, generator=g), torch.randn(1, 60, 2, generator=g)


def test_neither_the_order_of_rows_nor_of_columns_of_a_side_matters():
    torch.manual_seed(0)
    network = MISTNetwork(SMALL)
    x, y = samples()
    rows = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    expected = network(x, y, LEVELS)
    assert expected.shape == (1, 3)
    assert (expected >= 0).all()
    torch.testing.assert_close(network(x[:, rows], y[:, rows], LEVELS), expected)
    torch.testing.assert_close(network(x[..., [2, 0, 1]], y[..., [1, 0]], LEVELS), expected)
    # The pairing of the rows does, and so does the side of a column.
    assert not torch.allclose(network(x[:, rows], y, LEVELS), expected)
    assert not torch.allclose(network(torch.cat([x, y[..., :1]], -1), y[..., 1:], LEVELS), expected)


def test_the_pinball_loss_asks_for_quantiles():
    truth = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0])
    level = torch.full((5, 1), 0.8)
    losses = [float(pinball(torch.full((5, 1), guess), truth, level)) for guess in (2.5, 3.5, 4.5)]
    assert min(losses) == losses[1]  # four of five lie below
    assert float(pinball(truth[:, None], truth, level)) == 0


def test_training_lowers_the_loss_on_problems_it_has_not_seen():
    torch.manual_seed(0)
    network, config = MISTNetwork(SMALL), MISTTraining(steps=40, entries=2000, max_samples=64, max_dim=2, learning_rate=3e-2)

    def loss(steps):
        still, frozen = copy.deepcopy(network), replace(config, learning_rate=1e-12)
        optimizer = torch.optim.SGD(still.parameters())
        return sum(train_step(still, optimizer, frozen, step)["pinball"] for step in steps)

    before, optimizer = loss(range(1000, 1020)), torch.optim.AdamW(network.parameters())
    for step in range(40):
        train_step(network, optimizer, config, step)
    assert loss(range(1000, 1020)) < 0.9 * before


def test_a_file_holds_the_network(tmp_path):
    torch.manual_seed(0)
    network, path = MISTNetwork(SMALL), tmp_path / "mist.safetensors"
    write_mist(path, network, {"hours": 0.0})
    loaded = load_mist(path)
    torch.testing.assert_close(loaded(*samples(), LEVELS), network(*samples(), LEVELS))
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    with pytest.raises(WeightsError, match=r"no such file; tasks/pretrain_mist\.py makes one"):
        load_mist(tmp_path / "other.safetensors")


def test_the_released_network_reads_a_gaussian():
    """In development 0.43 for 0.41 and 0.03 for 0; its intervals are wide, so 0.1 nats is what tells the two apart."""
    generator = np.random.default_rng(0)
    x, noise = generator.normal(size=(2, 1000, 1))
    mist = MIST()
    low, middle, high = mist.quantiles(x, 0.75 * x + (1 - 0.75**2) ** 0.5 * noise)
    assert abs(middle - 0.413) < 0.1
    assert low < 0.413 < high
    assert mist(x, noise) < 0.1


def test_weights_that_are_not_released_are_named():
    with pytest.raises(WeightsError, match=r"no released weights 'mits'; there are mist, or give a path"):
        MIST("mits")
    with pytest.raises(WeightsError, match=r"no released weights 'bsae'; there are base, "):
        weights_hash("bsae")
