"""Suites ``bmi``, ``discrete``, ``bmi40``, ``families`` and ``derived``: distributions with known mutual information, the first
two with the published figures of the tables of paper and poster."""

from __future__ import annotations

from typing import Any

import numpy as np
from omegaconf import DictConfig

from infoatlas_rl import InfoAtlas
from infoatlas_rl.distributions import BMI_40, BMI_TASKS, DISCRETE_TASKS, BenchmarkTask, derived_tasks, varied_tasks
from infoatlas_rl.tables import Table
from infoatlas_rl.tasks.shell.progress import progress_bar

PUBLISHED: dict[str, dict[str, list[float]]] = {
    "bmi": {
        "InfoAtlas (paper)": [0.60, 0.89, 0.41, 0.21, 0.93, 0.96, 1.46, 0.39],
        "MINE": [0.60, 1.00, 0.53, 0.21, 1.03, 1.06, 1.63, 0.39],
        "InfoNCE": [0.56, 0.98, 0.49, 0.18, 0.97, 1.03, 1.62, 0.40],
        "MINDE": [0.58, 0.92, 0.43, 0.36, 0.89, 1.01, 1.42, 0.50],
        "KSG": [0.54, 0.75, 0.25, 0.07, 0.79, 0.58, 1.61, 0.41],
    },
    "discrete": {
        "InfoAtlas (poster)": [0.141, 0.500, 0.536, 0.573, 0.333],
        "MINE": [0.137, 0.654, 0.554, 0.723, 0.340],
        "InfoNCE": [0.135, 0.502, 0.606, 0.725, 0.233],
        "MINDE": [0.226, 1.093, 1.676, 1.638, 0.389],
        "KSG": [0.150, 0.242, 3.700, 1.754, 1.879],
    },
}
"""Table 1 of the paper and the second table of the poster, in the order of the tasks."""
DIGITS = {"bmi": 2, "discrete": 3}
LARGE = 0.08
"""An error that is pointed out."""


def run_bmi(cfg: DictConfig) -> dict[str, Any]:
    return {"suite": "bmi"} | _run(cfg, BMI_TASKS, cfg.n)


def run_discrete(cfg: DictConfig) -> dict[str, Any]:
    return {"suite": "discrete"} | _run(cfg, DISCRETE_TASKS, 1000)


def run_bmi40(cfg: DictConfig) -> dict[str, Any]:
    return {"suite": "bmi40"} | _run(cfg, BMI_40, cfg.n)


def run_families(cfg: DictConfig) -> dict[str, Any]:
    return {"suite": "families"} | _run(cfg, varied_tasks(), 1000)


def run_derived(cfg: DictConfig) -> dict[str, Any]:
    return {"suite": "derived"} | _run(cfg, derived_tasks(), 1000)


def _run(cfg: DictConfig, tasks: tuple[BenchmarkTask, ...], n: int) -> dict[str, Any]:
    model = InfoAtlas.from_pretrained(cfg.weights)
    rows: dict[str, dict[str, Any]] = {}
    with progress_bar(f"n = {n}", len(tasks) * cfg.seeds) as bar:
        for number, task in enumerate(tasks):
            results = []
            for seed in range(cfg.seeds):
                x, y = task.sample(n, seed)
                results.append(model.estimate(x, y, seed=seed))
                bar(number * cfg.seeds + seed + 1, task.name)
            values = [r.mi for r in results]
            rows[task.name] = {
                "truth": round(task.mi, 4),
                "mean": round(float(np.mean(values)), 4),
                "std": round(float(np.std(values, ddof=1)), 4) if cfg.seeds > 1 else None,
                "bound": round(float(np.mean([r.bound for r in results])), 4),
                "covered": round(float(np.mean([r.interval[0] <= task.mi <= r.interval[1] for r in results])), 3),
            }
    return {
        "tasks": rows,
        "mae": round(float(np.mean([abs(row["mean"] - row["truth"]) for row in rows.values()])), 4),
        "mae_bound": round(float(np.mean([abs(row["bound"] - row["truth"]) for row in rows.values()])), 4),
        "coverage": round(float(np.mean([row["covered"] for row in rows.values()])), 4),
        "n": n,
        "seeds": list(range(cfg.seeds)),
    }


def table(result: dict[str, Any]) -> Table:
    tasks, digits = result["tasks"], DIGITS[result["suite"]]
    truth = [task["truth"] for task in tasks.values()]
    rows = [["truth", *(f"{value:.{digits}f}" for value in truth), ""]]
    ours = [f"**{task['mean']:.{digits}f}**" for task in tasks.values()]
    rows.append(["**infoatlas-rl**", *ours, f"**{result['mae']:.3f}**"])
    bounds = [f"{task['bound']:.{digits}f}" for task in tasks.values()]
    rows.append(["its bound, uncalibrated", *bounds, f"{result['mae_bound']:.3f}"])
    for method, values in PUBLISHED[result["suite"]].items():
        mae = np.mean(np.abs(np.subtract(values, truth)))
        rows.append([method, *(f"{value:.{digits}f}" for value in values), f"{mae:.3f}"])
    note = (
        f"n = {result['n']}, mean of {len(result['seeds'])} seeds; the rows below ours are published figures. The 90 % interval "
        f"covers the truth in {result['coverage']:.0%}."
    )
    return Table(["nats", *tasks, "mean error"], rows, note)


def long_table(result: dict[str, Any]) -> Table:
    """One row for every task, the largest errors in bold."""
    rows = []
    for name, task in result["tasks"].items():
        error = task["mean"] - task["truth"]
        cell = f"{error:+.3f}" if abs(error) <= LARGE else f"**{error:+.3f}**"
        rows.append([name, f"{task['truth']:.3f}", f"{task['mean']:.3f}", cell, f"{task['bound']:.3f}", f"{task['covered']:.0%}"])
    worst = max(abs(task["mean"] - task["truth"]) for task in result["tasks"].values())
    note = (
        f"n = {result['n']}, mean of {len(result['seeds'])} seeds. Mean error {result['mae']:.3f}, of the bound "
        f"{result['mae_bound']:.3f}; largest {worst:.3f}; bold above {LARGE}. "
        f"The 90 % interval covers the truth in {result['coverage']:.0%}."
    )
    return Table(["task", "truth", "estimate", "error", "bound", "covered"], rows, note)
