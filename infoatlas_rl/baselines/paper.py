"""The architecture of the InfoAtlas paper as published (section 3.1, A.5): every weight of the critic is generated.

Copula transform, noise padding to D columns, dual-path encoder, a decoding MLP that writes a whole critic network. Nothing
is solved and nothing is known in closed form. It is here to be compared with; with the published sizes it has a billion
parameters, and training it took the authors 16 GPUs for two weeks.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from infoatlas_rl.checks import check_numbers
from infoatlas_rl.estimator.bounds import log_mean_exp
from infoatlas_rl.estimator.copula import NormalScores
from infoatlas_rl.estimator.dual_path import DualPathEncoder


@dataclass(frozen=True)
class PaperConfig:
    """Sizes of A.5; those that the paper leaves open are marked."""

    max_dim: int = 20
    width: int = 1536
    """Of keys and values."""
    latents: int = 64
    """Not stated in the paper."""
    heads: int = 16
    """Not stated in the paper."""
    joint_layers: int = 16
    marginal_layers: int = 8
    decoder_layers: int = 7
    decoder_width: int = 8196
    critic_width: int = 64
    """Of both hidden layers of the critic; not stated in the paper."""

    def __post_init__(self) -> None:
        check_numbers(self)

    def build(self) -> PaperInfoAtlas:
        return PaperInfoAtlas(self)


@dataclass(frozen=True)
class GeneratedCritic:
    """A critic whose layers ``(b, in, out)`` and ``(b, 1, out)`` were written for a batch of data sets."""

    layers: list[tuple[Tensor, Tensor]]
    scores: tuple[NormalScores, NormalScores]
    model: PaperInfoAtlas

    def values(self, x: Tensor, y: Tensor) -> Tensor:
        """t at pairs of padded scores ``(b, q, D)``: ``(b, q)``."""
        h = torch.cat([x, y], dim=-1)
        for number, (weight, bias) in enumerate(self.layers):
            h = torch.baddbmm(bias, h, weight)
            h = F.silu(h) if number + 1 < len(self.layers) else h
        return h.squeeze(-1)

    def joint_and_product(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """t at new samples ``(b, q, dx), (b, q, dy)`` and with y moved on by one; E_q[exp t] = 1 on them."""
        sides = zip(self.scores, (x, y), strict=True)
        x, y = (self.model.pad(scores.scores(side), seed) for seed, (scores, side) in enumerate(sides, 2))
        joint, product = self.values(x, y), self.values(x, y.roll(1, 1))
        shift = log_mean_exp(product.float()).unsqueeze(-1).to(product.dtype)
        return joint - shift, product - shift


class PaperInfoAtlas(nn.Module):
    """The hypernetwork of the paper; see the module docstring."""

    def __init__(self, config: PaperConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or PaperConfig()
        self.encoder = DualPathEncoder(
            c.max_dim,
            width=c.width,
            latents=c.latents,
            joint_layers=c.joint_layers,
            marginal_layers=c.marginal_layers,
            heads=c.heads,
        )
        self.shapes = list(pairwise([2 * c.max_dim, c.critic_width, c.critic_width, 1]))
        outputs = sum(a * b + b for a, b in self.shapes)
        widths = [c.width, *[c.decoder_width] * c.decoder_layers]
        hidden = [part for a, b in pairwise(widths) for part in (nn.Linear(a, b), nn.SiLU())]
        self.decoder = nn.Sequential(*hidden, nn.Linear(c.decoder_width, outputs))

    def forward(self, x: Tensor, y: Tensor) -> GeneratedCritic:
        """Write the critics of data sets ``(b, n, dx), (b, n, dy)``."""
        scores = NormalScores(x), NormalScores(y)
        padded = tuple(self.pad(s.fit_scores(side), seed) for seed, (s, side) in enumerate(zip(scores, (x, y), strict=True)))
        theta = self.decoder(self.encoder(*padded))
        layers, start = [], 0
        for a, b in self.shapes:
            weight, bias = theta[:, start : start + a * b], theta[:, start + a * b : start + a * b + b]
            # Weights of a freshly built network are as large as those of an ordinary initialised layer.
            layers.append((weight.unflatten(-1, (a, b)) / a**0.5, bias.unsqueeze(1)))
            start += a * b + b
        return GeneratedCritic(layers, scores, self)

    def pad(self, scores: Tensor, seed: int) -> Tensor:
        """Independent Gaussian noise up to D columns, which leaves the MI as it is (Proposition A.3); in training anew."""
        dtype = self.decoder[0].weight.dtype
        generator = None if self.training else torch.Generator().manual_seed(seed)
        noise = torch.randn(*scores.shape[:-1], self.config.max_dim - scores.shape[-1], generator=generator)
        return torch.cat([scores, noise.to(scores)], dim=-1).to(dtype)
