"""Code that runs inside transforms of ``torch.func`` and graphs of ``torch.compile``, and what must stay outside of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor
from torch._functorch.pyfunctorch import temporarily_clear_interpreter_stack

T = TypeVar("T")

MOST_KEPT = 128
"""Draws that :func:`fixed` keeps of a kind."""


def transformed() -> bool:
    """Whether this code runs inside of a transform of ``torch.func``, where no value can be looked at."""
    return torch._C._functorch.peek_interpreter_stack() is not None


@contextmanager
def outside_transforms() -> Iterator[None]:
    """For what outlives the call and must not belong to a level of ``torch.func``, nor to inference mode: draws, moves."""
    with temporarily_clear_interpreter_stack(), torch.inference_mode(False):
        yield


def untraced(function: Callable[..., T]) -> Callable[..., T]:
    """The same function; where ``torch.compile`` traces the caller, it is left out of the graph and called."""
    return torch.compiler.disable(function) if torch.compiler.is_compiling() else function


def fixed(draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Keeps what a draw returns that is a function of integers alone: once drawn, it is an input of compiled graphs."""
    kept: dict[tuple[int, ...], Tensor] = {}

    def keep(*arguments: int) -> Tensor:
        if len(kept) >= MOST_KEPT:
            kept.clear()
        with outside_transforms():
            found = kept[arguments] = draw(*arguments)
        return found

    def get(*arguments: int) -> Tensor:
        found = kept.get(arguments)  # another thread may be clearing them
        return untraced(keep)(*arguments) if found is None else found

    return get
