"""Suite ``atlas``: unseen problems of the atlas, cell by cell, against KSG and the Gaussian copula; coverage of intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from scipy.stats import spearmanr

from infoatlas_rl import InfoAtlas
from infoatlas_rl.baselines.classical import gaussian_copula, ksg
from infoatlas_rl.pretraining.atlas import AtlasConfig, sample_problems
from infoatlas_rl.tasks.progress import progress_bar

SIZES = (100, 256, 1000, 5000)
DIMS = (1, 3, 5, 10, 20)
SEED = 3 * 10**9
"""Training, validation and calibration draw their problems from other seeds."""


def run(cfg: DictConfig) -> dict[str, Any]:
    model = InfoAtlas.from_pretrained(cfg.weights)
    config = AtlasConfig(query=1, truth=20_000)
    cells = []
    with progress_bar("atlas", len(SIZES) * len(DIMS) * cfg.problems) as bar:
        for n in SIZES:
            for d in DIMS:
                rows = []
                for number in range(cfg.problems):
                    generator = torch.Generator().manual_seed(SEED + 10_000 * len(cells) + number)
                    problem = sample_problems(1, n, d, d, config, generator)
                    x, y = problem.x[0].double().numpy(), problem.y[0].double().numpy()
                    ours = model.estimate(x, y)
                    rows.append([float(problem.mi), ours.mi, ours.bound, *ours.interval, ksg(x, y), gaussian_copula(x, y)])
                    bar(len(cells) * cfg.problems + number + 1, f"n = {n}, d = {d}")
                cells.append({"n": n, "d": d} | _figures(np.array(rows)))
    return {"suite": "atlas", "cells": cells, "problems": cfg.problems} | _summary(cells)


def _figures(rows: np.ndarray) -> dict[str, float]:
    truth, ours, bound, low, high, neighbours, gauss = np.maximum(rows, 0).T
    figures: dict[str, float] = {"mean_truth": truth.mean()}
    for name, values in (("ours", ours), ("bound", bound), ("ksg", neighbours), ("gaussian_copula", gauss)):
        figures[f"mae_{name}"] = np.abs(values - truth).mean()
        figures[f"rank_{name}"] = spearmanr(values, truth).statistic
    figures["coverage"] = np.mean((low - 1e-4 <= truth) & (truth <= high))
    figures["interval_width"] = (high - low).mean()
    return {name: round(float(value), 4) for name, value in figures.items()}


def _summary(cells: list[dict[str, float]]) -> dict[str, Any]:
    better = [min(c["mae_ksg"], c["mae_gaussian_copula"]) for c in cells]
    return {
        "mae_ratio": round(float(np.mean([c["mae_ours"] / b for c, b in zip(cells, better, strict=True)])), 4),
        "cells_with_lower_mae": sum(c["mae_ours"] < b for c, b in zip(cells, better, strict=True)),
        "cells_with_higher_rank": sum(c["rank_ours"] > c["rank_ksg"] for c in cells),
        "coverage": round(float(np.mean([c["coverage"] for c in cells])), 4),
    }


def show(result: dict[str, Any]) -> None:
    print(f"\nmean absolute error in nats and rank correlation with the truth, {result['problems']} problems a cell")
    print("      n   d   truth |  ours    bound     KSG   copula | rank: ours    KSG  copula | covered")
    for c in result["cells"]:
        print(
            f"  {c['n']:5d} {c['d']:3d} {c['mean_truth']:7.3f} | {c['mae_ours']:6.3f} {c['mae_bound']:7.3f} {c['mae_ksg']:7.3f}"
            f" {c['mae_gaussian_copula']:7.3f}  | {c['rank_ours']:10.3f} {c['rank_ksg']:7.3f} {c['rank_gaussian_copula']:7.3f}"
            f" | {c['coverage']:.0%}"
        )
    lower, higher = (f"{result[f'cells_with_{name}']}/{len(result['cells'])}" for name in ("lower_mae", "higher_rank"))
    print(f"\nerror {result['mae_ratio']:.2f} of the better of the two on average, lower than both in {lower} cells")
    print(f"rank correlation above KSG's in {higher} cells; the 90 % interval covers {result['coverage']:.1%}")
