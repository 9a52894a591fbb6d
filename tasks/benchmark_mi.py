"""Measure the estimator against distributions with known mutual information.

    python tasks/benchmark_mi.py suite=bmi out=docs/results/bmi.json

``suite=bmi``: the eight tasks of Table 1 of the InfoAtlas paper, n = 5000, mean over ten seeds.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from infoatlas_rl import InfoAtlas, __version__
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


SUITES = {"bmi": (benchmark_bmi, print_bmi)}


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
