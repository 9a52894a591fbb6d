"""Estimates for people: mutual information of NumPy arrays, tensors or data frames, with what is known about it."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from infoatlas_rl.checks import MIN_SAMPLES, Sides, check_classes, check_samples, check_slices, check_whole
from infoatlas_rl.columns import as_numbers, missing_in
from infoatlas_rl.estimator.bounds import BOUNDS
from infoatlas_rl.estimator.canonical import TRAINED_SAMPLES
from infoatlas_rl.estimator.collinear import without_collinear
from infoatlas_rl.estimator.critic import Critic
from infoatlas_rl.estimator.derived import without_derived
from infoatlas_rl.estimator.discrete import distinct_rows
from infoatlas_rl.estimator.parts import chunks
from infoatlas_rl.estimator.projection import Projections
from infoatlas_rl.estimator.slicing import project, random_orthonormal

LN2 = float(np.log(2))

TRAINED = (TRAINED_SAMPLES, 50_000)
"""Samples: of the smallest data set in training, and of the largest one that the estimator was tested with."""
MOST_TIES = 0.95
"""Share of equal values in a column, from which on the network has hardly seen such data."""

LEAST_TO_PROJECT = 64
"""Samples that informative projections can be found from."""
FIT_SAMPLES = 8192
"""The critic is written on a random choice of at most this many samples."""
MOST_SAMPLES = 32_768
"""A random choice of at most this many is looked at: sampling noise is then below half a per cent."""
TOGETHER = {"cpu": 10_000, "cuda": 50_000}
"""Samples of all data sets that are estimated at a time: what more need does not fit into the caches."""


class OutsideTrainingRangeWarning(UserWarning):
    """The estimate is asked for sizes or values that the network was not trained on."""


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
    device = next(model.parameters()).device
    check_index(x, y)
    x, y = (to_tensor(name, samples, classes in (name, "both")).to(device) for name, samples in (("x", x), ("y", y)))
    x, y, batched = check_samples(x, y, None, classes=classes)
    dims = x.shape[2], y.shape[2]
    x, y = without_constants(x), without_constants(y)
    x, y = without_copies(x, y)
    limit = model.config.max_dim
    if slices is None and max(x.shape[2], y.shape[2]) <= limit:
        x, y = without_collinear(x), without_collinear(y)
    if slices is None:
        x, y = without_derived(x), without_derived(y)
    most = max(x.shape[2], y.shape[2])
    if slices is None and most > limit and x.shape[1] < LEAST_TO_PROJECT:
        raise ValueError(
            f"x and y have n = {x.shape[1]} samples; to find projections of {most} dimensions at least {LEAST_TO_PROJECT} are "
            "needed; pass slices=25, k=5 for random ones"
        )
    if cross_fit and x.shape[1] < 2 * MIN_SAMPLES:
        raise ValueError(f"x and y have n = {x.shape[1]} samples; cross_fit needs at least {2 * MIN_SAMPLES}")
    _warn_outside_range(x, y)
    n = x.shape[1]
    # What is held out is a part of the rows: in a sorted table or a time series one end would not be like the other.
    shuffled = torch.randperm(n, generator=torch.Generator().manual_seed(1))[:MOST_SAMPLES].to(device)
    x, y = x[:, shuffled], y[:, shuffled]
    generator = torch.Generator().manual_seed(int(seed))
    frames, views = None, None
    if slices is not None:
        frames = tuple(
            random_orthonormal(slices, d, k, generator=generator, dtype=x.dtype, device=device) for d in (x.shape[2], y.shape[2])
        )
    elif most > limit:
        views = [_projected(model, a, b, int(seed)) for a, b in zip(x, y, strict=True)]

    together = TOGETHER.get(device.type, TOGETHER["cuda"])

    def averaged(of: Callable[[Tensor, Tensor], Tensor], *, permuted: bool = False) -> Tensor:
        """Mean over slices or projections of what ``of`` returns, ``(b, ...)``."""

        def paired(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
            return (a, b[:, torch.randperm(b.shape[1], generator=generator).to(device)]) if permuted else (a, b)

        if views is not None:
            return torch.cat([sum(of(*paired(*pair)) for pair in pairs) / len(pairs) for pairs in views])
        a, b = paired(x, y)
        if frames is not None:
            a, b = project(a, frames[0]), project(b, frames[1])
        values = torch.cat([of(*part) for part in chunks(a, b, together)])
        return rearrange(values, "(b s) ... -> b s ...", b=len(x)).mean(1)

    def quantiles_and_bound(x: Tensor, y: Tensor) -> Tensor:
        critic, in_sample = _in_sample(model, x, y, bound)
        return torch.cat([model.quantiles(critic), in_sample.unsqueeze(-1)], dim=-1)

    values = averaged(quantiles_and_bound)
    quantiles, value = values[:, :-1], values[:, -1]
    p_value = None
    if permutations:
        exceeded = torch.ones_like(value, dtype=torch.float64)
        for _ in range(permutations):
            exceeded += averaged(lambda a, b: _in_sample(model, a, b, bound)[1], permuted=True) >= value
        p_value = exceeded / (permutations + 1)
    if cross_fit:
        value = averaged(lambda a, b: cross_fitted(model, a, b, bound))
    sizes = None if views is None else [(a.shape[2], b.shape[2]) for pairs in views for a, b in pairs]

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
        projected=None if sizes is None else (max(size[0] for size in sizes), max(size[1] for size in sizes)),
    )


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


def without_copies(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """A data set without the rows that are copies of others, with a warning, as they are no further samples, and what is nearest
    to a row would be its copy. Of several data sets the warning alone."""
    found = [distinct_rows(*pair) for pair in zip(x, y, strict=True)]
    copies = [int((~distinct).sum()) for distinct in found if distinct is not None]
    if not copies:
        return x, y
    rest = x.shape[1] - copies[0]
    if len(x) > 1 or rest < MIN_SAMPLES:
        warn(f"{copies[0]} of {x.shape[1]} rows are copies of others, which look like dependence; leave them out")
        return x, y
    warn(f"{copies[0]} of {x.shape[1]} rows are copies of others; the estimate is of the {rest} different ones")
    return x[:, found[0]], y[:, found[0]]


def without_constants(samples: Tensor) -> Tensor:
    """Samples ``(b, n, d)`` without the columns that are constant in all data sets, which say nothing; one is left."""
    varies = (samples != samples[:, :1]).any(1).any(0)
    if bool(varies.all()):
        return samples
    varies[0] |= ~varies.any()
    return samples[..., varies]


def to_tensor(name: str, samples: Any, labels: bool) -> Tensor:
    """Any array as a tensor of at least single precision; class labels as integers."""
    if isinstance(samples, Tensor):
        return samples.float() if samples.dtype in (torch.float16, torch.bfloat16) else samples
    if np.ma.is_masked(samples):
        raise ValueError(f"{name} has masked values, so samples without them: drop those rows of x and of y")
    without = np.zeros(0, dtype=bool)
    try:
        array = np.asarray(samples)
        without_time = array.dtype.kind in "mM" and bool(np.isnat(array).any())
        if labels and array.dtype.kind != "f":
            without = missing_in(array.ravel())
            words = array.astype(str) if array.dtype == object else array  # which have an order whatever they are
            array = np.unique(words, return_inverse=True)[1].reshape(array.shape)
        elif array.dtype.kind in "iumM":
            if array.dtype == np.uint64 and array.size and array.max() > np.iinfo(np.int64).max:
                array = (array - array.min()) >> (np.ptp(array) > np.iinfo(np.int64).max)
            array = array.astype(np.int64)
        elif not np.iscomplexobj(array):
            array = np.array(as_numbers(array) if array.dtype == object else array, dtype=np.float64)
        tensor = torch.from_numpy(array)
    except (TypeError, ValueError) as error:
        hint = "" if labels else f" (class labels: classes={name!r})"
        raise TypeError(f"{name} cannot be read as an array of numbers{hint}: {error}") from error
    if without.any():
        row = int(np.flatnonzero(without)[0]) + 1
        raise ValueError(f"{name} has no label in row {row} ({int(without.sum())} in all): drop those rows of x and of y")
    if without_time:
        raise ValueError(f"{name} contains NaT, so samples without a time: drop those rows of x and of y")
    return tensor


def check_index(x: Any, y: Any, name: str = "y", first: str = "x") -> None:
    """Raise a ``ValueError`` where two data frames are in different orders."""
    if all(hasattr(samples, "iloc") for samples in (x, y)) and len(x) == len(y) and not x.index.equals(y.index):
        raise ValueError(
            f"{first} and {name} have different indexes, but samples are paired by position; bring them into one order "
            f"({name}.loc[{first}.index]) or give .to_numpy()"
        )


def _warn_outside_range(x: Tensor, y: Tensor) -> None:
    n = x.shape[1]
    if not TRAINED[0] <= n <= TRAINED[1]:
        warn(f"n = {n} is outside the {TRAINED[0]} to {TRAINED[1]} samples that the estimator was made for")
    for name, samples in (("x", x), ("y", y)):
        # A value that most samples have is the median.
        same = (samples == samples.median(dim=1, keepdim=True).values).float().mean(1)
        if bool(((same > MOST_TIES) & (same < 1)).any()):
            warn(f"a column of {name} has the same value in more than {MOST_TIES:.0%} of the samples; the network saw fewer ties")


def warn(message: str) -> None:
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals["__name__"].split(".")[0] in ("infoatlas_rl", "torch"):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, OutsideTrainingRangeWarning, stacklevel=level)  # the line of the caller
