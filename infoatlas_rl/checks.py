"""Checks of samples given by a user; every message says what was given and what is accepted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields
from numbers import Integral, Real
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from infoatlas_rl.transforms import transformed

Sides = Literal["x", "y", "both"]

MIN_SAMPLES = 8
"""Fewer samples than this are refused."""


_KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "int": (Integral, "an integer"),
    "float": (Real, "a number"),
    "bool": (bool, "true or false"),
    "str": (str, "text"),
    "list[float]": ((list, tuple), "a list of numbers"),
    "dict[str, Any]": (Mapping, "options by name"),
}
MOST_INTEGER = 2**63 - 1


def check_kinds(config: Any, prefix: str = "") -> None:
    """Raise a ``ValueError`` where a field of a dataclass holds another kind of value than it is declared with.

    Args:
        prefix: of the names in messages, as ``"training."``.
    """

    def fits(value: Any, kind: str) -> bool:
        if kind == "Any":  # is checked where it is read
            return True
        if kind not in _KINDS:  # another dataclass
            return type(value).__name__ == kind
        if isinstance(value, bool) != (kind == "bool"):
            return False
        return isinstance(value, _KINDS[kind][0]) and not (isinstance(value, Integral) and abs(value) > MOST_INTEGER)

    for field in fields(config):
        value, kind, optional = getattr(config, field.name), *str(field.type).partition(" | None")[:2]
        if optional and value is None:
            continue
        if not fits(value, kind) or (kind == "list[float]" and not all(fits(entry, "float") for entry in value)):
            accepted = _KINDS[kind][1] if kind in _KINDS else f"a {kind}"
            raise ValueError(f"{prefix}{field.name} has to be {accepted}{' or null' * bool(optional)}, not {value!r:.60}")


def check_numbers(config: Any, *, or_zero: tuple[str, ...] = ()) -> None:
    """:func:`check_kinds`, and a ``ValueError`` where a number among the fields is not positive and finite, or 0 where it may
    be."""
    check_kinds(config)
    for name, value in vars(config).items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        if not (0 < value < math.inf or (value == 0 and name in or_zero)):
            raise ValueError(f"{name} has to be {'0 or more' if name in or_zero else 'positive'}, not {value}")


def check_slices(slices: int, k: int, max_dim: int) -> None:
    """Raise a ``ValueError`` for numbers of slices and slice dimensions that are not possible."""
    for name, value in (("slices", slices), ("k", k)):
        if not isinstance(value, Integral) or isinstance(value, bool):
            raise ValueError(f"{name} has to be an integer, not {value!r}")
    if slices < 1:
        raise ValueError(f"slices has to be at least 1, or None for no slicing, not {slices}")
    if not 1 <= k <= max_dim:
        raise ValueError(f"k has to be 1 to {max_dim}, not {k}")


def check_whole(name: str, value: Any, least: int | None = None) -> None:
    """Raise a ``ValueError`` for anything but an integer of 64 bits, or one below ``least``."""
    if isinstance(value, bool) or not isinstance(value, Integral) or abs(value) > MOST_INTEGER:
        raise ValueError(f"{name} has to be an integer of 64 bits, not {value!r:.60}")
    if least is not None and value < least:
        raise ValueError(f"{name} has to be {'at least ' * (least > 0)}{least}{' or more' * (least == 0)}, not {value}")


def to_double(samples: Tensor) -> Tensor:
    """Integers or booleans ``(..., n, d)`` in double precision; beyond 2^53, where neighbours would become equal, less the
    smallest of the column."""
    if samples.dtype == torch.int64 and samples.numel() and not transformed():
        low, high = (int(end) for end in samples.aminmax())
        if max(-low, high) > 2**53 and high - low <= MOST_INTEGER:
            samples = samples - samples.amin(-2 if samples.ndim > 1 else 0, keepdim=True)
    return samples.double()


def check_classes(classes: Sides | None) -> None:
    """Raise a ``ValueError`` for anything but the name of a side, both, or None."""
    if classes not in (None, "x", "y", "both"):
        raise ValueError(f"classes has to be x, y or both, the sides that are class labels, or None, not {classes!r}")


def check_samples(
    x: Tensor, y: Tensor, max_dim: int | None, *, classes: Sides | None = None, finite: bool = True
) -> tuple[Tensor, Tensor, bool]:
    """Bring paired samples to floating-point ``(b, n, d)``; returns them and whether they came as a batch.

    Integers and booleans are numbers, read in double precision; ``(n,)`` is one column. Sides named by ``classes`` are class
    labels, ``(n,)`` or ``(b, n)``, and become a column of zeros and ones for every distinct label.

    Args:
        max_dim: most columns that are accepted; None for any number.
        finite: look for NaN and infinity. Inside of transforms of ``torch.func`` that is not possible, and is left out.

    Raises:
        TypeError: not tensors of real numbers, or class labels that are not integers or booleans.
        ValueError: shapes, sizes or values that are not accepted; the message names the argument.
    """
    given, (x, y) = (x, y), as_columns(x, y, classes)
    for name, samples in (("x", x), ("y", y)):
        if samples.ndim not in (2, 3):
            raise ValueError(f"{name} has shape {tuple(samples.shape)}; accepted are (n,), (n, d) and (b, n, d)")
        if 0 in samples.shape:
            raise ValueError(f"{name} has shape {tuple(samples.shape)} and so is empty")
    if x.ndim != y.ndim or x.shape[:-1] != y.shape[:-1]:
        labels = "" if classes is None else "; class labels are (n,), or (b, n) of b data sets"
        raise ValueError(
            f"x has shape {tuple(given[0].shape)} and y has shape {tuple(given[1].shape)}; all but the last dimension have to "
            f"agree, for the samples are pairs{labels}"
        )
    if x.device != y.device:
        raise ValueError(f"x is on {x.device}, y is on {y.device}; they have to be on one device")
    n = x.shape[-2]
    if n < MIN_SAMPLES:
        raise ValueError(f"x and y have n = {n} samples; at least {MIN_SAMPLES} are needed")
    x, y = (_one_hot(name, side) if classes in (name, "both") else side for name, side in (("x", x), ("y", y)))
    for name, samples in (("x", x), ("y", y)):
        if max_dim is not None and samples.shape[-1] > max_dim:
            columns = "classes" if classes in (name, "both") else "dimensions"
            raise ValueError(
                f"{name} has {samples.shape[-1]} {columns}, at most {max_dim} are possible without slicing; pass slices=25, k=5"
            )
        if finite and not transformed() and not bool(torch.isfinite(samples.detach()).all()):
            *_, row, column = (~torch.isfinite(samples.detach())).nonzero()[0].tolist()
            raise ValueError(f"{name} contains NaN or infinity, first in row {row + 1}, column {column + 1}")
    x, y = (samples if samples.is_floating_point() else to_double(samples) for samples in (x, y))
    if x.ndim == 2:
        return x.unsqueeze(0), y.unsqueeze(0), False
    return x, y, True


def result_type(x: Tensor, y: Tensor) -> torch.dtype:
    """At least single precision, as of PyTorch's own losses under autocast; integers do not raise it."""
    dtype = torch.float32
    for samples in (x, y):
        if isinstance(samples, Tensor) and samples.is_floating_point():
            dtype = torch.promote_types(dtype, samples.dtype)
    return dtype


