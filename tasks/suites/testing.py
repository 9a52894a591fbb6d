"""Suite ``testing``: tests of independence in many dimensions, the paper's Figures 3 and 7 (its appendix A.3); with a picture."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from infoatlas_rl import InfoAtlas, independence_test
from infoatlas_rl.baselines.classical import ksg
from infoatlas_rl.baselines.critics import CriticTraining
from infoatlas_rl.baselines.estimators import SlicedInfoNet, TrainedCritic
from infoatlas_rl.records import write_json
from infoatlas_rl.tables import Table
from infoatlas_rl.tasks.shell.progress import progress_bar
from infoatlas_rl.tasks.suites.ranking import roc_auc
from infoatlas_rl.weights import weights_hash

DIMS = (16, 64, 128)
SIZES = (50, 200, 500, 2000)
LARGE = 2000
"""Samples from which on a quarter of the data sets is drawn."""
SLICES, K = 32, 5
PERMUTATIONS = 99
LEVEL = 0.05
SEED = 4096
OURS = "independence_test"
TRAINED = "MINE"
"""What is trained for every data set sees a quarter of them."""


def _one_feature(x: Tensor, z: Tensor) -> Tensor:
    return (x.sum(1, keepdim=True) / math.sqrt(x.shape[1]) + z) / math.sqrt(2)


def _two_features(x: Tensor, z: Tensor) -> Tensor:
    half = x.shape[1] // 2
    first, second = (part.sum(1, keepdim=True) / x.shape[1] for part in (x[:, :half], x[:, half:]))
    return (torch.cat([first.expand(-1, half), second.expand(-1, half)], 1) + z) / math.sqrt(2)


def _coordinates(x: Tensor, z: Tensor) -> Tensor:
    return (x + z) / math.sqrt(2)


KINDS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "one feature": _one_feature,
    "two features": _two_features,
    "independent coordinates": _coordinates,
}


def _linear(x: Tensor, y: Tensor) -> float:
    """Sum of the squared correlations of all pairs of columns."""
    x, y = ((side - side.mean(0)) / side.std(0) for side in (x, y))
    return float((x.T @ y / len(x)).square().sum())


def run(cfg: DictConfig) -> dict[str, Any]:
    panels = [(kind, d, n) for kind in KINDS for d in DIMS for n in SIZES]
    cells: list[dict[str, Any]] = []
    with progress_bar("testing", len(panels)) as bar:
        for number, (kind, d, n) in enumerate(panels):
            bar(number, f"{kind}, d = {d}, n = {n}")
            cells.append({"kind": kind, "d": d, "n": n, **_cell(cfg, kind, d, n, SEED + 1000 * number)})
        bar(len(panels), "")
    p = [value for cell in cells for value in cell.pop("p_independent")]
    below = [float(np.mean(np.array(p) <= level)) for level in (0.05, 0.1, 0.5)]
    result = {"suite": "testing", "cells": cells, "steps": cfg.steps, "p_below": below, "tests": len(p)}
    if cfg.picture:
        draw(result, Path(cfg.picture))
    return result


def _cell(cfg: DictConfig, kind: str, d: int, n: int, seed: int) -> dict[str, Any]:
    """Of one panel; from the folder of the run where it is there already."""
    path = Path(cfg.run) / f"{kind.replace(' ', '-')}-{d}-{n}.json"
    fewer = max(cfg.populations // 4, 1)
    count = cfg.populations if n < LARGE else fewer
    settings = {"populations": count, "fewer": fewer, "steps": cfg.steps, "weights_sha256": weights_hash(cfg.weights)}
    if path.is_file() and (content := json.loads(path.read_text()))["settings"] == settings:
        return content["cell"]
    test = partial(independence_test, permutations=PERMUTATIONS, weights=cfg.weights)
    cell = _measure(test, _scores(cfg), KINDS[kind], (d, n, seed), count, fewer)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, {"settings": settings, "cell": cell})
    return cell


def _scores(cfg: DictConfig) -> dict[str, Callable[[Tensor, Tensor], float]]:
    """What is compared with the test: larger where there is dependence."""
    model = InfoAtlas.from_pretrained(cfg.weights)
    infonet, mine = SlicedInfoNet(), TrainedCritic(TRAINED, CriticTraining(cfg.steps))
    return {
        "sliced": lambda x, y: model.estimate(x, y, slices=SLICES, k=K).bound,
        "linear": _linear,
        "KSG": lambda x, y: ksg(x.numpy(), y.numpy()),
        infonet.name: lambda x, y: infonet(x.numpy(), y.numpy()),
        mine.name: lambda x, y: mine(x.numpy(), y.numpy()),
    }


def _measure(
    test: Callable, scores: dict[str, Callable], dependent: Callable, size: tuple[int, int, int], count: int, fewer: int
) -> dict[str, Any]:
    """Of ``count`` data sets with dependence, and as many without; ``fewer`` for what is trained."""
    d, n, seed = size
    found: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in (OURS, *scores)}
    p: tuple[list[float], list[float]] = ([], [])
    seconds: dict[str, list[float]] = {name: [] for name in found}
    for number in range(count):
        g = torch.Generator().manual_seed(seed + number)
        for related in (0, 1):
            x, z = torch.randn(2, n, d, generator=g)
            y = dependent(x, z) if related else z
            began = time.perf_counter()
            tested = test(x, y, seed=number)
            seconds[OURS].append(time.perf_counter() - began)
            found[OURS][related].append(tested.z_score)
            p[related].append(tested.p_value)
            for name, score in scores.items():
                if name != TRAINED or number < fewer:
                    began = time.perf_counter()
                    found[name][related].append(score(x, y))
                    seconds[name].append(time.perf_counter() - began)
    return {
        "populations": count,
        "auc": {name: round(roc_auc(*values), 4) for name, values in found.items()},
        "power": round(float(np.mean(np.array(p[1]) <= LEVEL)), 3),
        "p_independent": p[0],
        "seconds": {name: round(float(np.mean(times)), 4) for name, times in seconds.items()},
    }


def draw(result: dict[str, Any], path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 8), layout="constrained")
    grid = figure.subplots(len(KINDS), len(DIMS), sharex=True, sharey=True, squeeze=False)
    for row, kind in zip(grid, KINDS, strict=True):
        for axes, d in zip(row, DIMS, strict=True):
            cells = [cell for cell in result["cells"] if (cell["kind"], cell["d"]) == (kind, d)]
            for number, name in enumerate(cells[0]["auc"]):
                style = {"color": "black", "lw": 2.5, "zorder": 3} if name == OURS else {"color": f"C{number}", "lw": 1.2}
                axes.plot([cell["n"] for cell in cells], [cell["auc"][name] for cell in cells], "o-", ms=3, label=name, **style)
            axes.set_title(f"{kind}, d = {d}", fontsize=10)
            axes.set_xscale("log")
            axes.set_xticks(SIZES, [str(n) for n in SIZES])
            axes.minorticks_off()
            axes.grid(alpha=0.3)
    for axes in grid[-1]:
        axes.set_xlabel("samples")
    for axes in grid[:, 0]:
        axes.set_ylabel("area under the ROC curve")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=6)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def table(result: dict[str, Any]) -> Table:
    names = list(result["cells"][0]["auc"])
    rows = [
        [c["kind"], str(c["d"]), str(c["n"]), *(f"{c['auc'][name]:.2f}" for name in names), f"{c['power']:.0%}"]
        for c in result["cells"]
    ]
    mean = {name: np.mean([c["seconds"][name] for c in result["cells"]]) for name in names}
    times = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in mean.items())
    five, ten, half = result["p_below"]
    most, least = (of(c["populations"] for c in result["cells"]) for of in (max, min))
    note = (
        f"Area under the ROC curve over {most} data sets with and as many without dependence (of {LARGE} samples {least}; "
        f"{TRAINED}, with {result['steps']} steps, of {least}); power of the test at 5 %, {PERMUTATIONS} permutations. "
        f"Of {result['tests']} tests of independent data {five:.1%} have p <= 0.05, {ten:.1%} p <= 0.1, {half:.1%} p <= 0.5. "
        f"Mean time: {times}."
    )
    return Table(["dependence", "d", "n", *names, "power"], rows, note)
