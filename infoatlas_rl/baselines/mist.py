"""MIST: a set transformer that reads a data set and says quantiles of its mutual information (Gritsai et al., 2025).

An own, small implementation of the idea: attention goes to and fro between the columns of a row and the rows of a column, the
latter through learned inducing points (Lee et al., Set Transformer, ICML 2019), so that the order of rows, and of columns within
a side, does not matter and any number of both can be read. Entries are read as sines and cosines, and what the columns of a row
say is multiplied: without either the network stays at the distribution of the truth for thousands of steps. It is trained on
problems with a known truth by quantile regression; the level of the quantile is an input. Nothing is solved or trained for the
data set in hand.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from infoatlas_rl.baselines.attention import Attention, require_heads
from infoatlas_rl.checks import check_numbers
from infoatlas_rl.estimator.copula import NormalScores
from infoatlas_rl.weights import read_model, weights_file, write_model

FORMAT = "mist-1"


@dataclass(frozen=True)
class MISTConfig:
    """Architecture of :class:`MISTNetwork`."""

    width: int = 48
    """Of every token; there is one for every entry of the data."""
    blocks: int = 2
    """Rounds of attention between columns and between rows."""
    inducing: int = 16
    """Learned points through which the rows of a column see each other."""
    waves: int = 16
    """Sines and cosines of every entry."""

    def __post_init__(self) -> None:
        check_numbers(self)
        require_heads(self.width)


class Products(nn.Module):
    """Products of linear functions: what two columns of a row have to do with each other."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.left, self.right, self.out = nn.Linear(width, 2 * width), nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(self.left(tokens) * self.right(tokens))


class Block(nn.Module):
    """The columns of every row see each other, then the rows of every column, through the inducing points."""

    def __init__(self, config: MISTConfig) -> None:
        super().__init__()
        self.columns, self.read, self.write = (Attention(config.width) for _ in range(3))
        self.columns.mlp = Products(config.width)
        self.inducing = nn.Parameter(torch.randn(config.inducing, config.width) * 0.2)

    def forward(self, tokens: Tensor) -> Tensor:
        b, n = tokens.shape[:2]
        rows = rearrange(tokens, "b n d w -> (b n) d w")
        columns = rearrange(self.columns(rows, rows), "(b n) d w -> (b d) n w", b=b, n=n)
        seen = self.read(self.inducing.expand(len(columns), -1, -1), columns)
        return rearrange(self.write(columns, seen), "(b d) n w -> b n d w", b=b)


class MISTNetwork(nn.Module):
    """Samples to quantiles of the mutual information."""

    def __init__(self, config: MISTConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or MISTConfig()
        self.frequencies = nn.Parameter(torch.randn(c.waves) * 1.5)
        self.value = nn.Linear(2 + 2 * c.waves, c.width)
        self.blocks = nn.ModuleList([Block(c) for _ in range(c.blocks)])
        self.head = nn.Sequential(nn.Linear(4 * c.width + 3, 4 * c.width), nn.GELU(), nn.Linear(4 * c.width, c.width))
        self.level = nn.Sequential(nn.Linear(c.width + 1, 2 * c.width), nn.GELU(), nn.Linear(2 * c.width, 1))

    def forward(self, x: Tensor, y: Tensor, levels: Tensor) -> Tensor:
        """Samples ``(b, n, dx)`` and ``(b, n, dy)``, levels ``(b, q)`` in (0, 1), to quantiles ``(b, q)`` in nats.

        Normal scores, which have the same MI, are read in the place of the samples.
        """
        b, n, dx = x.shape
        with torch.no_grad():
            x, y = (NormalScores(side).fit_scores(side) for side in (x, y))
        side = torch.cat([x.new_full((dx,), -1.0), x.new_full((y.shape[-1],), 1.0)]).expand(b, n, -1)
        values = torch.cat([x, y], -1).unsqueeze(-1)
        phases = values * self.frequencies
        tokens = self.value(torch.cat([values, side.unsqueeze(-1), phases.sin(), phases.cos()], -1))
        for block in self.blocks:
            tokens = block(tokens)
        columns = torch.cat([tokens.mean(1), tokens.std(1)], -1)
        sizes = torch.tensor([n, dx, y.shape[-1]]).to(x).log() / 3
        known = self.head(torch.cat([columns[:, :dx].mean(1), columns[:, dx:].mean(1), sizes.expand(b, -1)], -1))
        known = known.unsqueeze(1).expand(-1, levels.shape[1], -1)
        return F.softplus(self.level(torch.cat([known, levels.logit().unsqueeze(-1) / 3], -1)).squeeze(-1))


def write_mist(path: Path, model: MISTNetwork, record: dict[str, Any]) -> None:
    write_model(path, model, FORMAT, record)


def load_mist(name: str | Path = "mist") -> MISTNetwork:
    """Load the released network, or one from a ``.safetensors`` file; frozen, in evaluation mode."""
    model, _ = read_model(
        weights_file(name, FORMAT), FORMAT, lambda config: MISTNetwork(MISTConfig(**config)), "tasks/pretrain_mist.py"
    )
    return model.eval().requires_grad_(False)