def check_conditional(y: Tensor, z: Tensor, *, classes: Sides | None, finite: bool) -> tuple[Tensor, Tensor]:
    """y and the variable z that is known, as columns of one floating-point type.

    Raises:
        TypeError, ValueError: z is no tensor of real numbers, of another number of samples, or not finite; or there are classes.
    """
    if classes is not None:
        raise ValueError(
            "conditional= is for numbers: with classes, pass torch.nn.functional.one_hot(labels, count) and leave out classes="
        )
    columns = [_as_columns(name, samples, False) for name, samples in (("y", y), ("conditional", z))]
    if columns[0].shape[:-1] != columns[1].shape[:-1]:
        raise ValueError(f"conditional has shape {tuple(z.shape)}, y {tuple(y.shape)}; as many samples as of y are needed")
    if finite and not transformed() and not bool(torch.isfinite(z.detach()).all()):
        raise ValueError("conditional contains NaN or infinity")
    y, z = (samples if samples.is_floating_point() else to_double(samples) for samples in columns)
    dtype = torch.promote_types(y.dtype, z.dtype)
    return y.to(dtype), z.to(dtype)


def as_columns(x: Tensor, y: Tensor, classes: Sides | None) -> tuple[Tensor, Tensor]:
    """Samples ``(n,)`` as ``(n, 1)``, and class labels ``(b, n)`` as ``(b, n, 1)``."""
    return _as_columns("x", x, classes in ("x", "both")), _as_columns("y", y, classes in ("y", "both"))


def _as_columns(name: str, samples: Tensor, labels: bool) -> Tensor:
    """``(n,)`` as ``(n, 1)``; class labels ``(b, n)`` as ``(b, n, 1)``."""
    if not isinstance(samples, Tensor):
        raise TypeError(f"{name} has to be a torch.Tensor, not {type(samples).__name__}")
    if samples.layout != torch.strided:
        raise TypeError(f"{name} is a sparse tensor; give {name}.to_dense()")
    if samples.is_complex():
        raise TypeError(f"{name} is complex; give real and imaginary parts as columns")
    if labels and samples.is_floating_point():
        raise TypeError(f"{name} is of {samples.dtype}, but class labels have to be integers or booleans; convert {name}")
    single = samples.ndim == 1 or (labels and samples.ndim == 2 and samples.shape[1] != 1)
    return samples.unsqueeze(-1) if single else samples


def _one_hot(name: str, labels: Tensor) -> Tensor:
    """Class labels ``(..., n, 1)`` to a column for every distinct one, ``(..., n, classes)``."""
    if labels.shape[-1] != 1:
        raise ValueError(f"{name} has shape {tuple(labels.shape)}; accepted are class labels (n,) and (b, n)")
    if transformed():
        raise ValueError(
            f"classes of {name} cannot be counted inside of torch.func transforms; "
            "pass torch.nn.functional.one_hot(labels, count) and no classes"
        )
    values, index = labels.squeeze(-1).unique(return_inverse=True)
    return F.one_hot(index, len(values)).float()
