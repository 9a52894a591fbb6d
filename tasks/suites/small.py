"""Suite ``small``: few samples against many dimensions, n = 16 to 128, independent and dependent."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

from infoatlas_rl import InfoAtlas
from infoatlas_rl.tables import Table
from infoatlas_rl.tasks.shell.progress import progress_bar

SIZES = (16, 24, 32, 48, 64, 100, 128)
DIMS = (1, 5, 10, 20)
SEED = 4711
TRUTHS = (0.0, 0.5, 1.5)
"""Nats, spread over as many pairs as there are dimensions, at most two."""


def run(cfg: DictConfig) -> dict[str, Any]:
    model = InfoAtlas.from_pretrained(cfg.weights)
    cells, total = [], len(SIZES) * len(DIMS) * len(TRUTHS)
    with progress_bar("small", total) as bar:
        for n in SIZES:
            for d in DIMS:
                for truth in TRUTHS:
                    generator = torch.Generator().manual_seed(SEED + 1000 * n + 10 * d + int(2 * truth))
                    x, y = torch.randn(2, cfg.independent_sets, n, d, generator=generator)
                    pairs = min(d, 2)
                    rho = math.sqrt(1 - math.exp(-2 * truth / pairs))
                    y[..., :pairs] = rho * x[..., :pairs] + math.sqrt(1 - rho**2) * y[..., :pairs]
                    found = model.estimate(x, y)
                    low, high = found.interval
                    cell = {"n": n, "d": d, "truth": truth, "mean": round(float(found.mi.mean()), 4)}
                    cell |= {"covered": round(float(((low <= truth + 1e-3) & (truth <= high)).mean()), 3)}
                    cell |= {"median_high": round(float(np.median(high)), 2)}
                    cells.append(cell | {"mean_bound": round(float(found.bound.mean()), 4)})
                    bar(len(cells), f"n = {n}, d = {d}")
    return {"suite": "small", "cells": cells, "sets": cfg.independent_sets}


def table(result: dict[str, Any]) -> Table:
    def cell(n: int, d: int, truth: float) -> str:
        found = next(c for c in result["cells"] if (c["n"], c["d"], c["truth"]) == (n, d, truth))
        return f"{found['mean']:.2f} ({found['covered']:.0%}, {found['median_high']:.1f})"

    rows = [[f"{t}", str(d), *(cell(n, d, t) for n in SIZES)] for t in TRUTHS for d in DIMS]
    note = (
        f"Mean estimate in nats, of {result['sets']} data sets; in brackets how often the 90 % interval holds the truth, and "
        "where it ends in the median. Gaussian."
    )
    return Table(["truth", "d", *(f"n = {n}" for n in SIZES)], rows, note)
