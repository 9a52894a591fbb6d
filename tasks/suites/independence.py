"""Suite ``independence``: what is estimated where the truth is zero."""

from __future__ import annotations

from typing import Any

import numpy as np
from omegaconf import DictConfig

from infoatlas_rl import InfoAtlas
from infoatlas_rl.tables import Table
from infoatlas_rl.tasks.shell.progress import progress_bar

SIZES = (100, 500, 5000)
DIMS = (1, 5, 20)


def run(cfg: DictConfig) -> dict[str, Any]:
    """Gaussian, uniform and Student-t samples in turn."""
    model = InfoAtlas.from_pretrained(cfg.weights)
    cells = []
    with progress_bar("independence", len(SIZES) * len(DIMS)) as bar:
        for n in SIZES:
            for d in DIMS:
                results = []
                for seed in range(cfg.independent_sets):
                    rng = np.random.default_rng(seed)
                    draw = (rng.standard_normal, rng.random, lambda size, rng=rng: rng.standard_t(3, size))[seed % 3]
                    results.append(model.estimate(draw((n, d)), draw((n, d)), cross_fit=True))
                cells.append(
                    {
                        "n": n,
                        "d": d,
                        "mean": round(float(np.mean([r.mi for r in results])), 4),
                        "cross_fitted": round(float(np.mean([r.bound for r in results])), 4),
                        "covered": round(float(np.mean([r.interval[0] < 1e-3 for r in results])), 3),
                    }
                )
                bar(len(cells), f"n = {n}, d = {d}")
    return {
        "suite": "independence",
        "cells": cells,
        "sets": cfg.independent_sets,
        "largest_mean": max(c["mean"] for c in cells),
        "largest_cross_fitted": max(c["cross_fitted"] for c in cells),
    }


def table(result: dict[str, Any]) -> Table:
    rows = [[str(c["n"]), str(c["d"]), f"{c['mean']:.4f}", f"{c['cross_fitted']:+.4f}"] for c in result["cells"]]
    return Table(["n", "d", "calibrated estimate", "cross-fitted bound"], rows, f"Mean of {result['sets']} data sets, nats.")
