"""Several processes of ``torch.distributed``: their samples together, and which of them this one is."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

if dist.is_available():
    from torch.distributed.nn.functional import all_gather


def gathered(side: Tensor | None) -> Tensor | None:
    """The samples of all ranks, in their order; gradients come back to each."""
    if side is None or not _started():
        return side
    return torch.cat(all_gather(side.contiguous()), dim=-2 if side.ndim > 1 else 0)


def own_rank() -> int:
    """0 where there is one process."""
    return dist.get_rank() if _started() else 0


def _started() -> bool:
    return dist.is_available() and dist.is_initialized()
