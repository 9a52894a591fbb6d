"""Random invertible maps of one side of a problem, and columns that add nothing: its mutual information stays as it is."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def uniform(g: torch.Generator) -> float:
    return float(torch.rand((), generator=g))


def flow(x: Tensor, g: torch.Generator) -> Tensor:
    """A random invertible map of one side ``(total, d)``: linear, elementwise monotone and coupling layers."""
    d = x.shape[-1]
    depth = 0 if uniform(g) < 0.3 else 1 + int(4 * uniform(g))
    for _ in range(depth):
        x = (x - x.mean(0)) / (x.std(0) + 1e-6)
        if d > 1:
            x = x @ _random_linear(d, g)
            if uniform(g) < 0.8:
                x = rotation(x, g) if uniform(g) < 0.2 else coupling(x, g)
        x = monotone(x, g)
    return x


def _random_linear(d: int, g: torch.Generator) -> Tensor:
    q, _ = torch.linalg.qr(torch.randn(d, d, generator=g))
    return q * torch.exp(0.5 * torch.randn(d, generator=g)) if uniform(g) < 0.5 else q


def coupling(x: Tensor, g: torch.Generator) -> Tensor:
    """Shift (and scale) one half of the coordinates by a smooth random function of the other half."""
    d = x.shape[-1]
    perm = torch.randperm(d, generator=g)
    a, b = perm[: d // 2], perm[d // 2 :]
    frequency = 0.3 + 2.2 * uniform(g)
    hidden = torch.sin(
        frequency * x[:, a] @ torch.randn(len(a), 16, generator=g) / math.sqrt(len(a)) + 6.28 * torch.rand(16, generator=g)
    )
    shift = hidden @ torch.randn(16, len(b), generator=g) / 4 * (2.5 * uniform(g))
    scale = torch.exp(0.5 * uniform(g) * torch.tanh(hidden @ torch.randn(16, len(b), generator=g) / 2))
    out = x.clone()
    out[:, b] = x[:, b] * scale + shift
    return out


def rotation(x: Tensor, g: torch.Generator) -> Tensor:
    """Rotate two coordinates by a smooth random function of how far out they are and of the others."""
    d = x.shape[-1]
    perm = torch.randperm(d, generator=g)
    plane, rest = perm[:2], perm[2:]
    seen = torch.cat([x[:, plane].norm(dim=-1, keepdim=True), x[:, rest]], dim=-1)
    weight = torch.randn(seen.shape[-1], generator=g) / math.sqrt(seen.shape[-1])
    angle = 3 * uniform(g) * torch.tanh(seen @ weight) + 2 * uniform(g) * (seen @ weight)
    a, b = x[:, plane].unbind(-1)
    out = x.clone()
    out[:, plane] = torch.stack([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], dim=-1)
    return out


def monotone(x: Tensor, g: torch.Generator) -> Tensor:
    """An elementwise strictly increasing map with random skew and tail weight."""
    d = x.shape[-1]
    kind = uniform(g)
    bend = 0.3 + 1.2 * torch.rand(d, generator=g)
    centre = torch.randn(d, generator=g)
    if kind < 0.35:
        return x + bend * torch.tanh(2 * (x - centre))
    if kind < 0.6:
        return x.sign() * x.abs() ** (0.5 + bend)
    if kind < 0.8:
        return torch.where(x > centre, bend * (x - centre), (x - centre) / bend)
    return x


def with_redundant(side: Tensor, d: int, g: torch.Generator) -> Tensor:
    """Columns ``(n, k)`` and d - k functions of them with noise of their own, or noise alone, in any order: nothing has more or
    less information about all of them than about the k."""
    n, k = side.shape
    if k == d:
        return side
    z = (side - side.mean(0)) / (side.std(0) + 1e-6)
    style = uniform(g)
    level = 0.0 if uniform(g) < 0.3 else 10 ** (-3 * uniform(g))
    columns = []
    for _ in range(d - k):
        # Half of the time all are of one kind.
        kind = style if style < 0.5 else 0.5 * uniform(g)
        i, j = (int(k * uniform(g)) for _ in range(2))
        direction = torch.randn(k, generator=g) * (torch.rand(k, generator=g) < 0.2 + 0.8 * uniform(g))
        noise = torch.randn(n, generator=g)
        if kind < 0.15:
            column = z @ direction
        elif kind < 0.25:
            column = z[:, i]
        elif kind < 0.33:
            column = z[:, i] * z[:, j]
        elif kind < 0.41:
            column = torch.tanh(z @ direction)
        else:
            column = torch.zeros(n)
        spread = column.std()
        columns.append(column + noise * (level * spread if spread > 0 else 1.0))
    return torch.cat([side, torch.stack(columns, 1)], 1)[:, torch.randperm(d, generator=g)]
