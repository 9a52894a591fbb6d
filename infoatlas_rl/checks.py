"""Checks of samples given by a user; every message says what was given and what is accepted."""

from __future__ import annotations

import math
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

MIN_SAMPLES = 16
"""Fewer samples than this are refused."""


def check_numbers(config: Any, *, or_zero: tuple[str, ...] = ()) -> None:
    """Raise a ``ValueError`` where a number among the fields of a dataclass is not positive and finite, or 0 where it may be."""
    for name, value in vars(config).items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if not (0 < value < math.inf or (value == 0 and name in or_zero)):
            raise ValueError(f"{name} has to be {'0 or more' if name in or_zero else 'positive'}, not {value}")


def check_slices(slices: int, k: int, max_dim: int) -> None:
    """Raise a ``ValueError`` for numbers of slices and slice dimensions that are not possible."""
    for name, value in (("slices", slices), ("k", k)):
        if not isinstance(value, Integral):
            raise ValueError(f"{name} has to be an integer, not {value!r}")
    if slices < 1:
        raise ValueError(f"slices has to be at least 1, or None for no slicing, not {slices}")
    if not 1 <= k <= max_dim:
        raise ValueError(f"k has to be 1 to {max_dim}, not {k}")


def check_samples(x: Tensor, y: Tensor, max_dim: int | None) -> tuple[Tensor, Tensor, bool]:
    """Bring paired samples to ``(b, n, d)``; returns them and whether they came as a batch.

    Raises:
        TypeError: not floating-point tensors.
        ValueError: shapes, sizes or values that are not accepted; the message names the argument.
    """
    for name, samples in (("x", x), ("y", y)):
        if not isinstance(samples, Tensor):
            raise TypeError(f"{name} has to be a torch.Tensor, not {type(samples).__name__}")
        if not samples.is_floating_point():
            raise TypeError(f"{name} has to be of a floating-point type, not {samples.dtype}; use {name}.float()")
        if samples.ndim not in (2, 3):
            raise ValueError(f"{name} has shape {tuple(samples.shape)}; accepted are (n, d) and (b, n, d)")
        if 0 in samples.shape:
            raise ValueError(f"{name} has shape {tuple(samples.shape)} and so is empty")
    if x.ndim != y.ndim or x.shape[:-1] != y.shape[:-1]:
        raise ValueError(
            f"x has shape {tuple(x.shape)} and y has shape {tuple(y.shape)}; all but the last dimension have to agree, "
            "for the samples are pairs"
        )
    if x.device != y.device:
        raise ValueError(f"x is on {x.device}, y is on {y.device}; they have to be on one device")
    n = x.shape[-2]
    if n < MIN_SAMPLES:
        raise ValueError(f"x and y have n = {n} samples; at least {MIN_SAMPLES} are needed")
    for name, samples in (("x", x), ("y", y)):
        if max_dim is not None and samples.shape[-1] > max_dim:
            raise ValueError(
                f"{name} has {samples.shape[-1]} dimensions, at most {max_dim} are possible without slicing; pass slices=25, k=5"
            )
        if not bool(torch.isfinite(samples.detach()).all()):
            raise ValueError(f"{name} contains NaN or infinity")
    if x.ndim == 2:
        return x.unsqueeze(0), y.unsqueeze(0), False
    return x, y, True
