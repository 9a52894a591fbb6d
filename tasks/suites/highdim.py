"""Suite ``highdim``: 25 to 1024 dimensions through ``estimate`` without options, beside random slices."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from infoatlas_rl import InfoAtlas
from infoatlas_rl.tables import Table
from infoatlas_rl.tasks.shell.progress import progress_bar

DIMS = (25, 64, 128, 512, 1024)
SIZES = (500, 2000)
SEED = 815


def _two_features(n: int, d: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    x, y = torch.randn(2, n, d, generator=g)
    y[:, :2] = 0.8 * x[:, :2] + 0.6 * y[:, :2]
    return x, y


def _hidden(n: int, d: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two features, in random directions."""
    x, y = _two_features(n, d, g)
    return tuple(side @ torch.linalg.qr(torch.randn(d, d, generator=g)).Q for side in (x, y))


def _radius(n: int, d: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """The first two columns of x and y are angles apart, but have the log of their lengths correlated: nothing linear."""
    log_length = torch.randn(n, 2, generator=g)
    log_length[:, 1] = 0.9 * log_length[:, 0] + math.sqrt(1 - 0.9**2) * log_length[:, 1]
    x, y = torch.randn(2, n, d, generator=g)
    for side, column in ((x, 0), (y, 1)):
        angle = 2 * math.pi * torch.rand(n, generator=g)
        length = torch.exp(0.3 * log_length[:, column])
        side[:, 0], side[:, 1] = length * angle.cos(), length * angle.sin()
    return x, y


def _independent(n: int, d: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    x, y = torch.randn(2, n, d, generator=g)
    return x, y


KINDS: dict[str, tuple[Callable[..., tuple[Tensor, Tensor]], float]] = {
    "independent": (_independent, 0.0),
    "two columns": (_two_features, -math.log(1 - 0.8**2)),
    "two directions": (_hidden, -math.log(1 - 0.8**2)),
    "lengths of two columns": (_radius, -0.5 * math.log(1 - 0.9**2)),
}


def run(cfg: DictConfig) -> dict[str, Any]:
    model = InfoAtlas.from_pretrained(cfg.weights)
    cells = []
    with progress_bar("highdim", len(KINDS) * len(DIMS) * len(SIZES)) as bar:
        for name, (sampler, truth) in KINDS.items():
            for d in DIMS:
                for n in SIZES:
                    found, sliced, seconds = [], [], []
                    for seed in range(cfg.highdim_seeds):
                        x, y = sampler(n, d, torch.Generator().manual_seed(SEED + seed))
                        began = time.perf_counter()
                        found.append(model.estimate(x, y, seed=seed))
                        seconds.append(time.perf_counter() - began)
                        sliced.append(model.estimate(x, y, slices=25, k=5, seed=seed).mi)
                    cell = {"kind": name, "d": d, "n": n, "truth": round(truth, 4)}
                    cell |= {"mean": round(sum(e.mi for e in found) / len(found), 4)}
                    cell |= {"sliced": round(sum(sliced) / len(sliced), 4), "seconds": round(min(seconds), 2)}
                    cells.append(cell)
                    bar(len(cells), f"{name}, d = {d}, n = {n}")
    return {"suite": "highdim", "cells": cells, "seeds": cfg.highdim_seeds}


def table(result: dict[str, Any]) -> Table:
    rows = []
    for name in KINDS:
        for n in SIZES:
            cells = [c for c in result["cells"] if (c["kind"], c["n"]) == (name, n)]
            rows.append([name, str(n), f"{cells[0]['truth']:.2f}", *(f"{c['mean']:.2f} ({c['sliced']:.2f})" for c in cells)])
    slowest = max(cell["seconds"] for cell in result["cells"])
    note = "Estimate in nats, in brackets the mean over 25 random slices of 5; "
    note += f"mean of {result['seeds']} seeds. At most {slowest:.1f} s."
    return Table(["dependence", "n", "truth", *(f"d = {d}" for d in DIMS)], rows, note)
