"""Stage 4, the hypernetwork: from a data set to the parameters that its critic is built with.

It writes, for every data set, the modulation of the pair network, the prior mean of the last layer and its ridge
(InfoAtlas, Eq. 4: theta = H(D)). The data set reaches it as a summary: canonical correlations, linear and nonlinear,
and the sizes n, dx, dy.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor, nn


class CriticParameters(NamedTuple):
    """What the hypernetwork writes for each of b data sets."""

    modulation: Tensor  # (b, 2, layers, width): scale and shift of the hidden layers of the pair network
    prior_mean: Tensor  # (b, m): prior mean of the last layer
    log_ridge: Tensor  # (b, m): log prior precision of the last layer


class Hypernetwork(nn.Module):
    """Generator network on a summary of the data set.

    Args:
        summary: size of the summary.
        layers, width: hidden layers of the pair network, and their width.
        features: width m of the solved last layer.
        hidden: width of the generator.
    """

    def __init__(self, summary: int, *, layers: int, width: int, features: int, hidden: int) -> None:
        super().__init__()
        self.modulation_shape = (2, layers, width)
        self.sizes = [2 * layers * width, features, features]
        self.body = nn.Sequential(nn.Linear(summary, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU())
        self.head = nn.Linear(hidden, sum(self.sizes))
        nn.init.normal_(self.head.weight, std=0.01)
        nn.init.zeros_(self.head.bias)

    def forward(self, summary: Tensor, n: int) -> CriticParameters:
        modulation, prior_mean, log_ridge = self.head(self.body(summary)).split(self.sizes, dim=-1)
        return CriticParameters(
            modulation=modulation.unflatten(-1, self.modulation_shape),
            prior_mean=0.1 * prior_mean.float(),
            # To start with, a prior worth forty samples.
            log_ridge=log_ridge.float() + math.log(40 / n),
        )
