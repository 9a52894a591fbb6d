"""KNIFE: mutual information from two differential entropies with learned kernels (Pichler et al., ICML 2022), in nats.

``I(x; y) = h(y) - h(y | x)``, each entropy bounded from above by a mixture of Gaussian kernels with learned weights, means and
scales; given x they are outputs of a network. Kernels are diagonal here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class KNIFETraining:
    """Size and training of the two densities."""

    steps: int = 1000
    """Of Adam."""
    batch_size: int = 100
    """Samples of a step, drawn with replacement."""
    kernels: int = 32
    """Of either density."""
    width: int = 100
    """Of the two hidden layers from x to the kernels."""
    learning_rate: float = 3e-3


class KernelDensities(nn.Module):
    """log p(y) and log p(y | x).

    Args:
        y: ``(n, dy)``, standardised; some of them are the first means of the kernels.
    """

    def __init__(self, dx: int, y: Tensor, training: KNIFETraining, generator: torch.Generator) -> None:
        super().__init__()
        kernels, width, dy = training.kernels, training.width, y.shape[1]
        self.kernels = kernels
        start = y[torch.randint(len(y), (kernels,), generator=generator)]
        self.margin = nn.Parameter(torch.cat([torch.zeros(kernels, 1), start, torch.full_like(start, -0.5)], dim=1))
        self.network = nn.Sequential(
            nn.Linear(dx, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, kernels * (1 + 2 * dy))
        )
        for layer in self.network[::2]:
            bound = 1 / math.sqrt(layer.in_features)
            layer.weight.data = (2 * torch.rand(layer.weight.shape, generator=generator) - 1) * bound
            layer.bias.data.zero_()
        # With small weights the network starts from the kernels of the margin.
        self.network[-1].weight.data *= 0.1
        self.network[-1].bias.data = self.margin.data.flatten().clone()

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Log densities ``(n,)`` of the margin and given x, of ``(n, dx), (n, dy)``."""
        given = self.network(x).unflatten(-1, (self.kernels, -1))
        return _log_mixture(y, self.margin.expand(len(y), -1, -1)), _log_mixture(y, given)


def _log_mixture(y: Tensor, kernels: Tensor) -> Tensor:
    """``(n, kernels, 1 + 2 dy)``: logits of the weights, means, log scales."""
    logits, mean, log_scale = kernels.split([1, y.shape[1], y.shape[1]], dim=-1)
    log_scale = log_scale.clamp(-6, 6)
    z = (y.unsqueeze(1) - mean) * (-log_scale).exp()
    log_kernel = (-0.5 * z.square() - log_scale - 0.5 * math.log(2 * math.pi)).sum(-1)
    return (logits.squeeze(-1).log_softmax(-1) + log_kernel).logsumexp(-1)


def train_densities(
    x: Tensor,
    y: Tensor,
    training: KNIFETraining,
    generator: torch.Generator,
    after: Callable[[int, KernelDensities], None] | None = None,
) -> KernelDensities:
    """Both densities by maximum likelihood, of ``(n, dx), (n, dy)``; ``after`` is called with the number of steps done."""
    densities = KernelDensities(x.shape[1], y, training, generator)
    optimizer = torch.optim.Adam(densities.parameters(), lr=training.learning_rate)
    for step in range(training.steps):
        rows = torch.randint(len(x), (min(training.batch_size, len(x)),), generator=generator)
        margin, given = densities(x[rows], y[rows])
        optimizer.zero_grad(set_to_none=True)
        (-(margin + given).mean()).backward()
        optimizer.step()
        if after is not None:
            after(step + 1, densities)
    return densities.requires_grad_(False)
