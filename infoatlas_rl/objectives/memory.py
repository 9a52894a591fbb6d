"""Earlier batches, kept; and a value that rests on them and is not computed anew in every call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class Memory:
    """The last samples of several paired sides, ``(..., n, d)`` each; detached.

    Args:
        capacity: samples that are kept.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.sides: tuple[Tensor, ...] = ()

    def add(self, *sides: Tensor) -> bool:
        """Remember a batch, the newest first; sides of other columns or types replace what was there, which returns False."""
        sides = tuple(side.detach() for side in sides)
        fit = [_kind(side) for side in sides] == [_kind(side) for side in self.sides]
        if fit:
            sides = tuple(torch.cat(both, dim=-2) for both in zip(sides, self.sides, strict=True))
        self.sides = tuple(side[..., : self.capacity, :] for side in sides)
        return fit

    def clear(self) -> None:
        self.sides = ()

    def __len__(self) -> int:
        return self.sides[0].shape[-2] if self.sides else 0


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
        self._memory, self._calls = Memory(self._capacity), 0
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
        return {"calls": self._calls, "last": self._last, "sides": list(self._memory.sides)}

    def restore(self, state: dict[str, Any]) -> None:
        self._calls, self._last = int(state["calls"]), state["last"]
        self._memory.sides = tuple(state["sides"])


def _kind(side: Tensor) -> tuple[Any, ...]:
    return (*side.shape[:-2], side.shape[-1], side.dtype, side.device)
