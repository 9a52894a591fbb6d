"""Training of the MIST baseline: quantile regression of the true mutual information of problems of the atlas."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from infoatlas_rl.baselines.mist import MISTNetwork
from infoatlas_rl.checks import check_numbers
from infoatlas_rl.estimator.calibration import pinball_loss
from infoatlas_rl.pretraining.atlas import AtlasConfig, sample_problems, sample_sizes

LEVELS = 8
"""Random levels at which the quantiles of a data set are asked for in a step."""


@dataclass(frozen=True)
class MISTTraining:
    """Optimisation on the atlas that the estimator and its head are trained on."""

    steps: int = 26_000
    entries: int = 10_000
    """Of all data sets of a step, which are of one size: as many data sets as have so many numbers, 4 to 48."""
    min_samples: int = 32
    max_samples: int = 1000
    max_dim: int = 10
    learning_rate: float = 2e-3
    seed: int = 0

    def __post_init__(self) -> None:
        check_numbers(self, or_zero=("seed",))


def pinball(predicted: Tensor, truth: Tensor, levels: Tensor) -> Tensor:
    """Mean quantile loss of ``(b, q)`` against ``(b,)``, on the scale log(1 + nats), which quantiles do not depend on."""
    return pinball_loss(predicted.log1p(), truth.log1p(), levels=levels)


def train_step(model: MISTNetwork, optimizer: torch.optim.Optimizer, config: MISTTraining, step: int) -> dict[str, float]:
    """One step on a batch of problems of one random size."""
    generator = torch.Generator().manual_seed(config.seed * 1_000_003 + step)
    atlas = AtlasConfig(
        max_dim=config.max_dim, min_samples=config.min_samples, max_samples=config.max_samples, query=1, elliptical=0.15
    )
    n, dx, dy = sample_sizes(atlas, generator)
    batch = min(max(config.entries // (n * (dx + dy)), 4), 48)
    problems = sample_problems(batch, n, dx, dy, atlas, generator)
    levels = torch.rand(batch, LEVELS, generator=generator).clamp(0.01, 0.99)
    loss = pinball(model(problems.x, problems.y, levels), problems.mi.clamp(min=0), levels)
    cosine = 0.51 + 0.49 * math.cos(math.pi * step / config.steps)
    for group in optimizer.param_groups:
        group["lr"] = config.learning_rate * min(1.0, (step + 1) / 300) * cosine
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return {"pinball": float(loss.detach())}
