"""Measure the estimator against distributions with known mutual information.

    python tasks/benchmark_mi.py suite=bmi out=docs/results/bmi.json

- ``suite=bmi``: the eight tasks of Table 1 of the InfoAtlas paper, n = 5000, mean over ten seeds.
- ``suite=gradient``: gradients of the loss against the analytic ones of correlated Gaussians.
- ``suite=time``: seconds of the loss (n = 100, d = 100, 25 slices) and of estimates at several n.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from infoatlas_rl import InfoAtlas, InfoAtlasLoss, __version__
from infoatlas_rl.benchmark import BMI_TASKS
from infoatlas_rl.files import replace_file
from infoatlas_rl.weights import weights_hash
from tasks.common import describe_machine, hydra_main, progress_bar

PUBLISHED: dict[str, list[float]] = {
    "InfoAtlas (paper)": [0.60, 0.89, 0.41, 0.21, 0.93, 0.96, 1.46, 0.39],
    "MINE": [0.60, 1.00, 0.53, 0.21, 1.03, 1.06, 1.63, 0.39],
    "InfoNCE": [0.56, 0.98, 0.49, 0.18, 0.97, 1.03, 1.62, 0.40],
    "MINDE": [0.58, 0.92, 0.43, 0.36, 0.89, 1.01, 1.42, 0.50],
    "KSG": [0.54, 0.75, 0.25, 0.07, 0.79, 0.58, 1.61, 0.41],
}
"""Table 1 of the paper, in the order of ``BMI_TASKS``."""


def benchmark_bmi(cfg: DictConfig) -> dict[str, Any]:
    model = InfoAtlas.from_pretrained(cfg.weights)
    tasks: dict[str, dict[str, Any]] = {}
    seconds: list[float] = []
    with progress_bar("Table 1", len(BMI_TASKS) * cfg.seeds) as bar:
        for number, task in enumerate(BMI_TASKS):
            values, bounds = [], []
            for seed in range(cfg.seeds):
                x, y = task.sample(cfg.n, seed)
                began = time.perf_counter()
                result = model.estimate(x, y)
                seconds.append(time.perf_counter() - began)
                values.append(result.mi)
                bounds.append(result.bound)
                bar(number * cfg.seeds + seed + 1, task.name)
            tasks[task.name] = {
                "truth": round(task.mi, 4),
                "mean": round(float(np.mean(values)), 4),
                "std": round(float(np.std(values, ddof=1)), 4) if cfg.seeds > 1 else None,
                "bound": round(float(np.mean(bounds)), 4),
            }
    errors = [abs(row["mean"] - row["truth"]) for row in tasks.values()]
    return {
        "suite": "bmi",
        "tasks": tasks,
        "mae": round(float(np.mean(errors)), 4),
        "n": cfg.n,
        "seeds": list(range(cfg.seeds)),
        "seconds_per_estimate": round(float(np.median(seconds)), 4),
    }


def print_bmi(result: dict[str, Any]) -> None:
    names = list(result["tasks"])
    truth = [row["truth"] for row in result["tasks"].values()]
    rows = {"truth": truth, "ours": [row["mean"] for row in result["tasks"].values()], **PUBLISHED}
    print(f"\nTable 1: estimated MI in nats, n = {result['n']}, mean of {len(result['seeds'])} seeds; other rows from the paper")
    print("  " + "".ljust(18) + "".join(name.rjust(10) for name in names) + "     MAE")
    for name, values in rows.items():
        mae = "" if name == "truth" else f"{np.mean(np.abs(np.subtract(values, truth))):8.3f}"
        print("  " + name.ljust(18) + "".join(f"{value:10.2f}" for value in values) + mae)
    print(f"\nmean absolute error {result['mae']:.3f} nats, {1000 * result['seconds_per_estimate']:.0f} ms per estimate")


def benchmark_gradient(cfg: DictConfig) -> dict[str, Any]:
    """dI/da of y_i = a_i x_i + sqrt(1 - a_i^2) e_i, where I = -1/2 sum log(1 - a_i^2) and dI/da_i = a_i / (1 - a_i^2)."""
    loss = InfoAtlasLoss(slices=None, weights=cfg.weights)
    cells = []
    for n in (100, 1000):
        for d in (2, 5):
            correlation = torch.linspace(0.3, 0.8, d)
            gradients = []
            for seed in range(cfg.seeds):
                x, noise = torch.randn(2, n, d, generator=torch.Generator().manual_seed(seed))
                a = correlation.clone().requires_grad_()
                (-loss(x, a * x + (1 - a**2).sqrt() * noise)).backward()
                gradients.append(a.grad)
            found, truth = torch.stack(gradients), correlation / (1 - correlation**2)
            cosine = torch.cosine_similarity(found, truth.expand_as(found), dim=-1)
            size = found.norm(dim=-1).mean() / truth.norm()
            cells.append({"n": n, "d": d, "cosine": round(float(cosine.mean()), 4), "size": round(float(size), 4)})
    return {"suite": "gradient", "cells": cells, "seeds": list(range(cfg.seeds))}


def print_gradient(result: dict[str, Any]) -> None:
    print("\ngradient of the loss against the analytic gradient of correlated Gaussians")
    for cell in result["cells"]:
        print(f"  n = {cell['n']:5d}, d = {cell['d']}: cosine {cell['cosine']:.3f}, size {cell['size']:.2f} of the truth")


def benchmark_time(cfg: DictConfig) -> dict[str, Any]:
    loss, model = InfoAtlasLoss(weights=cfg.weights), InfoAtlas.from_pretrained(cfg.weights)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(100, 100, generator=generator).requires_grad_()
    y = 0.7 * x.detach() + torch.randn(100, 100, generator=generator)
    seconds = {"loss": _median_seconds(lambda: loss(x, y).backward())}
    for n in (1000, 5000, 50_000):
        a, b = torch.randn(2, n, 5, generator=generator)
        seconds[f"estimate_{n}"] = _median_seconds(lambda a=a, b=b: model.estimate(a, a + b))
    return {"suite": "time", "seconds": {name: round(value, 4) for name, value in seconds.items()}}


def _median_seconds(call: Callable[[], object], repeats: int = 15) -> float:
    for _ in range(3):
        call()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        call()
        times.append(time.perf_counter() - began)
    return float(np.median(times))


def print_time(result: dict[str, Any]) -> None:
    print("\nmedian of 15 calls")
    for name, seconds in result["seconds"].items():
        what = "loss, forward and backward, n = 100, d = 100, 25 slices" if name == "loss" else f"estimate, d = 5, n = {name[9:]}"
        print(f"  {what}: {1000 * seconds:.0f} ms")


SUITES = {
    "bmi": (benchmark_bmi, print_bmi),
    "gradient": (benchmark_gradient, print_gradient),
    "time": (benchmark_time, print_time),
}


@hydra_main("benchmark_mi")
def main(cfg: DictConfig) -> None:
    if cfg.suite not in SUITES:
        raise ValueError(f"unknown suite {cfg.suite!r}; accepted: {', '.join(SUITES)}")
    torch.set_num_threads(cfg.threads)
    run, show = SUITES[cfg.suite]
    result = run(cfg)
    show(result)
    content = result | {
        "version": __version__,
        "weights": str(cfg.weights),
        "weights_sha256": weights_hash(cfg.weights),
        "machine": describe_machine(cfg.threads),
        "command": "python " + " ".join(["tasks/benchmark_mi.py", *sys.argv[1:]]),
    }
    with replace_file(cfg.out) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n")
    print(cfg.out)


if __name__ == "__main__":
    main()
