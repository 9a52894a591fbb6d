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

    ``modulation: (b, 2, 2, width)`` holds a scale and a shift for each of the two hidden layers.
    """

    def __init__(self, width: int, features: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, width)
        self.out = nn.Linear(width, features)

    def forward(self, a: Tensor, b: Tensor, modulation: Tensor) -> Tensor:
        scale, shift = modulation.unsqueeze(-2).unbind(1)  # (b, layers, 1, width)
        h = F.silu((a + b) * (1 + scale[:, 0]) + shift[:, 0])
        h = h + F.silu(self.hidden(h) * (1 + scale[:, 1]) + shift[:, 1])
        return torch.tanh(self.out(h))
