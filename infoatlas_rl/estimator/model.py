"""InfoAtlas: one forward pass reads a data set and writes the critic of a Donsker-Varadhan bound (InfoAtlas, Eq. 4, 5).

The stages, each a module of its own::

    slicing -> copula -> canonical -> hypernetwork -> critic -> bounds -> calibration
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from infoatlas_rl.checks import Sides, check_numbers
from infoatlas_rl.estimator.bounds import log_mean_exp
from infoatlas_rl.estimator.calibration import LEVELS, CalibratedHead, statistics
from infoatlas_rl.estimator.canonical import CanonicalEncoder, Maps
from infoatlas_rl.estimator.conditional import conditional_estimate
from infoatlas_rl.estimator.copula import NormalScores
from infoatlas_rl.estimator.critic import Coordinates, Critic, Side, gaussian_base, look_ahead, soft_clip, solve_last_layer
from infoatlas_rl.estimator.discrete import most_information
from infoatlas_rl.estimator.estimate import Estimate, estimate
from infoatlas_rl.estimator.hypernetwork import CriticParameters, Hypernetwork
from infoatlas_rl.estimator.layers import Phases, feature_count
from infoatlas_rl.transforms import fixed, outside_transforms
from infoatlas_rl.weights import read_model, weights_file, weights_stamp, write_model

FORMAT = "infoatlas-4"

CHOICES = {"padding": ("zero", "noise"), "hypernetwork": ("generated", "constant"), "ridge": ("generated", "fixed")}


@dataclass(frozen=True)
class InfoAtlasConfig:
    """Architecture of :class:`InfoAtlas`; stored in the header of every weights file."""

    max_dim: int = 20
    """D: largest dimension of x and of y; higher ones are sliced."""
    padding: str = "zero"
    """What missing columns are filled with: "zero", that is nothing, or "noise", independent and Gaussian (InfoAtlas,
    Proposition A.3)."""
    canonical_ridge: float = 1e-4
    side_width: int = 96
    side_features: int = 160
    """Most learned features of a side; how many are used grows with n."""
    variates: int = 8
    """r: nonlinear canonical variates of each side."""
    pair_width: int = 64
    phases: int = 96
    """Most phases of a pair, of two features each; how many are used grows with n."""
    width: int = 96
    """Of the latents of the dual-path encoder."""
    latents: int = 16
    joint_layers: int = 2
    marginal_layers: int = 1
    tokens: int = 512
    """Samples that the dual-path encoder reads, at most; a fixed random choice of them where there are more."""
    decoder_width: int = 192
    hypernetwork: str = "generated"
    """Or "constant": the same learned parameters for every data set; what is left is the plain solved last layer."""
    ridge: str = "generated"
    """Or "fixed"."""
    newton_steps: int = 2
    product_pairs: int = 10_000
    """Product samples aimed at: n times as many cyclic shifts as fit, at least ``min_shifts``, at most ``max_shifts``."""
    min_shifts: int = 2
    max_shifts: int = 5

    def __post_init__(self) -> None:
        check_numbers(self)
        for name, accepted in CHOICES.items():
            if getattr(self, name) not in accepted:
                raise ValueError(f"{name} has to be {' or '.join(accepted)}, not {getattr(self, name)!r}")
        if self.newton_steps < 2:
            raise ValueError(f"newton_steps has to be at least 2, not {self.newton_steps}")
        if self.min_shifts > self.max_shifts:
            raise ValueError(f"min_shifts {self.min_shifts} exceeds max_shifts {self.max_shifts}")

    def build(self) -> InfoAtlas:
        return InfoAtlas(self)


class InfoAtlas(nn.Module):
    """The estimator. Get a pretrained one with :meth:`from_pretrained`."""

    def __init__(self, config: InfoAtlasConfig | None = None) -> None:
        super().__init__()
        self.config = c = config or InfoAtlasConfig()
        self.encoder = CanonicalEncoder(c.max_dim, c.side_width, c.side_features, c.variates, c.canonical_ridge)
        self.phases = Phases(c.max_dim + c.variates, self.encoder.summary_size, c.pair_width, c.phases)
        self.hypernetwork = Hypernetwork(
            token=c.max_dim + c.variates,
            summary=self.encoder.summary_size,
            phases=c.phases,
            features=1 + 4 * c.variates + 2 * c.phases,
            encoder={
                "width": c.width,
                "latents": c.latents,
                "joint_layers": c.joint_layers,
                "marginal_layers": c.marginal_layers,
            },
            decoder_width=c.decoder_width,
            max_dim=c.max_dim,
            constant=c.hypernetwork == "constant",
            fixed_ridge=c.ridge == "fixed",
        )
        self.calibrated_head = CalibratedHead(self.encoder.summary_size)

    @classmethod
    def from_pretrained(cls, name: str = "base") -> InfoAtlas:
        """Load released weights by name, or a ``.safetensors`` file by path; frozen, in evaluation mode.

        Raises:
            WeightsError: no such weights, a wrong checksum, or another architecture. Never falls back to random weights.
        """
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
        classes: Sides | None = None,
    ) -> Estimate:
        """Mutual information in nats of paired samples, without gradients.

        Args:
            x: ``(n, dx)``, a batch of data sets ``(b, n, dx)``, or ``(n,)`` for a single variable; NumPy array, tensor or
                data frame. Integers, booleans and times (datetime64, timedelta64) are numbers: what counts is their order.
                Constant columns, and without slices those that follow exactly from others of their side by a linear or quadratic
                function, are left out: they say nothing new. Of one that nearly follows from those before it the rest takes its
                place; rows that are copies of others are left out with a warning.
            y: likewise, with dy.
            slices: average this many random ``k``-dimensional projections. None: none; sides of more than 20 dimensions then go
                through informative projections, see :mod:`infoatlas_rl.estimator.projection`, for which 64 samples are needed.
            bound: ``"dv"``, ``"nwj"``, ``"smile"`` or ``"infonce"``. The critic is normalised, so that nwj differs from dv
                only if cross-fitted; InfoNCE is at most log 6 = 1.8 nats with the five negatives per sample of small n.
            cross_fit: for ``bound``, write the critic on a random half of the rows and evaluate it on the other, both ways: a
                lower bound in expectation if rows are independent (not so in a time series), and a looser one.
            permutations: of a test of independence; 0 for none, 99 for p-values down to 0.01.
            seed: of slices and permutations.
            classes: ``"x"``, ``"y"`` or ``"both"``: these sides are class labels without an order, integers, booleans or words,
                ``(n,)`` or ``(b, n)``; they are one-hot encoded: more than 20 classes are more than 20 dimensions.

        Raises:
            TypeError, ValueError: what was given and what is accepted; NaN, NaT, infinity, fewer than 8 samples, or fewer than
                64 of more than 20 dimensions or classes without slices. Constant columns and ties are fine.
        """
        options = {"slices": slices, "k": k, "bound": bound, "cross_fit": cross_fit, "permutations": permutations}
        with torch.autocast(next(self.parameters()).device.type, enabled=False):
            return estimate(self, x, y, seed=seed, classes=classes, **options)

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
        normal = scores[0].fit_scores(x).float(), scores[1].fit_scores(y).float()
        z_x, z_y = self.padded(*normal, seed=0)
        through_parameters = torch.is_grad_enabled() and (full_gradient or self.training)

        def held(*tensors: Tensor) -> tuple[Tensor, ...]:
            # Detached as well: forward mode (torch.func.jvp) goes through where gradients are switched off.
            return tensors if through_parameters else tuple(t.detach() for t in tensors)

        maps, features = self.encoder.fit(z_x, z_y, differentiable=through_parameters)
        coordinates = self.coordinates(maps, z_x, z_y, features)
        count = 1 + 4 * self.config.variates + 2 * feature_count(x.shape[1], self.config.phases)
        with torch.set_grad_enabled(through_parameters):
            tokens = held(*self.tokens(coordinates))
            parameters = self.hypernetwork(*tokens, maps, x.shape[1], count)
        side_x, side_y = self.sides(coordinates, maps, parameters)
        i, j = self.product_index(x.shape[1], x.device, shifts)
        joint, base_joint = self.pair_features(side_x, side_y, parameters)
        product, base_product = self.pair_features(side_x.at(i), side_y.at(j), parameters)
        with torch.set_grad_enabled(through_parameters):
            fixed_joint, fixed_product, fixed_base, fixed_base_product = held(joint, product, base_joint, base_product)
            start = look_ahead(fixed_joint, fixed_product, fixed_base, fixed_base_product, parameters)
            parameters = self.hypernetwork.with_level(parameters, start.two_fold, x.shape[1])
            weights = solve_last_layer(
                fixed_joint, fixed_product, fixed_base_product, parameters, start.curvature, self.config.newton_steps
            )
        t_product = base_product + torch.einsum("bnm,bm->bn", product, weights)
        normaliser = log_mean_exp(t_product).detach().unsqueeze(-1)
        return Critic(
            scores=scores,
            normal=(normal[0].detach(), normal[1].detach()),
            maps=maps,
            parameters=parameters,
            weights=weights,
            two_fold=start.two_fold,
            normaliser=normaliser,
            features=(joint, product),
            coordinates=coordinates,
            joint=base_joint + torch.einsum("bnm,bm->bn", joint, weights) - normaliser,
            product=t_product - normaliser,
            base_joint=base_joint,
            base_product=base_product,
            see=lambda z_x, z_y: self.see(maps, parameters, *self.padded(z_x, z_y, seed=1)),
            pair=lambda x, y: self.pair_features(x, y, parameters),
        )

    def quantiles(self, critic: Critic) -> Tensor:
        """Quantiles of the MI of the data that a critic was written for, ``(b, len(LEVELS))``, in nats; none above the same
        quantile of the entropy of a discrete side, and 0 where they are below 1 / n, which n samples cannot tell from it."""
        quantiles = self.calibrated_head(statistics(critic), critic.maps.summary)
        n = critic.joint.shape[1]
        quantiles = torch.where(quantiles < 1 / n, 0.0, quantiles)
        return torch.minimum(quantiles, most_information(critic.entropies, n, LEVELS))

    def gradient_gain(self, critic: Critic) -> Tensor:
        """What the gradient of a bound is multiplied with so that its size is right on average, ``(b,)``."""
        return self.calibrated_head.gain(critic.maps.summary)

    def see(self, maps: Maps, parameters: CriticParameters, z_x: Tensor, z_y: Tensor) -> tuple[Side, Side]:
        """Normal scores of samples that the maps were not fitted on, as the critic sees them."""
        coordinates = self.coordinates(maps, z_x, z_y, self.encoder.standardised(maps, z_x, z_y))
        return self.sides(coordinates, maps, parameters)

    def padded(self, z_x: Tensor, z_y: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Both sides with noise up to D columns, where the configuration says so; zeros need not be there."""
        if self.config.padding == "zero":
            return z_x, z_y
        with outside_transforms():
            generator = torch.Generator().manual_seed(seed)
            noise = [
                torch.randn(*z.shape[:2], self.config.max_dim - z.shape[2], generator=generator, dtype=torch.float32)
                for z in (z_x, z_y)
            ]
        return torch.cat([z_x, noise[0].to(z_x)], dim=-1), torch.cat([z_y, noise[1].to(z_y)], dim=-1)

    def coordinates(
        self, maps: Maps, z_x: Tensor, z_y: Tensor, features: tuple[Tensor, Tensor]
    ) -> tuple[Coordinates, Coordinates]:
        """Linear and nonlinear canonical coordinates of both sides."""
        f, g = features
        if self.training:
            # The feature network of the encoder has a loss of its own; see pretraining.
            f, g = f.detach(), g.detach()
        return (
            Coordinates(maps.linear.x(z_x), f @ maps.nonlinear.map_x),
            Coordinates(maps.linear.y(z_y), g @ maps.nonlinear.map_y),
        )

    def tokens(self, coordinates: tuple[Coordinates, Coordinates]) -> tuple[Tensor, Tensor]:
        """What the dual-path encoder reads, ``(b, min(n, tokens), D + r)`` of each side."""
        n = coordinates[0].linear.shape[1]
        sides = [torch.cat([self.encoder.pad(side.linear), side.nonlinear], dim=-1) for side in coordinates]
        if n > self.config.tokens:
            chosen = _fixed_permutation(n)[: self.config.tokens].to(sides[0].device)
            sides = [side.index_select(1, chosen) for side in sides]
        return sides[0], sides[1]

    def sides(self, coordinates: tuple[Coordinates, Coordinates], maps: Maps, parameters: CriticParameters) -> tuple[Side, Side]:
        """Both sides as the critic sees them."""
        r = maps.linear.rho.shape[-1]
        count = (parameters.prior_mean.shape[-1] - 1) // 2 - 2 * self.config.variates
        out = []
        for which, side in enumerate(coordinates):
            # Nonlinear variates first: the linear coordinates may then end where they end.
            samples = torch.cat([side.nonlinear, side.linear], dim=-1)
            phases = self.phases(samples, maps.summary, parameters.frequencies[:, which], which, count)
            out.append(Side(side.linear[..., :r], side.nonlinear, phases))
        return out[0], out[1]

    def pair_features(self, x: Side, y: Side, parameters: CriticParameters) -> tuple[Tensor, Tensor]:
        """Features ``(b, N, m)`` and Gaussian base ``(b, N)`` of pairs: a constant, the terms of a Gaussian log ratio
        of each pair of variates, and sines and cosines of differences of phases."""
        p, q = x.variates, y.variates
        features = [torch.ones_like(p[..., :1]), p * q, p**2 + q**2, p, q]
        features = soft_clip(torch.cat(features, dim=-1), 4.0)
        difference = x.phases - y.phases
        base = gaussian_base(x.coordinates, y.coordinates, parameters.rho)
        return torch.cat([features, torch.sin(difference), torch.cos(difference)], dim=-1), soft_clip(base, 30.0)

    def shifts(self, n: int) -> int:
        """Product samples per joint sample."""
        c = self.config
        return min(max(c.product_pairs // n, c.min_shifts), c.max_shifts)

    def product_index(self, n: int, device: torch.device, shifts: int | None = None) -> tuple[Tensor, Tensor]:
        """Indices of the product samples ``(x_i, y_j), i != j``: distinct cyclic shifts of one fixed permutation.

        The permutation makes it unlikely that samples that are neighbours in time are paired.
        """
        shifts = min(shifts or self.shifts(n), n - 1)
        order, offsets = _fixed_permutation(n), _fixed_permutation(n - 1)[:shifts] + 1
        place = order.argsort()
        j = torch.cat([order[(place + offset) % n] for offset in offsets.unbind()])
        return torch.arange(n).repeat(shifts).to(device), j.to(device)


def load_pretrained(name: str | Path = "base") -> InfoAtlas:
    """Load released weights by name, or any weights file by path, in evaluation mode and frozen.

    Raises:
        WeightsError: no such weights, a wrong checksum (both are named), or another architecture. Weights are never
            replaced by random ones.
    """
    return read_weights(weights_file(name, FORMAT))[0].eval().requires_grad_(False).float()


def shared_pretrained(name: str | Path = "base") -> InfoAtlas:
    """:func:`load_pretrained`, read once while the file stays as it is; for functions that only estimate. Not to be changed."""
    return _read_once(name, weights_stamp(name))


@lru_cache(maxsize=4)
def _read_once(name: str | Path, stamp: tuple[Path, int, int] | None) -> InfoAtlas:
    return load_pretrained(name)


def write_weights(path: Path, model: InfoAtlas, record: dict[str, Any]) -> None:
    """Write weights with their configuration and a record of how they were made."""
    write_model(path, model, FORMAT, record)


def read_weights(path: Path) -> tuple[InfoAtlas, dict[str, Any]]:
    """Read a model and the record of how it was made; every tensor has to be there and to fit."""
    return read_model(path, FORMAT, lambda config: InfoAtlas(InfoAtlasConfig(**config)), "tasks/pretrain.py")


def estimate_mi(x: Any, y: Any, *, given: Any = None, units: str = "nats", weights: str = "base", **options: Any) -> Estimate:
    """Mutual information of paired samples in one call.

    Examples:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> x, noise = rng.normal(size=(2, 1000, 3))
        >>> found = estimate_mi(x, 0.8 * x + 0.6 * noise)       # the truth is 1.53
        >>> print(found)
        MI = 1.49... nats (90 %: 1.3... to 1.6...), n = 1000, d = 3 and 3
        >>> found.interval[0] < 1.53 < found.interval[1]
        True
        >>> estimate_mi(x, x[:, 0] > 0, classes="y", units="bits").units
        'bits'

    Args:
        x, y: arrays, tensors, data frames or series of n rows; see :meth:`InfoAtlas.estimate`, which also takes the
            further options.
        given: z, of the conditional information I(x; y | z), see
            :func:`infoatlas_rl.estimator.conditional.conditional_estimate`.
        units: ``"nats"`` or ``"bits"``.
    """
    if units not in ("nats", "bits"):
        raise ValueError(f"units has to be nats or bits, not {units!r}")
    model = shared_pretrained(weights)
    result = model.estimate(x, y, **options) if given is None else conditional_estimate(model, x, y, given, **options)
    return result.in_bits() if units == "bits" else result


@fixed
def _fixed_permutation(n: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(0))
