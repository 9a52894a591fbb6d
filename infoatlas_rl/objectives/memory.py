"""Earlier batches, kept; and a value that rests on them and is not computed anew in every call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from infoatlas_rl.estimator.discrete import on_a_grid, row_numbers

MOST_TIES = 0.1
"""Share of the rows of a batch that may be equal to others of it; where more are, equal rows are not the same sample."""
FEW = 8
"""Columns of whole or rounded numbers, as ages or labels, below which other samples are likely to have the same."""
DIGITS = 40
"""Binary ones, of the numbers that rows are known by."""


class Memory:
    """The last samples of several paired sides, ``(..., n, d)`` each; detached.

    Args:
        capacity: samples that are kept.
        renew: samples that come again, as in the next epoch, take the place of what is remembered of them: they are no further
            ones, and a critic of many copies of few samples learns them by heart. They are known by the sides that are data,
            ``(n, d)`` without gradient and with few ties; where all sides are codes of an encoder they are not known.
    """

    def __init__(self, capacity: int, *, renew: bool = False) -> None:
        self.capacity, self.renew = capacity, renew
        self.clear()

    def add(self, *sides: Tensor) -> bool:
        """Remember a batch, the newest first; sides of other columns or types replace what was there, which returns False."""
        numbers = self._numbers_of([side for side in sides if not side.requires_grad]) if self.renew else None
        sides = tuple(side.detach() for side in sides)
        fit = [_kind(side) for side in sides] == [_kind(side) for side in self.sides]
        if fit:
            known, known_numbers = self.sides, self.numbers
            if numbers is not None and known_numbers is not None:
                others = ~torch.isin(known_numbers, numbers)
                known, known_numbers = tuple(side[others] for side in known), known_numbers[others]
                numbers = torch.cat([numbers, known_numbers])
            else:
                numbers = None
            sides = tuple(torch.cat(both, dim=-2) for both in zip(sides, known, strict=True))
        self.sides = tuple(side[..., : self.capacity, :] for side in sides)
        self.numbers = None if numbers is None else numbers[: self.capacity]
        return fit

    def clear(self) -> None:
        self.sides: tuple[Tensor, ...] = ()
        self.numbers: Tensor | None = None
        """``(n,)``: what the samples are known by, where they are."""

    def __len__(self) -> int:
        return self.sides[0].shape[-2] if self.sides else 0

    @staticmethod
    @torch.no_grad()
    def _numbers_of(data: list[Tensor]) -> Tensor | None:
        """Of a batch; None where they say nothing."""
        if not data or data[0].ndim > 2 or data[0].device.type == "mps":  # which has no double precision
            return None
        if all(side.shape[1] < FEW and on_a_grid(side) for side in data):
            return None
        mantissa, exponent = torch.frexp(sum(row_numbers(side[None])[0] for side in data))
        # Products of matrices differ in the last digit by how many rows there are.
        numbers = torch.ldexp(torch.round(mantissa * 2.0**DIGITS), exponent)
        return numbers if len(numbers.unique()) >= (1 - MOST_TIES) * len(numbers) else None


class RunningValue:
    """A value of the last samples, computed in the first calls and then once in a while.

    Args:
        value: what is computed of the sides, ``(b,)``.
        capacity: samples that it rests on, or as many as a batch has, if those are more.
        every: calls; of the first ones, those that are a power of two.
    """

    def __init__(self, value: Callable[..., Tensor], capacity: int, every: int = 16) -> None:
        self._value, self._capacity, self._every = value, capacity, every
        self.reset()

    def reset(self) -> None:
        self._memory, self._calls = Memory(self._capacity, renew=True), 0
        self._last: Tensor | None = None

    def __call__(self, *sides: Tensor) -> Tensor:
        self._memory.capacity = max(self._capacity, sides[0].shape[-2])
        if not self._memory.add(*sides):
            self._calls = 0
        if self._calls % self._every == 0 or self._calls.bit_count() == 1:
            self._last = self._value(*self._memory.sides)
        self._calls += 1
        return self._last.clone()

    def state(self) -> dict[str, Any]:
        memory = self._memory
        return {"calls": self._calls, "last": self._last, "sides": list(memory.sides), "numbers": memory.numbers}

    def restore(self, state: dict[str, Any]) -> None:
        check_state(state, self.state())
        calls, last, sides, numbers = int(state["calls"]), state["last"], tuple(state["sides"]), state["numbers"]
        self._calls, self._last, self._memory.sides, self._memory.numbers = calls, last, sides, numbers


def check_state(state: dict[str, Any], own: dict[str, Any]) -> None:
    """Raise a ``ValueError`` where a state lacks what an own one has; before anything is changed."""
    if missing := sorted(own.keys() - state.keys()):
        raise ValueError(f"state lacks {', '.join(missing)}; it has to be what state() returned")


def _kind(side: Tensor) -> tuple[Any, ...]:
    return (*side.shape[:-2], side.shape[-1], side.dtype, side.device)
