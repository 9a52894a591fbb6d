"""Stage 4, the hypernetwork: from a data set to the parameters that its critic is built with.

It writes, for every data set, the correlations of the Gaussian base (shrunk), the frequencies of the phases of pairs, and the
prior mean and the ridge of the solved last layer (InfoAtlas, Eq. 4: theta = H(D)). The data set reaches it
twice: as tokens, through the dual-path encoder, and as a summary of canonical correlations, in-sample and held-out, and
sizes.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from infoatlas_rl.estimator.canonical import Maps, scarcity
from infoatlas_rl.estimator.dual_path import DualPathEncoder

SMALL_PRIOR = 72
"""Samples below which the prior of the last layer gains weight, with the third power of how far below."""
SMALL_SHRINKAGE = 12.0
"""Times what :func:`scarcity` says: correlations are divided by one more than this, with n near d."""

RIDGES = (4.0, 64.0, 1024.0, 16384.0)
"""Levels that halves of the samples are solved with, to see what they give on the other half: prior precisions, in samples."""


class CriticParameters(NamedTuple):
    """What the hypernetwork writes for each of b data sets."""

    rho: Tensor  # (b, min(dx, dy)): canonical correlations of the Gaussian base, shrunk
    frequencies: Tensor  # (b, 2, phases): logarithms of what the phases of x and of y are multiplied with
    prior_mean: Tensor  # (b, m): prior mean of the last layer
    log_ridge: Tensor  # (b, m): log prior precision of the last layer
    code: Tensor  # (b, c): what all of this was written from

    @property
    def ridge(self) -> Tensor:
        return self.log_ridge.clamp(-12, 6).exp()


class Hypernetwork(nn.Module):
    """Dual-path encoder, summary, and a generator network.

    Args:
        token: size of the token of one side.
        summary: size of the summary.
        phases: of the features of pairs.
        features: largest width m of the solved last layer.
        encoder: options of :class:`DualPathEncoder`.
        decoder_width: of the generator.
        constant: let the generator see nothing of the data set.
        fixed_ridge: write no ridge.
    """

    def __init__(
        self,
        *,
        token: int,
        summary: int,
        phases: int,
        features: int,
        encoder: dict[str, int],
        decoder_width: int,
        max_dim: int,
        constant: bool = False,
        fixed_ridge: bool = False,
    ) -> None:
        super().__init__()
        self.constant, self.fixed_ridge = constant, fixed_ridge
        self.phases = phases
        self.sizes = [2 * phases, features, features, 2]
        self.encoder = DualPathEncoder(token, **encoder)
        self.shrinkage = Shrinkage(max_dim)
        self.body = nn.Sequential(
            nn.Linear(summary + encoder["width"], decoder_width), nn.SiLU(), nn.Linear(decoder_width, decoder_width), nn.SiLU()
        )
        self.head = nn.Linear(decoder_width, sum(self.sizes))
        looks = 2 * (len(RIDGES) - 1)
        self.level = nn.Sequential(nn.Linear(looks + summary + encoder["width"], 48), nn.SiLU(), nn.Linear(48, 1))
        nn.init.zeros_(self.level[-1].weight)
        nn.init.zeros_(self.level[-1].bias)
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, token_x: Tensor, token_y: Tensor, maps: Maps, n: int, count: int) -> CriticParameters:
        """Parameters of a critic with ``count`` features, from tokens ``(b, t, token)`` of both sides and the maps."""
        code = torch.cat([maps.summary, self.encoder(token_x, token_y)], dim=-1)
        generated = self.head(self.body(torch.zeros_like(code) if self.constant else code)).float()
        frequencies, prior_mean, log_ridge, shrink = generated.split(self.sizes, dim=-1)
        if self.fixed_ridge:
            log_ridge = torch.zeros_like(log_ridge)
        small = math.log1p((SMALL_PRIOR / n) ** 3)
        with torch.autocast(code.device.type, enabled=False):
            rho = self.shrinkage(maps, n, shrink).clamp(max=0.995)
        return CriticParameters(
            rho=rho,
            frequencies=frequencies.unflatten(-1, (2, self.phases)),
            prior_mean=0.1 * prior_mean[:, :count],
            # To start with, a prior worth three thousand samples.
            log_ridge=log_ridge[:, :count] + math.log(3000 / n) + small,
            code=code,
        )

    def with_level(self, parameters: CriticParameters, two_fold: Tensor, n: int) -> CriticParameters:
        """With the ridge at the level that it is to have, given what several levels give on halves of the samples."""
        if self.fixed_ridge:
            return parameters
        gain = two_fold.detach()[:, :-1] - two_fold.detach()[:, -1:]
        seen = [torch.asinh(4 * gain), torch.asinh(gain * (n / 20)), parameters.code]
        level = self.level(torch.cat(seen, dim=-1))
        return parameters._replace(log_ridge=parameters.log_ridge + 3 * level)


class Shrinkage(nn.Module):
    """Shrinks sample canonical correlations, which are inflated at small n, towards zero.

    A small network looks at every correlation with its held-out counterpart and the upper edge of what independent data
    would give; the generator adds a scale and a shift ``(b, 2)`` that depend on the whole data set.
    """

    def __init__(self, max_dim: int, width: int = 32) -> None:
        super().__init__()
        self.max_dim = max_dim
        self.net = nn.Sequential(nn.Linear(7, width), nn.SiLU(), nn.Linear(width, 1))
        nn.init.zeros_(self.net[-1].weight)
        nn.init.constant_(self.net[-1].bias, 3.0)

    def forward(self, maps: Maps, n: int, generated: Tensor) -> Tensor:
        rho, (dx, dy) = maps.linear.rho, maps.dims
        # Upper edge of the correlations of independent data (Wachter, 1980).
        edge = ((dx * (n - dy).clamp(min=1)).sqrt() + (dy * (n - dx).clamp(min=1)).sqrt()) / n
        edge = edge.clamp(max=1).expand_as(rho)
        index = torch.arange(rho.shape[-1], device=rho.device, dtype=rho.dtype).expand_as(rho) / self.max_dim
        size = torch.full_like(rho, math.log(n / 500) / 2)
        columns = [rho, maps.linear.held_out, rho.logit(eps=1e-3) / 3, rho - edge, edge, index, size]
        logit = self.net(torch.stack(columns, dim=-1)).squeeze(-1)
        few = 1 + SMALL_SHRINKAGE * scarcity(dx, dy, n)
        return rho / few * (logit * (1 + generated[:, :1]) + 4 * generated[:, 1:]).sigmoid()
