"""Large inputs a part at a time, and half precision in single."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from infoatlas_rl.transforms import transformed

PART = 30_000
"""Samples, of all slices and data sets together, that are worked on at a time: with gradients about a gigabyte."""

Part = Callable[[Tensor, Tensor], Tensor]


def chunks(x: Tensor, y: Tensor, samples: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Data sets ``(b, n, d)`` in parts of at most so many samples together, or of one."""
    most = max(1, samples // x.shape[1])
    return zip(x.split(most), y.split(most), strict=True)


def by_parts(x: Tensor, y: Tensor, part: Part) -> Tensor:
    """What ``part`` makes of data sets ``(b, n, dx), (b, n, dy)``, at once where they are small."""
    small = len(x) * x.shape[1] <= PART
    return in_parts(x, y, part) if small or transformed() else InParts.apply(x, y, part)


def in_parts(x: Tensor, y: Tensor, part: Part) -> Tensor:
    return torch.cat([part(*pair) for pair in chunks(x, y, PART)])


class InParts(torch.autograd.Function):
    """What ``part`` makes of data sets, some of them at a time. The backward pass computes every part again: nothing is kept of
    them in between, so that memory is that of one part (checkpoints of PyTorch keep little, but leave the heap in pieces)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, part: Part) -> Tensor:
        ctx.save_for_backward(x, y)
        ctx.part = part
        return in_parts(x, y, part)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        saved, needed = ctx.saved_tensors, ctx.needs_input_grad[:2]
        grads = [torch.empty_like(t) if need else None for t, need in zip(saved, needed, strict=True)]
        start = 0
        for pair in chunks(*saved, PART):
            rows = slice(start, start + len(pair[0]))
            start = rows.stop
            pair = [t.detach().requires_grad_(need) for t, need in zip(pair, needed, strict=True)]
            with torch.enable_grad():
                values = ctx.part(*pair)
            found = iter(torch.autograd.grad(values, [t for t in pair if t.requires_grad], grad[rows]))
            for whole in grads:
                if whole is not None:
                    whole[rows] = next(found)
        return grads[0], grads[1], None


class Single(torch.autograd.Function):
    """Half to single precision. What of a gradient is too large for half precision is cut, but infinity stays: it is how a
    gradient scaler sees that its scale is too large."""

    generate_vmap_rule = True

    @staticmethod
    def forward(samples: Tensor) -> Tensor:
        return samples.float()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.dtype = inputs[0].dtype

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        limit = torch.finfo(ctx.dtype).max
        return torch.where(grad.isinf(), grad, grad.clamp(-limit, limit)).to(ctx.dtype)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        return tangent.float()
