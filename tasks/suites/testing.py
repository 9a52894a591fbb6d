"""Suite ``testing``: tests of independence in many dimensions, the paper's Figures 3 and 7 (its appendix A.3)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from infoatlas_rl import InfoAtlas, independence_test
from infoatlas_rl.baselines.classical import ksg
from infoatlas_rl.tables import Table
from infoatlas_rl.tasks.shell.progress import progress_bar
from infoatlas_rl.tasks.suites.ranking import roc_auc

DIMS = (16, 64, 128)
SIZES = (200, 500)
SLICES, K = 32, 5
PERMUTATIONS = 99
LEVEL = 0.05
SEED = 4096


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
    model = InfoAtlas.from_pretrained(cfg.weights)
    scores: dict[str, Callable[[Tensor, Tensor], float]] = {
        "sliced": lambda x, y: model.estimate(x, y, slices=SLICES, k=K).bound,
        "linear": _linear,
        "KSG": lambda x, y: ksg(x.numpy(), y.numpy()),
    }
    cells: list[dict[str, Any]] = []
    with progress_bar("testing", len(KINDS) * len(DIMS) * len(SIZES)) as bar:
        for kind, dependent in KINDS.items():
            for d in DIMS:
                for n in SIZES:
                    seed = SEED + 1000 * len(cells)
                    cells.append({"kind": kind, "d": d, "n": n, **_cell(scores, dependent, d, n, seed, cfg.populations)})
                    bar(len(cells), f"{kind}, d = {d}, n = {n}")
    p = [value for cell in cells for value in cell.pop("p_independent")]
    below = [float(np.mean(np.array(p) <= level)) for level in (0.05, 0.1, 0.5)]
    return {"suite": "testing", "cells": cells, "populations": cfg.populations, "p_below": below, "tests": len(p)}


def _cell(scores: dict[str, Callable], dependent: Callable, d: int, n: int, seed: int, count: int) -> dict[str, Any]:
    found: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in ("independence_test", *scores)}
    p: tuple[list[float], list[float]] = ([], [])
    seconds = dict.fromkeys(found, 0.0)
    for number in range(count):
        g = torch.Generator().manual_seed(seed + number)
        for related in (0, 1):
            x, z = torch.randn(2, n, d, generator=g)
            y = dependent(x, z) if related else z
            began = time.perf_counter()
            tested = independence_test(x, y, permutations=PERMUTATIONS, seed=number)
            seconds["independence_test"] += time.perf_counter() - began
            found["independence_test"][related].append(tested.z_score)
            p[related].append(tested.p_value)
            for name, score in scores.items():
                began = time.perf_counter()
                found[name][related].append(score(x, y))
                seconds[name] += time.perf_counter() - began
    return {
        "auc": {name: round(roc_auc(*values), 4) for name, values in found.items()},
        "power": round(float(np.mean(np.array(p[1]) <= LEVEL)), 3),
        "p_independent": p[0],
        "seconds": {name: round(total / (2 * count), 4) for name, total in seconds.items()},
    }


def table(result: dict[str, Any]) -> Table:
    names = list(result["cells"][0]["auc"])
    rows = [
        [c["kind"], str(c["d"]), str(c["n"]), *(f"{c['auc'][name]:.2f}" for name in names), f"{c['power']:.0%}"]
        for c in result["cells"]
    ]
    mean = {name: np.mean([c["seconds"][name] for c in result["cells"]]) for name in names}
    times = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in mean.items())
    five, ten, half = result["p_below"]
    note = (
        f"Area under the ROC curve over {result['populations']} data sets with and as many without dependence; power of the test "
        f"at 5 %, {PERMUTATIONS} permutations. Of {result['tests']} tests of independent data {five:.1%} have p <= 0.05, "
        f"{ten:.1%} p <= 0.1, {half:.1%} p <= 0.5. Mean time: {times}."
    )
    return Table(["dependence", "d", "n", *names, "power"], rows, note)
