"""Estimates for people: mutual information of NumPy arrays, tensors or data frames, with what is known about it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from infoatlas_rl.bounds import BOUNDS
from infoatlas_rl.checks import MIN_SAMPLES, check_samples, check_slices
from infoatlas_rl.slicing import project, random_orthonormal
from infoatlas_rl.weights import load_pretrained

if TYPE_CHECKING:
    from infoatlas_rl.model import InfoAtlas

LN2 = float(np.log(2))


class OutsideTrainingRangeWarning(UserWarning):
    """The estimate is asked for sizes or values that the network was not trained on."""


@dataclass(frozen=True)
class Estimate:
    """Mutual information of one data set (floats) or of a batch (arrays ``(b,)``)."""

    mi: Any
    """Best point estimate: the bound, not below 0."""
    bound: Any
    """The variational bound (Donsker-Varadhan by default) of the critic on the data it was written for, which can
    exceed the true MI where n is small for the dimension; cross-fitted it does not, in expectation."""
    interval: Any
    """90 % interval ``(low, high)``, or None where the weights have no calibrated head."""
    p_value: Any
    """Permutation test of independence, or None where no permutations were asked for."""
    n: int
    dims: tuple[int, int]
    units: str = "nats"

    def in_bits(self) -> Estimate:
        """The same in bits."""
        if self.units == "bits":
            return self
        interval = None if self.interval is None else tuple(v / LN2 for v in self.interval)
        return replace(self, mi=self.mi / LN2, bound=self.bound / LN2, interval=interval, units="bits")

    def __str__(self) -> str:
        if np.ndim(self.mi):
            return f"MI of {len(self.mi)} data sets: {np.array2string(np.asarray(self.mi), precision=3)} {self.units}"
        text = f"MI = {self.mi:.3f} {self.units}"
        if self.interval is not None:
            text += f" (90 %: {self.interval[0]:.3f} to {self.interval[1]:.3f})"
        if self.p_value is not None:
            text += f", p = {self.p_value:.3g}"
        return f"{text}, n = {self.n}, d = {self.dims[0]} and {self.dims[1]}"


def estimate_mi(x: Any, y: Any, *, units: str = "nats", weights: str = "base", **options: Any) -> Estimate:
    """Mutual information of paired samples in one call.

    ::

        print(estimate_mi(frame[["height", "weight"]], frame["age"]))

    Args:
        x, y: arrays, tensors, data frames or series of n rows; see :meth:`InfoAtlas.estimate`, which also takes the
            further options.
        units: ``"nats"`` or ``"bits"``.
    """
    if units not in ("nats", "bits"):
        raise ValueError(f"units has to be nats or bits, not {units!r}")
    result = load_pretrained(weights).estimate(x, y, **options)
    return result.in_bits() if units == "bits" else result


@torch.no_grad()
def estimate(
    model: InfoAtlas,
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
    """What :meth:`InfoAtlas.estimate` does."""
    if bound not in BOUNDS:
        raise ValueError(f"bound has to be one of {', '.join(BOUNDS)}, not {bound!r}")
    if slices is not None:
        check_slices(slices, k, model.config.max_dim)
    if permutations < 0:
        raise ValueError(f"permutations has to be 0 or more, not {permutations}")
    device = next(model.parameters()).device
    x, y = (_to_tensor(name, samples, device) for name, samples in (("x", x), ("y", y)))
    x, y, batched = check_samples(x, y, None if slices is not None else model.config.max_dim)
    if cross_fit and x.shape[1] < 2 * MIN_SAMPLES:
        raise ValueError(f"x and y have n = {x.shape[1]} samples; cross_fit needs at least {2 * MIN_SAMPLES}")
    _warn_outside_range(x, y)
    n, dims = x.shape[1], (x.shape[2], y.shape[2])
    generator = torch.Generator().manual_seed(seed)
    frames = None
    if slices is not None:
        frames = tuple(random_orthonormal(slices, d, k, generator=generator, dtype=x.dtype, device=device) for d in dims)

    def bounds(x: Tensor, y: Tensor) -> Tensor:
        sets = len(x)
        if frames is not None:
            x, y = project(x, frames[0]), project(y, frames[1])
        values = _cross_fitted(model, x, y, bound) if cross_fit else _in_sample(model, x, y, bound)
        return rearrange(values, "(b s) -> b s", b=sets).mean(-1)

    value = bounds(x, y)
    p_value = None
    if permutations:
        exceeded = torch.ones_like(value)
        for _ in range(permutations):
            order = torch.randperm(n, generator=generator).to(device)
            exceeded += bounds(x, y[:, order]) >= value
        p_value = exceeded / (permutations + 1)

    def plain(t: Tensor | None) -> Any:
        return None if t is None else t.double().cpu().numpy() if batched else float(t[0])

    return Estimate(mi=plain(value.clamp(min=0)), bound=plain(value), interval=None, p_value=plain(p_value), n=n, dims=dims)


def _in_sample(model: InfoAtlas, x: Tensor, y: Tensor, bound: str) -> Tensor:
    critics = (model(a, b) for a, b in _chunks(x, y))
    return torch.cat([BOUNDS[bound](critic.joint, critic.product) for critic in critics])


def _cross_fitted(model: InfoAtlas, x: Tensor, y: Tensor, bound: str) -> Tensor:
    """The critic of one half evaluated on the other, both ways: in expectation never above the true MI."""
    half = x.shape[1] // 2
    first, second = slice(0, half), slice(half, None)

    def held_out(x: Tensor, y: Tensor, fit: slice, held: slice) -> Tensor:
        critic = model(x[:, fit], y[:, fit])
        side_x, side_y = critic.sides(x[:, held], y[:, held])
        i, j = model.product_index(side_x.coordinates.shape[1], x.device)
        joint, _ = critic.values(side_x, side_y)
        product, _ = critic.values(side_x.at(i), side_y.at(j))
        return BOUNDS[bound](joint, product)

    return torch.cat([(held_out(a, b, first, second) + held_out(a, b, second, first)) / 2 for a, b in _chunks(x, y)])


def _chunks(x: Tensor, y: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Fewer data sets at a time where they are large: the product samples of a batch would fill the memory."""
    most = max(1, 200_000 // x.shape[1])
    return zip(x.split(most), y.split(most), strict=True)


def _to_tensor(name: str, samples: Any, device: torch.device) -> Tensor:
    if not isinstance(samples, Tensor):
        try:
            samples = torch.from_numpy(np.asarray(samples, dtype=np.float64))
        except (TypeError, ValueError) as error:
            raise TypeError(f"{name} cannot be read as an array of numbers: {error}") from error
    if samples.dtype in (torch.float16, torch.bfloat16):
        samples = samples.float()
    elif not samples.is_floating_point():
        samples = samples.double()
    return (samples.unsqueeze(-1) if samples.ndim == 1 else samples).to(device)


def _warn_outside_range(x: Tensor, y: Tensor) -> None:
    n = x.shape[1]
    if not 64 <= n <= 5000:
        _warn(f"n = {n} is outside the 64 to 5000 samples that the network was trained on")
    for name, samples in (("x", x), ("y", y)):
        ties = (samples.sort(dim=1).values.diff(dim=1) == 0).double().mean(1)
        ties = float(torch.where(ties < 1, ties, 0.0).max())  # constant columns are harmless
        if ties > 0.5:
            _warn(f"a column of {name} has {ties:.0%} ties; the network saw discrete data with few values only in part")


def _warn(message: str) -> None:
    # Up through this module, torch's decorator and InfoAtlas.estimate, to the line of the caller.
    warnings.warn(message, OutsideTrainingRangeWarning, stacklevel=6)
