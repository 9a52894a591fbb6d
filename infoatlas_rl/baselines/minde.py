"""MINDE: mutual information from two denoisers of a diffusion (Franzese, Bounoua & Michiardi, ICLR 2024), in nats.

One network removes noise from y, with x at hand and without. The Kullback-Leibler divergence of p(y | x) and p(y), averaged over
x, is the integral over all noise levels of how far the two answers are apart (their "MINDE-c")::

    I(x; y) = 1/2 int E |e(y_l, x) - e(y_l)|^2 dl        y_l = sigmoid(l)^(1/2) y + sigmoid(-l)^(1/2) e

with l the logarithm of the ratio of signal to noise, over which their importance sampling of times is uniform.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVELS = -8.0, 9.0
"""Log ratios of signal to noise: from noise alone to as little of it as their smallest time has."""
FREQUENCIES = 16


@dataclass(frozen=True)
class MINDETraining:
    """Size and training of the denoiser."""

    steps: int = 1000
    """Of Adam."""
    batch_size: int = 128
    """Samples of a step, drawn with replacement."""
    width: int = 128
    """Of the three hidden layers."""
    learning_rate: float = 5e-3


class Denoiser(nn.Module):
    """Noise ``(n, dy)`` of a noisy y, given x or, where ``known`` is 0, not."""

    def __init__(self, dx: int, dy: int, training: MINDETraining, generator: torch.Generator) -> None:
        super().__init__()
        sizes = [dx + dy + 1 + 2 * FREQUENCIES, training.width, training.width, training.width, dy]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        for layer in self.layers:
            bound = 1 / math.sqrt(layer.in_features)
            layer.weight.data = (2 * torch.rand(layer.weight.shape, generator=generator) - 1) * bound
            layer.bias.data.zero_()
        self.register_buffer("frequencies", torch.logspace(-1.5, 0.5, FREQUENCIES))

    def forward(self, noisy: Tensor, x: Tensor, known: Tensor, level: Tensor) -> Tensor:
        """``(n, dy)``, ``(n, dx)``, ``(n, 1)`` of zeros and ones, ``(n, 1)``."""
        phases = level * self.frequencies
        h = torch.cat([noisy, x * known, known, phases.sin(), phases.cos()], dim=1)
        for layer in self.layers[:-1]:
            h = F.silu(layer(h))
        return self.layers[-1](h)


class Noisy:
    """y with noise of random levels, one for each row."""

    def __init__(self, y: Tensor, generator: torch.Generator) -> None:
        n = len(y)
        # Stratified, so that a batch has all levels.
        share = (torch.arange(n) + torch.rand(n, generator=generator)) / n
        low, high = LEVELS
        self.level = (low + (high - low) * share[torch.randperm(n, generator=generator)]).unsqueeze(1)
        self.noise = torch.randn(y.shape, generator=generator)
        self.y = torch.sigmoid(self.level).sqrt() * y + torch.sigmoid(-self.level).sqrt() * self.noise


def denoising_error(denoiser: Denoiser, x: Tensor, noisy: Noisy) -> Tensor:
    """What training makes small, of both: with x and without."""
    answers = (denoiser(noisy.y, x, torch.full_like(noisy.level, known), noisy.level) for known in (0.0, 1.0))
    return sum(F.mse_loss(answer, noisy.noise) for answer in answers) / 2


def information(denoiser: Denoiser, x: Tensor, y: Tensor, generator: torch.Generator, draws: int = 20) -> Tensor:
    """The estimate of ``(n, dx), (n, dy)``, over ``draws`` levels and noises of each sample."""
    total = torch.zeros(())
    for _ in range(draws):
        noisy = Noisy(y, generator)
        without, given = (denoiser(noisy.y, x, torch.full_like(noisy.level, known), noisy.level) for known in (0.0, 1.0))
        total = total + (given - without).square().sum(1).mean() / draws
    return (LEVELS[1] - LEVELS[0]) / 2 * total


def train_denoiser(
    x: Tensor,
    y: Tensor,
    training: MINDETraining,
    generator: torch.Generator,
    after: Callable[[int, Denoiser], None] | None = None,
) -> Denoiser:
    """The denoiser of ``(n, dx), (n, dy)``, standardised; ``after`` is called with the number of steps done."""
    denoiser = Denoiser(x.shape[1], y.shape[1], training, generator)
    optimizer = torch.optim.Adam(denoiser.parameters(), lr=training.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, training.steps)
    for step in range(training.steps):
        rows = torch.randint(len(x), (training.batch_size,), generator=generator)
        noisy = Noisy(y[rows], generator)
        optimizer.zero_grad(set_to_none=True)
        denoising_error(denoiser, x[rows], noisy).backward()
        optimizer.step()
        schedule.step()
        if after is not None:
            after(step + 1, denoiser)
    return denoiser.requires_grad_(False)
