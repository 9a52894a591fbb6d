"""Estimates for people: mutual information of NumPy arrays, tensors or data frames, with what is known about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from infoatlas_rl.checks import MIN_SAMPLES, Sides, check_classes, check_samples, check_slices, check_whole
from infoatlas_rl.estimator.bounds import BOUNDS
from infoatlas_rl.estimator.collinear import without_collinear
from infoatlas_rl.estimator.critic import Critic
from infoatlas_rl.estimator.derived import without_derived
from infoatlas_rl.estimator.inputs import check_index, to_tensor, warn_outside_range, without_constants, without_copies
from infoatlas_rl.estimator.parts import chunks
from infoatlas_rl.estimator.projection import Projections
from infoatlas_rl.estimator.slicing import project, random_orthonormal

LN2 = float(np.log(2))

LEAST_TO_PROJECT = 64
"""Samples that informative projections can be found from."""
FIT_SAMPLES = 8192
"""The critic is written on a random choice of at most this many samples."""
MOST_SAMPLES = 32_768
"""A random choice of at most this many is looked at: sampling noise is then below half a per cent."""
TOGETHER = {"cpu": 10_000, "cuda": 50_000}
"""Samples of all data sets that are estimated at a time: what more need does not fit into the caches."""


@dataclass(frozen=True)
class Estimate:
    """Mutual information of one data set (floats) or of a batch (arrays ``(b,)``)."""

    mi: Any
    """Calibrated point estimate: the median of the MI given what the forward pass knows about the data set."""
    interval: Any
    """Calibrated 90 % interval ``(low, high)``."""
    bound: Any
    """The variational bound (Donsker-Varadhan by default) of the critic on the data it was written for, which can
    exceed the true MI where n is small for the dimension, and is at least 0, which the constant critic reaches; cross-fitted it
    does not exceed it, in expectation."""
    p_value: Any
    """Permutation test of independence, or None where no permutations were asked for."""
    n: int
    dims: tuple[int, int]
    units: str = "nats"
    given: int | None = None
    """Columns of z, where the information is conditional."""
    projected: tuple[int, int] | None = None
    """Most dimensions that x and y were projected to, where they had too many and no slices were asked for; ``mi`` and
    ``interval`` are then of the projections, which have at most as much information."""

    def in_bits(self) -> Estimate:
        """The same in bits."""
        if self.units == "bits":
            return self
        interval = tuple(v / LN2 for v in self.interval)
        return replace(self, mi=self.mi / LN2, bound=self.bound / LN2, interval=interval, units="bits")

    def __str__(self) -> str:
        if np.ndim(self.mi):
            return f"MI of {len(self.mi)} data sets: {np.array2string(np.asarray(self.mi), precision=3)} {self.units}"
        name = "MI" if self.given is None else "conditional MI"
        text = f"{name} = {self.mi:.3f} {self.units} (90 %: {self.interval[0]:.3f} to {self.interval[1]:.3f})"
        if self.p_value is not None:
            text += f", p = {self.p_value:.3g}"
        text = f"{text}, n = {self.n}, d = {self.dims[0]} and {self.dims[1]}"
        if self.given is not None:
            text += f", given {self.given}"
        if self.projected is not None:
            text += f", projected to {self.projected[0]} and {self.projected[1]}: a lower bound"
        return text


class CriticWriter(Protocol):
    """What an estimate needs of :class:`~infoatlas_rl.estimator.model.InfoAtlas`."""

    config: Any

    def __call__(self, x: Tensor, y: Tensor) -> Critic: ...

    def parameters(self) -> Iterator[Tensor]: ...

    def quantiles(self, critic: Critic) -> Tensor: ...

    def product_index(self, n: int, device: torch.device) -> tuple[Tensor, Tensor]: ...


@torch.no_grad()
def estimate(
    model: CriticWriter,
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
    """What :meth:`InfoAtlas.estimate` does."""
    check_classes(classes)
    if bound not in BOUNDS:
        raise ValueError(f"bound has to be one of {', '.join(BOUNDS)}, not {bound!r}")
    if slices is not None:
        check_slices(slices, k, model.config.max_dim)
    check_whole("permutations", permutations, least=0)
    check_whole("seed", seed)
    check_index(x, y)
    device = next(model.parameters()).device
    x, y = (to_tensor(name, samples, classes in (name, "both")).to(device) for name, samples in (("x", x), ("y", y)))
    x, y, batched = check_samples(x, y, None, classes=classes)
    dims = x.shape[2], y.shape[2]
    x, y = _without_repetitions(x, y, None if slices is not None else model.config.max_dim)
    n = x.shape[1]
    if cross_fit and n < 2 * MIN_SAMPLES:
        raise ValueError(f"x and y have n = {n} samples; cross_fit needs at least {2 * MIN_SAMPLES}")
    warn_outside_range(x, y)
    # What is held out is a part of the rows: in a sorted table or a time series one end would not be like the other.
    shuffled = torch.randperm(n, generator=torch.Generator().manual_seed(1))[:MOST_SAMPLES].to(device)
    views = _Views(model, x[:, shuffled], y[:, shuffled], slices, k, int(seed))

    def quantiles_and_bound(x: Tensor, y: Tensor) -> Tensor:
        critic, in_sample = _in_sample(model, x, y, bound)
        return torch.cat([model.quantiles(critic), in_sample.unsqueeze(-1)], dim=-1)

    values = views.mean(quantiles_and_bound)
    quantiles, value = values[:, :-1], values[:, -1]
    p_value = None
    if permutations:
        exceeded = torch.ones_like(value, dtype=torch.float64)
        for _ in range(permutations):
            exceeded += views.mean(lambda a, b: _in_sample(model, a, b, bound)[1], permuted=True) >= value
        p_value = exceeded / (permutations + 1)
    if cross_fit:
        value = views.mean(lambda a, b: cross_fitted(model, a, b, bound))

    def plain(t: Tensor | None) -> Any:
        return None if t is None else t.double().cpu().numpy() if batched else float(t[0])

    middle = quantiles.shape[-1] // 2
    return Estimate(
        mi=plain(quantiles[:, middle]),
        interval=(plain(quantiles[:, 0]), plain(quantiles[:, -1])),
        bound=plain(value if cross_fit else value.clamp(min=0.0)),
        p_value=plain(p_value),
        n=n,
        dims=dims,
        projected=views.projected,
    )


def _without_repetitions(x: Tensor, y: Tensor, limit: int | None) -> tuple[Tensor, Tensor]:
    """Samples without columns that are constant, rows that are copies, and columns that others tell.

    Args:
        limit: most columns that are estimated as they are; what has more is projected. None: random slices are, of all columns.

    Raises:
        ValueError: too few samples to project.
    """
    x, y = without_copies(without_constants(x), without_constants(y))
    if limit is None:
        return x, y
    if max(x.shape[2], y.shape[2]) <= limit:
        x, y = without_collinear(x), without_collinear(y)
    x, y = without_derived(x), without_derived(y)
    most = max(x.shape[2], y.shape[2])
    if most > limit and x.shape[1] < LEAST_TO_PROJECT:
        raise ValueError(
            f"x and y have n = {x.shape[1]} samples; to find projections of {most} dimensions at least {LEAST_TO_PROJECT} are "
            "needed; pass slices=25, k=5 for random ones"
        )
    return x, y


class _Views:
    """What an estimate is the mean of: random slices, or the data as they are, or, if these have too many dimensions, two halves
    projected to what is informative.

    Args:
        x, y: ``(b, n, dx)`` and ``(b, n, dy)``, in no order.
        slices: how many, of ``k`` dimensions; None for no slices.
        seed: of slices, projections and permutations.
    """

    def __init__(self, model: CriticWriter, x: Tensor, y: Tensor, slices: int | None, k: int, seed: int) -> None:
        self._x, self._y = x, y
        self._generator = torch.Generator().manual_seed(seed)
        self._frames: list[Tensor] | None = None
        self._projected: list[list[tuple[Tensor, Tensor]]] | None = None
        if slices is not None:
            drawn = {"generator": self._generator, "dtype": x.dtype, "device": x.device}
            self._frames = [random_orthonormal(slices, side.shape[2], k, **drawn) for side in (x, y)]
        elif max(x.shape[2], y.shape[2]) > model.config.max_dim:
            self._projected = [_projected(model, a, b, seed) for a, b in zip(x, y, strict=True)]

    @property
    def projected(self) -> tuple[int, int] | None:
        """Most dimensions that x and y were projected to."""
        if self._projected is None:
            return None
        pairs = [pair for pairs in self._projected for pair in pairs]
        return max(a.shape[2] for a, _ in pairs), max(b.shape[2] for _, b in pairs)

    def mean(self, of: Callable[[Tensor, Tensor], Tensor], *, permuted: bool = False) -> Tensor:
        """The mean ``(b, ...)`` of what ``of`` returns of every view, of rows that are paired anew with ``permuted=True``."""
        if self._projected is not None:
            return torch.cat(
                [sum(of(*self._paired(*pair, permuted)) for pair in pairs) / len(pairs) for pairs in self._projected]
            )
        x, y = self._paired(self._x, self._y, permuted)
        if self._frames is not None:
            x, y = (project(side, frames) for side, frames in zip((x, y), self._frames, strict=True))
        values = torch.cat([of(*part) for part in chunks(x, y, TOGETHER.get(x.device.type, TOGETHER["cuda"]))])
        return rearrange(values, "(b s) ... -> b s ...", b=len(self._x)).mean(1)

    def _paired(self, x: Tensor, y: Tensor, permuted: bool) -> tuple[Tensor, Tensor]:
        return (x, y[:, torch.randperm(y.shape[1], generator=self._generator).to(y.device)]) if permuted else (x, y)


def _projected(model: CriticWriter, x: Tensor, y: Tensor, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Two data sets ``(1, n / 2, k)`` of one, ``(n, d)``: each half of the rows, projected to what the other half showed to be
    informative."""
    half = len(x) // 2
    pairs = []

    def worth(x: Tensor, y: Tensor) -> float:
        # Of fewer samples nothing can be said; then what is simpler is kept.
        return float(cross_fitted(model, x[None], y[None], "dv")) if len(x) >= 2 * MIN_SAMPLES else 0.0

    for fit, held in ((slice(half), slice(half, None)), (slice(half, None), slice(half))):
        projections = Projections(x[fit], y[fit], model.config.max_dim, seed, worth)
        pairs.append((projections.x(x[held])[None], projections.y(y[held])[None]))
    return pairs


