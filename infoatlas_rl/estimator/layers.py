"""The two learned networks of the critic: features of one side of a sample, and the phases of pairs."""

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

    def forward(self, samples: Tensor, summary: Tensor, chosen: slice = slice(None)) -> Tensor:
        condition = self.condition(summary).unsqueeze(-2)
        d = samples.shape[-1]
        # Columns that are not there are zeros: they need not be multiplied.
        frequency = self.frequency(summary).clamp(-2, 2).exp().unsqueeze(-2)
        wave = torch.sin(F.linear(samples, self.wave.weight[:, :d]) * frequency + self.wave.bias)
        ramp = F.silu(F.linear(samples, self.ramp.weight[:, :d], self.ramp.bias) + condition)
        hidden = F.silu(_linear((wave, ramp), self.hidden.weight, self.hidden.bias) + condition)
        return _linear((wave, ramp, hidden), self.out.weight[chosen], self.out.bias[chosen])


def _linear(parts: tuple[Tensor, ...], weight: Tensor, bias: Tensor) -> Tensor:
    """A linear layer of parts ``(..., n, width)`` of its input, which are not put next to each other: that costs as much time."""
    weights = weight.split(parts[0].shape[-1], dim=1)
    total = F.linear(parts[0].flatten(0, -2), weights[0], bias)
    for part, columns in zip(parts[1:], weights[1:], strict=True):
        total = torch.addmm(total, part.flatten(0, -2), columns.mT)
    return total.unflatten(0, parts[0].shape[:-1])


class Phases(nn.Module):
    """Phases a(x) and b(y) of both sides; features of a pair are the sines and cosines of their difference.

    A sharp dependence, a thin band around a curve, is a function of such a difference. Phases are linear in the canonical
    coordinates of a side plus what a network adds; the hypernetwork scales their frequencies. Half of the phases begin as the
    same function of both sides, which is bands, the others as different ones.
    """

    def __init__(self, inputs: int, summary: int, width: int, phases: int) -> None:
        super().__init__()
        self.phases = phases
        self.network = SideNetwork(inputs, summary, width, 2 * phases)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            linear = torch.stack([_sparse_frequencies(phases, inputs) for _ in range(2)])
        # Interleaved, so that the first ones are of both kinds.
        linear[1, ::2] = linear[0, ::2]
        self.linear = nn.Parameter(linear)
        nn.init.normal_(self.network.out.weight, std=0.02)
        nn.init.zeros_(self.network.out.bias)

    def forward(self, samples: Tensor, summary: Tensor, log_frequency: Tensor, which: int, count: int) -> Tensor:
        """Phases ``(b, n, count)`` of one side, ``samples (b, n, inputs)``, ``log_frequency (b, phases)``."""
        first = which * self.phases
        curved = self.network(samples, summary, slice(first, first + count))
        phases = F.linear(samples, self.linear[which, :count, : samples.shape[-1]]) + curved
        return phases * log_frequency[:, :count].clamp(-2, 2).exp().unsqueeze(-2)


def _sparse_frequencies(count: int, inputs: int) -> Tensor:
    """Rows of one to three inputs, norms from 0.5 to 8."""
    chosen = torch.rand(count, inputs).argsort(1).argsort(1) < torch.randint(1, 4, (count, 1))
    rows = torch.randn(count, inputs) * chosen
    norm = torch.exp(math.log(0.5) + math.log(16) * torch.rand(count, 1))
    return F.normalize(rows, dim=1) * norm
