"""Suite ``pairs``: many pairs of single columns in one call."""

from __future__ import annotations

import time
from typing import Any

import torch
from omegaconf import DictConfig

from infoatlas_rl import InfoAtlas
from infoatlas_rl.tables import Table

PAIRS = 199
SIZES = (500, 2000)


def run(cfg: DictConfig) -> dict[str, Any]:
    model, rates = InfoAtlas.from_pretrained(cfg.weights), {}
    for n in SIZES:
        x, y = torch.randn(2, PAIRS, n, 1, generator=torch.Generator().manual_seed(0))
        y = 0.5 * x + y
        model.estimate(x[:8], y[:8])
        began = time.perf_counter()
        model.estimate(x, y)
        rates[str(n)] = round(PAIRS / (time.perf_counter() - began), 1)
    return {"suite": "pairs", "pairs": PAIRS, "per_second": rates}


def table(result: dict[str, Any]) -> Table:
    rows = [[n, f"{rate:.1f}"] for n, rate in result["per_second"].items()]
    return Table(["n", "pairs per second"], rows, f"{result['pairs']} pairs of single columns in one call.")
