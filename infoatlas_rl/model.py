"""InfoAtlas: one forward pass reads a data set and writes the critic of a Donsker-Varadhan bound (InfoAtlas, Eq. 4, 5).

The stages, each a module of its own::

    slicing -> copula -> canonical -> hypernetwork -> critic -> bounds
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from infoatlas_rl.bounds import log_mean_exp
from infoatlas_rl.canonical import CanonicalEncoder, Maps
from infoatlas_rl.copula import NormalScores
from infoatlas_rl.critic import gaussian_base, soft_clip, solve_last_layer
from infoatlas_rl.hypernetwork import CriticParameters, Hypernetwork
from infoatlas_rl.layers import PairNetwork, SideNetwork

if TYPE_CHECKING:
    from infoatlas_rl.estimate import Estimate

MIN_SAMPLES = 16
"""Fewer samples than this are refused."""


@dataclass(frozen=True)
class InfoAtlasConfig:
    """Architecture of :class:`InfoAtlas`; stored in the header of every weights file."""

    max_dim: int = 20
    """D: largest dimension of x and of y; higher ones are sliced."""
    canonical_ridge: float = 1e-4
    side_width: int = 128
    side_features: int = 128
    variates: int = 8
    """r: nonlinear canonical variates of each side."""
    pair_width: int = 96
    pair_features: int = 128
    hyper_width: int = 128
    newton_steps: int = 3
    product_pairs: int = 20_000
    """Product samples aimed at: n times as many cyclic shifts as fit, at least ``min_shifts``, at most ``max_shifts``."""
    min_shifts: int = 3
    max_shifts: int = 8

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"{name} has to be positive, not {value}")
        if self.newton_steps < 2:
            raise ValueError(f"newton_steps has to be at least 2, not {self.newton_steps}")
        if self.min_shifts > self.max_shifts:
            raise ValueError(f"min_shifts {self.min_shifts} exceeds max_shifts {self.max_shifts}")


class Side(NamedTuple):
    """The samples of one side as the critic sees them."""

    coordinates: Tensor  # (b, n, D), linear canonical coordinates
    variates: Tensor  # (b, n, r), nonlinear canonical variates
    embedding: Tensor  # (b, n, width), modulated

    def at(self, index: Tensor) -> Side:
        return Side(*(t.index_select(1, index) for t in self))


@dataclass(frozen=True)
class Critic:
    """The critic that was written for a batch of data sets, and its values on them.

    It is normalised to ``E_q[exp t] = 1`` on these data, so that t estimates the pointwise MI itself.
    """

    model: InfoAtlas
    scores: tuple[NormalScores, NormalScores]
    maps: Maps
    parameters: CriticParameters
    weights: Tensor  # (b, m), last layer
    normaliser: Tensor  # (b, 1), log E_q[exp t] before it was subtracted; constant
    joint: Tensor  # (b, n): t(x_i, y_i) on the data it was written for
    product: Tensor  # (b, N): t(x_i, y_j) on the data it was written for
    base_joint: Tensor  # (b, n), Gaussian base alone
    base_product: Tensor  # (b, N)

    def sides(self, x: Tensor, y: Tensor) -> tuple[Side, Side]:
        """New samples ``(b, q, dx), (b, q, dy)`` as the critic sees them; not differentiable with respect to them."""
        z_x, z_y = self.scores[0].scores(x), self.scores[1].scores(y)
        features = self.model.encoder.standardised(self.maps, z_x.float(), z_y.float())
        return self.model.sides(self.maps, self.parameters, z_x.float(), z_y.float(), features)

    def values(self, side_x: Side, side_y: Side) -> tuple[Tensor, Tensor]:
        """Values of the critic and of its Gaussian base at pairs, ``(b, q)`` each."""
        features, base = self.model.pair_features(side_x, side_y, self.maps, self.parameters)
        return base + torch.einsum("bnm,bm->bn", features, self.weights) - self.normaliser, base


class InfoAtlas(nn.Module):
    """The estimator. Get a pretrained one with :meth:`from_pretrained`."""

    def __init__(self, config: InfoAtlasConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or InfoAtlasConfig()
        self.encoder = CanonicalEncoder(c.max_dim, c.side_width, c.side_features, c.variates, c.canonical_ridge)
        self.embedding = SideNetwork(c.max_dim + c.variates, self.encoder.summary_size, c.pair_width, c.pair_width)
        self.pair = PairNetwork(c.pair_width, c.pair_features)
        self.hypernetwork = Hypernetwork(
            self.encoder.summary_size,
            layers=2,
            width=c.pair_width,
            features=1 + 4 * c.variates + c.pair_features,
            hidden=c.hyper_width,
        )

    @classmethod
    def from_pretrained(cls, name: str = "base") -> InfoAtlas:
        """Load released weights by name, or a ``.safetensors`` file by path; frozen, in evaluation mode.

        Raises:
            WeightsError: no such weights, a wrong checksum, or another architecture. Never falls back to random weights.
        """
        from infoatlas_rl.weights import load_pretrained

        return load_pretrained(name)

    def estimate(
        self,
        x: Any,
        y: Any,
        *,
        slices: int | None = None,
        k: int = 5,
        bound: str = "dv",
        cross_fit: bool = False,
        permutations: int = 0,
        seed: int = 0,
    ) -> Estimate:
        """Mutual information in nats of paired samples, without gradients.

        Args:
            x: ``(n, dx)``, a batch of data sets ``(b, n, dx)``, or ``(n,)`` for a single variable; NumPy array, tensor or
                data frame.
            y: likewise, with dy.
            slices: average this many random ``k``-dimensional projections; needed above 20 dimensions.
            bound: ``"dv"``, ``"nwj"``, ``"smile"`` or ``"infonce"``. The critic is normalised, so that nwj differs from dv
                only if cross-fitted; InfoNCE is at most log 9 = 2.2 nats with the eight negatives per sample of small n.
            cross_fit: write the critic on one half and evaluate the bound on the other, both ways: a lower bound in
                expectation, and a looser one.
            permutations: of a test of independence; 0 for none, 99 for p-values down to 0.01.
            seed: of slices and permutations.

        Raises:
            TypeError, ValueError: what was given and what is accepted; NaN, infinity, fewer than 16 samples, more than 20
                dimensions without slices. Constant columns and ties are fine.
        """
        from infoatlas_rl.estimate import estimate

        return estimate(self, x, y, slices=slices, k=k, bound=bound, cross_fit=cross_fit, permutations=permutations, seed=seed)

    def forward(self, x: Tensor, y: Tensor, *, full_gradient: bool = False, shifts: int | None = None) -> Critic:
        """Write the critics of a batch of data sets.

        Gradients with respect to x and y flow through the values of the critic on the data. By default they stop at
        the parameters of the critic, theta: at the maximum of the bound its derivative with respect to theta vanishes
        (Danskin's theorem). ``full_gradient`` lets them flow through the solve of the last layer as well. The copula and
        canonical maps, and with them what the hypernetwork writes, are held fixed in both cases.

        Args:
            x: ``(b, n, dx)``.
            y: ``(b, n, dy)``.
            shifts: product samples per joint sample; None for as many as the configuration aims at.
        """
        scores = NormalScores(x), NormalScores(y)
        z_x, z_y = scores[0].fit_scores(x).float(), scores[1].fit_scores(y).float()
        through_parameters = torch.is_grad_enabled() and (full_gradient or self.training)
        maps, features = self.encoder.fit(z_x, z_y, differentiable=through_parameters)
        with torch.set_grad_enabled(through_parameters):
            parameters = self.hypernetwork(maps.summary, x.shape[1])
        side_x, side_y = self.sides(maps, parameters, z_x, z_y, features)
        i, j = self.product_index(x.shape[1], x.device, shifts)
        joint, base_joint = self.pair_features(side_x, side_y, maps, parameters)
        product, base_product = self.pair_features(side_x.at(i), side_y.at(j), maps, parameters)
        with torch.set_grad_enabled(through_parameters):
            w = solve_last_layer(joint, product, base_joint, base_product, parameters, self.config.newton_steps)
        t_product = base_product + torch.einsum("bnm,bm->bn", product, w)
        normaliser = log_mean_exp(t_product).detach().unsqueeze(-1)
        return Critic(
            model=self,
            scores=scores,
            maps=maps,
            parameters=parameters,
            weights=w,
            normaliser=normaliser,
            joint=base_joint + torch.einsum("bnm,bm->bn", joint, w) - normaliser,
            product=t_product - normaliser,
            base_joint=base_joint,
            base_product=base_product,
        )

    def sides(
        self, maps: Maps, parameters: CriticParameters, z_x: Tensor, z_y: Tensor, features: tuple[Tensor, Tensor]
    ) -> tuple[Side, Side]:
        """Both sides as the critic sees them, from normal scores and the standardised features of the encoder."""
        f, g = features
        if self.training:
            # The feature network of the encoder has a loss of its own; see pretraining.
            f, g = f.detach(), g.detach()
        u, v = self.encoder.pad(maps.linear.x(z_x)), self.encoder.pad(maps.linear.y(z_y))
        p, q = f @ maps.nonlinear.map_x, g @ maps.nonlinear.map_y
        a = self.embedding(torch.cat([u, p], dim=-1), maps.summary)
        b = self.embedding(torch.cat([v, q], dim=-1), maps.summary)
        a, b = self.pair.modulate(a, b, parameters.modulation)
        return Side(u, p, a), Side(v, q, b)

    def pair_features(self, x: Side, y: Side, maps: Maps, parameters: CriticParameters) -> tuple[Tensor, Tensor]:
        """Features ``(b, N, m)`` and Gaussian base ``(b, N)`` of pairs: a constant, the terms of a Gaussian log ratio
        of each pair of variates, and the features of the pair network."""
        p, q = x.variates, y.variates
        features = [torch.ones_like(p[..., :1]), p * q, p**2 + q**2, p, q]
        features = soft_clip(torch.cat(features, dim=-1), 4.0)
        learned = self.pair(x.embedding, y.embedding, parameters.modulation).float()
        base = gaussian_base(x.coordinates, y.coordinates, maps.rho)
        return torch.cat([features, learned], dim=-1), soft_clip(base, 30.0)

    def product_index(self, n: int, device: torch.device, shifts: int | None = None) -> tuple[Tensor, Tensor]:
        """Indices of the product samples ``(x_i, y_j), i != j``: distinct cyclic shifts of one fixed permutation.

        The permutation makes it unlikely that samples that are neighbours in time are paired.
        """
        c = self.config
        shifts = min(shifts or min(max(c.product_pairs // n, c.min_shifts), c.max_shifts), n - 1)
        generator = torch.Generator().manual_seed(0)
        order = torch.randperm(n, generator=generator)
        offsets = torch.randperm(n - 1, generator=generator)[:shifts] + 1
        j = torch.cat([order.roll(int(offset)) for offset in offsets])
        return order.repeat(shifts).to(device), j.to(device)
