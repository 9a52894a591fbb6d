"""The two learned networks of the critic: features of one side of a sample, and features of a pair."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def feature_count(n: int, most: int) -> int:
    """How many of ``most`` features n samples can carry: a quarter up to 100 samples, growing with sqrt(n), all from 1600.

    Features are ordered, and the first ones are used: the critic of a small data set is small, and cheap.
    """
    step = max(most // 16, 1)
    return min(most, max(most // 4, step * round(most / 4 * math.sqrt(n / 100) / step)))


class SideNetwork(nn.Module):
    """Features of one side: samples ``(b, n, d)`` and a summary ``(b, s)`` of the data set to ``(b, n, count)``.

    The same weights serve x and y. The first layer mixes sines and smooth units, so that fine structure is in reach; the
    summary sets the frequencies of the sines.
    """

    def __init__(self, inputs: int, summary: int, width: int, features: int) -> None:
        super().__init__()
        self.wave = nn.Linear(inputs, width)
        self.ramp = nn.Linear(inputs, width)
        self.frequency = nn.Linear(summary, width)
        self.condition = nn.Linear(summary, width)
        self.hidden = nn.Linear(2 * width, width)
        self.out = nn.Linear(3 * width, features)
        nn.init.normal_(self.wave.weight, std=1.0)
        nn.init.uniform_(self.wave.bias, -math.pi, math.pi)
        nn.init.normal_(self.frequency.weight, std=0.02)
        nn.init.zeros_(self.frequency.bias)

    def forward(self, samples: Tensor, summary: Tensor, count: int | None = None) -> Tensor:
        condition = self.condition(summary).unsqueeze(-2)
        d = samples.shape[-1]
        # Columns that are not there are zeros: they need not be multiplied.
        frequency = self.frequency(summary).clamp(-2, 2).exp().unsqueeze(-2)
        wave = F.linear(samples, self.wave.weight[:, :d]) * frequency + self.wave.bias
        ramp = F.linear(samples, self.ramp.weight[:, :d]) + (self.ramp.bias + condition)
        first = torch.cat([torch.sin(wave), F.silu(ramp)], dim=-1)
        hidden = F.silu(self.hidden(first) + condition)
        return F.linear(torch.cat([first, hidden], dim=-1), self.out.weight[:count], self.out.bias[:count])


class PairNetwork(nn.Module):
    """Features of pairs from the embeddings of their sides, ``(b, N, width)`` twice, to ``(b, N, count)`` in (-1, 1).

    Half of the first hidden units are sines of a + b, for dependences as sharp as a thin band. ``modulation: (b, 2, 2,
    width)`` holds a scale and a shift for each of the two hidden layers. They are folded into what comes before the pairs
    are formed and into the weights: there are far more pairs than samples.
    """

    def __init__(self, width: int, features: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, width)
        self.out = nn.Linear(width, features)

    def modulate(self, a: Tensor, b: Tensor, modulation: Tensor) -> tuple[Tensor, Tensor]:
        """First modulation, applied to the embeddings of the samples: ``(a + b) scale + shift = a' + b'``."""
        scale, shift = modulation[:, :, 0].unsqueeze(-2).unbind(1)
        return a * (1 + scale), b * (1 + scale) + shift

    def forward(self, a: Tensor, b: Tensor, modulation: Tensor, count: int) -> Tensor:
        """Pairs of modulated embeddings to features."""
        scale, shift = modulation[:, :, 1].unbind(1)
        weight = self.hidden.weight.mT * (1 + scale).unsqueeze(-2)
        bias = self.hidden.bias * (1 + scale) + shift
        wave, ramp = (a + b).chunk(2, dim=-1)
        h = torch.cat([torch.sin(wave), F.silu(ramp)], dim=-1)
        h = h + F.silu(torch.baddbmm(bias.unsqueeze(-2).to(h.dtype), h, weight.to(h.dtype)))
        return torch.tanh(F.linear(h, self.out.weight[:count], self.out.bias[:count]))
