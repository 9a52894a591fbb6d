"""InfoNet: a network that reads pairs of scalars and writes a look-up table of the optimal discriminant (Hu et al., ICML 2024).

An own, small implementation of the architecture (Figure 3) and the training (Algorithm 1) of the paper: copula-transformed
pairs are encoded by learned queries with attention; both margins are turned into the queries of a decoder, whose output,
smoothed by a fixed Gaussian kernel, is the table ``theta`` on a grid over [-1, 1]^2. Data of more than one dimension are
sliced to one dimension (appendix A.2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from infoatlas_rl.baselines.attention import Attention, require_heads
from infoatlas_rl.checks import check_numbers, check_samples
from infoatlas_rl.estimator.bounds import donsker_varadhan
from infoatlas_rl.estimator.slicing import project, random_orthonormal
from infoatlas_rl.weights import read_model, weights_file, write_model

FORMAT = "infonet-1"


@dataclass(frozen=True)
class InfoNetConfig:
    """Architecture of :class:`InfoNet`."""

    table: int = 48
    """L: the table has L x L entries."""
    width: int = 48
    """D of the attention."""
    queries: int = 24
    """M: learned queries of the encoder."""
    layers: int = 2
    """Self-attention blocks of the encoder."""
    smoothing: float = 1.0
    """Standard deviation of the Gaussian kernel, in entries of the table."""

    def __post_init__(self) -> None:
        check_numbers(self)
        require_heads(self.width)


class InfoNet(nn.Module):
    """Pairs of copula-transformed scalars to the table of the discriminant."""

    def __init__(self, config: InfoNetConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or InfoNetConfig()
        self.joint = nn.Sequential(nn.Linear(2, c.width), nn.GELU(), nn.Linear(c.width, c.width))
        self.margins = nn.ModuleList(
            [nn.Sequential(nn.Linear(1, c.width), nn.GELU(), nn.Linear(c.width, c.width)) for _ in range(2)]
        )
        self.queries = nn.Parameter(torch.randn(c.queries, c.width) * 0.2)
        self.rows = nn.Parameter(torch.randn(c.table, c.width) * 0.2)
        self.read = Attention(c.width)
        self.blocks = nn.ModuleList([Attention(c.width) for _ in range(c.layers)])
        self.read_margins = nn.ModuleList([Attention(c.width) for _ in range(2)])
        self.decode = Attention(c.width)
        self.head = nn.Sequential(nn.LayerNorm(c.width), nn.Linear(c.width, c.table))
        reach = math.ceil(3 * c.smoothing)
        kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / c.smoothing) ** 2)
        self.register_buffer("kernel", kernel / kernel.sum(), persistent=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Scalars ``(b, n)`` in [-1, 1], uniform by rank, to tables ``(b, L, L)``; rows belong to y, columns to x."""
        latents = self.read(self.queries.expand(len(x), -1, -1), self.joint(torch.stack([x, y], dim=-1)))
        for block in self.blocks:
            latents = block(latents, latents)
        queries = self.rows.expand(len(x), -1, -1)
        for values, encode, attend in zip((x, y), self.margins, self.read_margins, strict=True):
            # After the copula transform every margin is uniform: an even subset of it says the same.
            subset = values.sort(dim=-1).values[:, :: max(values.shape[-1] // 32, 1)]
            queries = attend(queries, encode(subset.unsqueeze(-1)))
        table = self.head(self.decode(queries, latents))
        return self._smooth(table)

    def _smooth(self, table: Tensor) -> Tensor:
        reach = len(self.kernel) // 2
        table = F.pad(table.unsqueeze(1), (reach,) * 4, mode="replicate")
        table = F.conv2d(table, self.kernel.view(1, 1, 1, -1))
        return F.conv2d(table, self.kernel.view(1, 1, -1, 1)).squeeze(1)


def look_up(table: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Bilinear values ``(b, n)`` of tables ``(b, L, L)`` at points in [-1, 1]; differentiable in all arguments."""
    grid = torch.stack([x, y], dim=-1).unsqueeze(1)
    return F.grid_sample(table.unsqueeze(1), grid, mode="bilinear", padding_mode="border", align_corners=True)[:, 0, 0]


class InfoNetLoss(nn.Module):
    """Negative 1-sliced mutual information by the pretrained InfoNet, in nats, to be minimised.

    Args:
        slices: random one-dimensional projections that are averaged (the InfoAtlas paper uses 250).
        sides: ``"both"`` projects x and y, ``"y"`` projects y only; x is then one-dimensional.
        seed: of the slices, which are drawn anew in every call.
        weights: name or path of the weights.
    """

    def __init__(self, slices: int = 250, *, sides: str = "both", seed: int = 0, weights: str | Path = "infonet") -> None:
        super().__init__()
        if slices < 1:
            raise ValueError(f"slices has to be at least 1, not {slices}")
        if sides not in ("both", "y"):
            raise ValueError(f"sides has to be both or y, not {sides!r}")
        self.slices, self.sides = slices, sides
        # In a tuple the network is no submodule: no parameters, no state_dict, no train().
        self._frozen = (load_infonet(weights),)
        self._generator = torch.Generator().manual_seed(seed)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Negative MI, averaged over slices and batch; x ``(n, dx)`` or ``(b, n, dx)``, y likewise."""
        return -self.mi(x, y).mean()

    def mi(self, x: Tensor, y: Tensor) -> Tensor:
        """Mutual information in nats: a scalar for ``(n, d)`` inputs, ``(b,)`` for ``(b, n, d)``; differentiable."""
        x, y, batched = check_samples(x, y, None)
        if self.sides == "y" and x.shape[-1] != 1:
            raise ValueError(f"x has {x.shape[-1]} dimensions; InfoNet reads pairs of scalars, so slice both sides")
        x, y = self._slice(x, slice_it=self.sides == "both"), self._slice(y, slice_it=True)
        u, v = uniform_scores(x, self._generator), uniform_scores(y, self._generator)
        table = self._frozen[0](u.detach(), v.detach())
        shuffled = v[:, torch.randperm(v.shape[-1], generator=self._generator)]
        values = donsker_varadhan(look_up(table, u, v), look_up(table, u, shuffled))
        values = rearrange(values, "(b s) -> b s", s=self.slices).mean(-1)
        return values if batched else values[0]

    def reseed(self, seed: int) -> None:
        self._generator.manual_seed(seed)

    def extra_repr(self) -> str:
        return f"slices={self.slices}, sides={self.sides!r}"

    def _slice(self, samples: Tensor, *, slice_it: bool) -> Tensor:
        if not slice_it:
            return samples.squeeze(-1).repeat_interleave(self.slices, dim=0)
        frames = random_orthonormal(self.slices, samples.shape[-1], 1, generator=self._generator).to(samples)
        return project(samples, frames).squeeze(-1)


def uniform_scores(values: Tensor, generator: torch.Generator) -> Tensor:
    """Ranks of ``(b, n)`` values, scaled to (-1, 1), ties broken at random; the gradient is the slope between quantiles."""
    n = values.shape[-1]
    tie_breaker = torch.rand(values.shape, generator=generator).to(values)
    order = tie_breaker.argsort(dim=-1)
    order = order.gather(-1, values.detach().gather(-1, order).argsort(dim=-1, stable=True))
    rank = torch.empty_like(values).scatter_(-1, order, torch.arange(n).to(values).expand_as(values))
    scores = (2 * rank + 1) / n - 1
    if not values.requires_grad:
        return scores
    spread = values.detach().std(-1, keepdim=True).clamp(min=1e-6)
    # The density of a normal distribution: the map is held fixed, as in the copula transform of InfoAtlas.
    slope = 2 / spread * torch.exp(-0.5 * ((values.detach() - values.detach().mean(-1, keepdim=True)) / spread) ** 2)
    return scores + (values - values.detach()) * slope / math.sqrt(2 * math.pi)


def write_infonet(path: Path, model: InfoNet, record: dict[str, Any]) -> None:
    write_model(path, model, FORMAT, record)


def load_infonet(name: str | Path = "infonet") -> InfoNet:
    """Load the released network, or one from a ``.safetensors`` file; frozen, in evaluation mode."""
    model, _ = read_model(
        weights_file(name, FORMAT), FORMAT, lambda config: InfoNet(InfoNetConfig(**config)), "tasks/pretrain_infonet.py"
    )
    return model.eval().requires_grad_(False)
