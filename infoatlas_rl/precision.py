"""Where products of bfloat16 numbers are worth it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch

FAST = {"amx_bf16", "avx512_bf16"}
"""Processors that multiply bfloat16 numbers themselves; others take fifty times as long as for float32."""


@lru_cache(maxsize=1)
def _processor_flags() -> frozenset[str]:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    return frozenset(next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), ()))


def bfloat16_is_fast(device: torch.device | str = "cpu") -> bool:
    """Whether bfloat16 products are faster than float32 ones: on accelerators, and on processors with instructions for them."""
    return torch.device(device).type != "cpu" or not FAST.isdisjoint(_processor_flags())
