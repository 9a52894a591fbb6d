"""Objectives of others: each moves dependence the way it says, on a line that can be turned towards y or away from it."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from infoatlas_rl.baselines.objectives import (
    CLUB,
    HSIC,
    MINE,
    SMILE,
    Adversary,
    Critic,
    DistanceCorrelation,
    InfoNCE,
    Ramped,
    VICReg,
)

RAISE = {"infonce": InfoNCE, "mine": MINE, "smile": SMILE}
LOWER = {
    "adversary": Adversary,
    "club": CLUB,
    "hsic": HSIC,
    "dcor": DistanceCorrelation,
    "mine": lambda: MINE("minimise"),
    "smile": lambda: SMILE("minimise"),
}


def turned(objective, start: float) -> float:
    """|correlation| of w . u with y = u_1, after w was trained from one with correlation ``start``."""
    generator = torch.Generator().manual_seed(0)
    w = torch.tensor([start, math.sqrt(1 - start**2)], requires_grad=True)
    optimizer = torch.optim.Adam([w], 0.02)
    for _ in range(80):
        u = torch.randn(128, 2, generator=generator)
        x = torch.stack([u @ F.normalize(w, dim=0), torch.randn(128, generator=generator)], dim=1)
        y = torch.stack([u[:, 0], torch.randn(128, generator=generator)], dim=1)
        optimizer.zero_grad()
        objective(x, y).backward()
        optimizer.step()
    return abs(float(F.normalize(w.detach(), dim=0)[0]))


# 80 steps of 0.02 can turn w by far more than the half turn between 0.5 and either end; what is left is noise of batches of 128.
@pytest.mark.parametrize("name", RAISE)
def test_objectives_raise_dependence(name):
    assert turned(RAISE[name](), 0.5) > 0.8


@pytest.mark.parametrize("name", LOWER)
def test_penalties_lower_dependence(name):
    assert turned(LOWER[name](), 0.6) < 0.3


def test_vicreg_is_small_for_equal_white_sides_and_punishes_each_fault():
    x = torch.randn(4000, 4, generator=torch.Generator().manual_seed(0)) * 1.05
    good = VICReg()(x, x)
    assert good < 0.2
    for bad in (VICReg()(x, x + 0.3), VICReg()(0.5 * x, 0.5 * x), VICReg()(x[:, :1].expand(-1, 4), x[:, :1].expand(-1, 4))):
        assert bad > good + 1


def test_critics_persist_and_leave_nothing_behind():
    critic = Critic(steps=1)
    objective = Adversary(critic)
    x = torch.randn(64, 3, requires_grad=True)
    before = torch.random.get_rng_state()
    objective(x, x[:, :1].detach()).backward()
    network = critic._network
    assert torch.equal(before, torch.random.get_rng_state())
    assert x.grad is not None
    objective(x, x[:, :1].detach())
    assert critic._network is network
    with pytest.raises(ValueError, match="steps"):
        Critic(steps=0)
    with pytest.raises(ValueError, match="direction"):
        MINE("up")


def test_a_ramp_grows_to_full_strength():
    ramped = Ramped(lambda x, y: torch.tensor(2.0), calls=4)
    assert [float(ramped(None, None)) for _ in range(5)] == [0.5, 1.0, 1.5, 2.0, 2.0]