def _in_sample(model: CriticWriter, x: Tensor, y: Tensor, bound: str) -> tuple[Critic, Tensor]:
    """The critic, written on the first ``FIT_SAMPLES`` rows, which are in no order, and the bound ``(b,)`` on all; that of
    InfoNCE on those, as it is limited by how many product samples there are for a joint one.
    """
    critic = model(x[:, :FIT_SAMPLES], y[:, :FIT_SAMPLES])
    if x.shape[1] <= FIT_SAMPLES or bound == "infonce":
        return critic, BOUNDS[bound](critic.joint, critic.product)
    joint, product = [critic.joint], [critic.product[:, :FIT_SAMPLES]]
    for first in range(FIT_SAMPLES, x.shape[1], FIT_SAMPLES):
        part = slice(first - 1, first + FIT_SAMPLES)  # a product sample is of a row and of the one before
        side_x, side_y = critic.sides(x[:, part], y[:, part])
        rows = torch.arange(1, side_x.phases.shape[1], device=x.device)
        joint.append(critic.values(side_x.at(rows), side_y.at(rows))[0])
        product.append(critic.values(side_x.at(rows), side_y.at(rows - 1))[0])
    return critic, BOUNDS[bound](torch.cat(joint, -1), torch.cat(product, -1))


def cross_fitted(model: CriticWriter, x: Tensor, y: Tensor, bound: str) -> Tensor:
    """The critic of one half of the rows evaluated on the other, both ways: in expectation never above the true MI where
    rows are independent and in no order."""
    half = x.shape[1] // 2
    first, second = slice(0, half), slice(half, None)

    def held_out(x: Tensor, y: Tensor, fit: slice, held: slice) -> Tensor:
        critic = model(x[:, fit], y[:, fit])
        side_x, side_y = critic.sides(x[:, held], y[:, held])
        i, j = model.product_index(side_x.phases.shape[1], x.device)
        joint, _ = critic.values(side_x, side_y)
        product, _ = critic.values(side_x.at(i), side_y.at(j))
        return BOUNDS[bound](joint, product)

    return (held_out(x, y, first, second) + held_out(x, y, second, first)) / 2
