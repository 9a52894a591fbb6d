"""What an estimate is given: arrays of any kind as tensors, without what is constant or repeated, and a warning of what the
network was not trained on."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infoatlas_rl.checks import MIN_SAMPLES
from infoatlas_rl.columns import as_numbers, missing_in
from infoatlas_rl.estimator.canonical import TRAINED_SAMPLES
from infoatlas_rl.estimator.discrete import distinct_rows

TRAINED = (TRAINED_SAMPLES, 50_000)
"""Samples: of the smallest data set in training, and of the largest one that the estimator was tested with."""
MOST_TIES = 0.95
"""Share of equal values in a column, from which on the network has hardly seen such data."""


class OutsideTrainingRangeWarning(UserWarning):
    """The estimate is asked for sizes or values that the network was not trained on."""


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
    check_dense(name, samples)
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
        table = getattr(samples, "ndim", 1) > 1
        hint = "give its text columns as numbers, as pandas.get_dummies does" if table else f"class labels: classes={name!r}"
        hint = "" if labels else f" ({hint})"
        raise TypeError(f"{name} cannot be read as an array of numbers{hint}: {error}") from error
    if without.any():
        row = int(np.flatnonzero(without)[0]) + 1
        raise ValueError(f"{name} has no label in row {row} ({int(without.sum())} in all): drop those rows of x and of y")
    if without_time:
        raise ValueError(f"{name} contains NaT, so samples without a time: drop those rows of x and of y")
    return tensor


def on_host(samples: Any) -> Any:
    """A tensor so that NumPy can read it, of at least single precision; all else as it is."""
    if not isinstance(samples, Tensor):
        return samples
    return (samples.float() if samples.dtype in (torch.float16, torch.bfloat16) else samples).detach().cpu()


def check_dense(name: str, samples: Any) -> None:
    """Raise a ``TypeError`` for a sparse matrix of SciPy."""
    if hasattr(samples, "toarray"):
        raise TypeError(f"{name} is a sparse matrix; give {name}.toarray()")


def check_index(x: Any, y: Any, name: str = "y", first: str = "x") -> None:
    """Raise a ``ValueError`` where two data frames are in different orders."""
    if all(hasattr(samples, "iloc") for samples in (x, y)) and len(x) == len(y) and not x.index.equals(y.index):
        raise ValueError(
            f"{first} and {name} have different indexes, but samples are paired by position; bring them into one order "
            f"({name}.loc[{first}.index]) or give .to_numpy()"
        )


def warn_outside_range(x: Tensor, y: Tensor) -> None:
    """Warn of numbers of samples, and of ties, that the network was not trained on."""
    n = x.shape[1]
    if not TRAINED[0] <= n <= TRAINED[1]:
        warn(f"n = {n} is outside the {TRAINED[0]} to {TRAINED[1]} samples that the estimator was made for")
    for name, samples in (("x", x), ("y", y)):
        # A value that most samples have is the median.
        same = (samples == samples.median(dim=1, keepdim=True).values).float().mean(1)
        if bool(((same > MOST_TIES) & (same < 1)).any()):
            warn(f"a column of {name} has the same value in more than {MOST_TIES:.0%} of the samples; the network saw fewer ties")


def warn(message: str) -> None:
    """An :class:`OutsideTrainingRangeWarning` at the line of the caller of this library."""
    level, frame = 1, sys._getframe()
    while frame.f_back is not None and frame.f_globals["__name__"].split(".")[0] in ("infoatlas_rl", "torch"):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, OutsideTrainingRangeWarning, stacklevel=level)
