"""The two learned networks: features of one side of a sample, and features of a pair."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SideNetwork(nn.Module):
    """Features of one side: samples ``(b, n, d)`` and a summary ``(b, s)`` of the data set to ``(b, n, m)``.

    The same weights serve x and y. The first layer mixes sines and smooth units, so that fine structure is in reach.
    """

    def __init__(self, inputs: int, summary: int, width: int, features: int) -> None:
        super().__init__()
        self.wave = nn.Linear(inputs, width)
        self.ramp = nn.Linear(inputs, width)
        self.condition = nn.Linear(summary, width)
        self.hidden = nn.Linear(2 * width, width)
        self.out = nn.Linear(width, features)
        nn.init.normal_(self.wave.weight, std=1.0)

    def forward(self, samples: Tensor, summary: Tensor) -> Tensor:
        condition = self.condition(summary).unsqueeze(-2)
        first = torch.cat([torch.sin(self.wave(samples)), F.silu(self.ramp(samples) + condition)], dim=-1)
        return self.out(F.silu(self.hidden(first) + condition))


class PairNetwork(nn.Module):
    """Features of pairs from the embeddings of their sides, ``(b, N, width)`` twice, to ``(b, N, m)`` in (-1, 1).

    ``modulation: (b, 2, 2, width)`` holds a scale and a shift for each of the two hidden layers. They are folded into
    what comes before the pairs are formed and into the weights: there are far more pairs than samples.
    """

    def __init__(self, width: int, features: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, width)
        self.out = nn.Linear(width, features)

    def modulate(self, a: Tensor, b: Tensor, modulation: Tensor) -> tuple[Tensor, Tensor]:
        """First modulation, applied to the embeddings of the samples: ``(a + b) scale + shift = a' + b'``."""
        scale, shift = modulation[:, :, 0].unsqueeze(-2).unbind(1)
        return a * (1 + scale), b * (1 + scale) + shift

    def forward(self, a: Tensor, b: Tensor, modulation: Tensor) -> Tensor:
        """Pairs of modulated embeddings to features."""
        scale, shift = modulation[:, :, 1].unbind(1)
        weight = self.hidden.weight.mT * (1 + scale).unsqueeze(-2)
        bias = self.hidden.bias * (1 + scale) + shift
        h = F.silu(a + b)
        h = h + F.silu(torch.baddbmm(bias.unsqueeze(-2), h, weight.to(h.dtype)))
        return torch.tanh(self.out(h))
