"""Suite ``slicing``: what random slices see and what they miss; the InfoAtlas paper's appendices A.6 and A.7 (Figure 10).

- *Two structures, one sliced MI*: Gaussians in two dimensions whose dependence is in one pair of coordinates or in both, with
  correlations at which one-dimensional slices have the same mean information, -log((1 + sqrt(1 - r^2)) / 2) of the latter.
- *Dilution*: two vectors in the plane share their length, one of two values, and have angles of their own: MI = log 2.
- *k and S*: information of slices of k dimensions of the upper and lower halves of MNIST digits, and the Monte Carlo error of S.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from infoatlas_rl import InfoAtlas
from infoatlas_rl.estimator.slicing import project, random_orthonormal
from infoatlas_rl.tables import Table
from infoatlas_rl.tasks.shell.progress import progress_bar
from infoatlas_rl.tasks.suites.loss_data import require_packages
from infoatlas_rl.tasks.suites.selfconsistency import halves

RHO = 0.99
"""Correlation of the one pair of coordinates."""
RADII = ((1.0, 2.0), (1.0, 1.01))
HIDDEN_IN = 30
"""Columns of x and of y, all but two of them noise, in which the same is hidden by a rotation."""
SAMPLES, SLICES = 5000, 100
"""Of the failure cases: samples, and slices of one dimension."""
DIMS, COUNTS = (1, 2, 5, 10), (5, 25, 100)
"""k and S of the sweep."""
DIGITS = 2000


def sliced_sparse(rho: float, points: int = 2000) -> float:
    """Mean MI in nats of one-dimensional slices of two planes, of which one pair of coordinates has correlation rho."""
    square = np.cos(2 * np.pi * (np.arange(points) + 0.5) / points) ** 2
    return float(-0.5 * np.log1p(-(rho**2) * np.outer(square, square)).mean())


def dense_twin(rho: float) -> float:
    """Correlation of both pairs of coordinates that has the same sliced MI (A.6)."""
    return math.sqrt(1 - (2 * math.exp(-sliced_sparse(rho)) - 1) ** 2)


def cases() -> dict[str, tuple[Tensor, Tensor, float]]:
    """Name to x ``(n, 2)``, y ``(n, 2)`` and their MI in nats."""
    g = torch.Generator().manual_seed(0)
    found: dict[str, tuple[Tensor, Tensor, float]] = {}
    for name, rho in (("one pair of coordinates", (RHO, 0.0)), ("both pairs", (dense_twin(RHO),) * 2)):
        x, z = torch.randn(2, SAMPLES, 2, generator=g)
        r = torch.tensor(rho)
        label = f"{name}, correlation {rho[0]:.3f}"
        found[label] = (x, r * x + (1 - r**2).sqrt() * z, float(-0.5 * np.log1p(-np.square(rho)).sum()))
    for radii in RADII:
        radius = torch.tensor(radii)[torch.randint(2, (SAMPLES,), generator=g)]
        angles = 2 * math.pi * torch.rand(2, SAMPLES, generator=g)
        x, y = (radius[:, None] * torch.stack([a.cos(), a.sin()], 1) for a in angles)
        found[f"shared length, {radii[0]:g} or {radii[1]:g}"] = x, y, math.log(2)
    return found


def run(cfg: DictConfig) -> dict[str, Any]:
    require_packages(["mnist"])
    model = InfoAtlas.from_pretrained(cfg.weights)
    rows, sweep = [], []
    with progress_bar("slicing", 4 + len(DIMS)) as bar:
        for name, (x, y, truth) in cases().items():
            estimates = {
                "sliced": model.estimate(x, y, slices=SLICES, k=1).mi,
                "whole": model.estimate(x, y).mi,
                "hidden": model.estimate(*hidden(x, y)).mi,
            }
            rows.append({"case": name, "truth": round(truth, 4)} | {key: round(value, 4) for key, value in estimates.items()})
            bar(len(rows), name)
        for k in DIMS:
            values = slice_values(model, *halves(0.0, 0, DIGITS), k)
            sweep.append({"k": k, "mean": round(float(values.mean()), 4), "std": round(float(values.std(ddof=1)), 4)})
            bar(len(rows) + len(sweep), f"k = {k}")
    return {"suite": "slicing", "cases": rows, "sweep": sweep, "sliced_mi_of_both": round(sliced_sparse(RHO), 4)}


def hidden(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
    """The same in two directions of ``HIDDEN_IN`` columns."""
    g = torch.Generator().manual_seed(1)
    wide = []
    for side in (x, y):
        noise = torch.randn(len(side), HIDDEN_IN - side.shape[1], generator=g)
        wide.append(torch.cat([side, noise], 1) @ torch.linalg.qr(torch.randn(HIDDEN_IN, HIDDEN_IN, generator=g)).Q)
    return tuple(wide)


def slice_values(model: InfoAtlas, x: Tensor, y: Tensor, k: int) -> np.ndarray:
    """Estimates of single random slices, ``(max(COUNTS),)``."""
    g = torch.Generator().manual_seed(k)
    a, b = (project(side[None], random_orthonormal(max(COUNTS), side.shape[1], k, generator=g)) for side in (x, y))
    return model.estimate(a, b).mi


def table(result: dict[str, Any]) -> Table:
    rows = [
        [row["case"], f"{row['truth']:.2f}", *(f"{row[key]:.2f}" for key in ("sliced", "whole", "hidden"))]
        for row in result["cases"]
    ]
    header = ["nats", "truth", f"mean of {SLICES} slices of 1", "`estimate`, d = 2", f"`estimate`, hidden in d = {HIDDEN_IN}"]
    note = f"n = {SAMPLES}, one data set. The sliced MI of the first two is {result['sliced_mi_of_both']:.3f} nats."
    return Table(header, rows, note)


def sweep_table(result: dict[str, Any]) -> Table:
    rows = [
        [str(row["k"]), f"{row['mean']:.3f}", *(f"{row['std'] / math.sqrt(count):.3f}" for count in COUNTS)]
        for row in result["sweep"]
    ]
    note = f"Mean over {max(COUNTS)} slices, nats, and its standard error with S slices; {DIGITS} digits, 392 pixels a side."
    return Table(["k", "sliced MI", *(f"± with S = {count}" for count in COUNTS)], rows, note)
