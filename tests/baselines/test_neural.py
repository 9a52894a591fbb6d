"""MINE and InfoNet: estimators to compare with, that really estimate."""

import math

import pytest
import torch

from infoatlas_rl.baselines import InfoNetLoss, MINELoss
from infoatlas_rl.baselines.infonet import InfoNet, InfoNetConfig, look_up, uniform_scores
from infoatlas_rl.pretraining.infonet import InfoNetTraining, train_step
from infoatlas_rl.weights import WeightsError
from tests.conftest import correlated


def gaussian_mi(rho: float) -> float:
    return -0.5 * math.log(1 - rho**2)


def test_infonet_estimates_gaussian_mi():
    for rho in (0.0, 0.5, 0.8, 0.95):
        x, y = correlated(1000, [rho], batch=16)
        # 16 data sets: the mean has a standard error of about 0.015 at the largest MI, and the network a bias of about 0.03.
        assert float(InfoNetLoss(slices=1).mi(x, y).mean()) == pytest.approx(gaussian_mi(rho), abs=0.08)


def test_infonet_tells_before_from_after():
    label = (torch.arange(400) >= 200).float()[:, None]
    loss = InfoNetLoss(slices=50, sides="y")
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(400, 3, generator=generator)
    assert float(loss.mi(label, noise + 3 * label)) > 0.15 + float(loss.mi(label, noise))


def test_mine_estimates_what_it_is_given_time_for():
    x, y = correlated(1000, [0.8], batch=2)
    short, long = (float(MINELoss(steps, batch_size=300).mi(x, y).mean()) for steps in (20, 600))
    # A lower bound trained on 1000 samples: near the truth after 600 steps, far below after 20.
    assert short < 0.5 * gaussian_mi(0.8)
    assert long == pytest.approx(gaussian_mi(0.8), abs=0.15)


@pytest.mark.parametrize("loss", [MINELoss(200), InfoNetLoss(slices=8)], ids=["mine", "infonet"])
def test_gradients_raise_the_information(loss):
    x, y = correlated(300, [0.6, 0.6])
    mix = torch.zeros((), requires_grad=True)
    value = loss(x, y + mix * x)
    value.backward()
    # More of x in y: the negative MI falls.
    assert float(mix.grad) < 0
    assert value.ndim == 0
    assert loss.state_dict() == {}
    assert list(loss.parameters()) == []


@pytest.mark.parametrize("loss", [MINELoss(30), InfoNetLoss(slices=4)], ids=["mine", "infonet"])
def test_a_seed_gives_the_same_value(loss):
    x, y = correlated(100, [0.5, 0.5])
    values = []
    for seed in (1, 1, 2):
        loss.reseed(seed)
        values.append(float(loss.mi(x, y)))
    assert values[0] == values[1] != values[2]


def test_wrong_arguments_are_refused(tmp_path):
    with pytest.raises(ValueError, match="steps has to be at least 1"):
        MINELoss(0)
    with pytest.raises(ValueError, match="sides has to be both or y"):
        InfoNetLoss(sides="x")
    with pytest.raises(ValueError, match="InfoNet reads pairs of scalars"):
        InfoNetLoss(sides="y").mi(*correlated(50, [0.5, 0.5]))
    with pytest.raises(WeightsError, match=r"pretrain_infonet\.py makes one"):
        InfoNetLoss(weights=tmp_path / "none.safetensors")


def test_uniform_scores_are_ranks_and_break_ties():
    generator = torch.Generator().manual_seed(0)
    scores = uniform_scores(torch.tensor([[3.0, 1.0, 2.0, 2.0]]), generator)
    assert scores[0, [1, 0]].tolist() == [-0.75, 0.75]
    assert sorted(scores[0, 2:].tolist()) == [-0.25, 0.25]


def test_look_up_is_bilinear():
    axis = torch.linspace(-1, 1, 5)
    table = (2 * axis[None, :] + 3 * axis[:, None]).unsqueeze(0)  # rows are y
    x, y = torch.tensor([[0.13, -0.6]]), torch.tensor([[0.4, 0.9]])
    torch.testing.assert_close(look_up(table, x, y), 2 * x + 3 * y)


def test_infonet_learns():
    torch.manual_seed(0)
    model = InfoNet(InfoNetConfig(table=12, width=16, queries=6, layers=1))
    config = InfoNetTraining(steps=250, batch=16, max_samples=256, max_components=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    bounds = [train_step(model, optimizer, config, step)["mi"] for step in range(config.steps)]
    # The bound on fresh samples of Gaussians whose mean MI is about 0.4 nats; without a dependence learned it is 0.
    assert sum(bounds[-30:]) / 30 > 0.02 > sum(bounds[:30]) / 30
