"""Success on unseen scenes against the number of demonstrations, with and without key states."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from infoatlas_rl.maniskill.pictures import curves_with_intervals
from infoatlas_rl.policies.evaluation import success_rate
from infoatlas_rl.records import command_line, keep_result, require_results
from infoatlas_rl.tables import Table
from infoatlas_rl.tasks.suites.arms import (
    collect_first,
    outcomes,
    paths,
    run_all,
    run_task,
    train_and_evaluate,
    training_record,
)
from infoatlas_rl.weights import weights_hash

ARMS = ("infoatlas", "none", "even")
"""Key states of the others are found in 500 demonstrations, whatever the number to train on."""


def run(cfg: DictConfig) -> None:
    require_results(cfg.out)
    if not set(cfg.arms) <= set(ARMS):
        raise ValueError(f"arms={list(cfg.arms)}: accepted are {', '.join(ARMS)}")
    jobs = [(arm, count, seed) for seed in cfg.seeds for count in cfg.counts for arm in cfg.arms]
    if not cfg.only_collect:
        collect_first(cfg, max(cfg.counts))
        named = [
            (f"{arm}, {count} demonstrations, seed {seed}", partial(_job, cfg, arm, count, seed)) for arm, count, seed in jobs
        ]
        run_all(f"policies for {cfg.env.name}", named, cfg.jobs, lambda: _write(cfg))
    _write(cfg)


def _folder(cfg: DictConfig, arm: str, count: int, seed: int) -> Path:
    return Path(cfg.run) / f"{arm}-{count}-{seed}"


def _job(cfg: DictConfig, arm: str, count: int, seed: int) -> None:
    folder = _folder(cfg, arm, count, seed)
    options = [f"keystates={arm}", f"training.seed={seed}", f"demos.count={count}", *paths(cfg), *cfg.train.split()]
    if arm == "infoatlas":
        found = folder / "keystates"
        if not (found / "keystates.npz").is_file():
            discovery = [f"env={cfg.env.name}", f"demos.count={count}", f"out={found}", "threads=1", *paths(cfg)]
            run_task("discover_keystates", folder / "discover_keystates.txt", *discovery)
        options.append(f"keystates.path={found}/keystates.npz")
    train_and_evaluate(folder, cfg.env.name, {"unseen": cfg.episodes}, *options)


def _write(cfg: DictConfig) -> None:
    arms: dict[str, Any] = {}
    for arm in cfg.arms:
        arms[arm] = {}
        for count in cfg.counts:
            folders = [_folder(cfg, arm, count, seed) for seed in cfg.seeds]
            found = {folder: outcome for folder in folders if (outcome := outcomes(folder, "unseen")) is not None}
            if found:
                training, *_ = map(training_record, found)
                k, n = sum(sum(o.values()) for o in found.values()), sum(map(len, found.values()))
                arms[arm][str(count)] = success_rate(k, n, trainings=len(found)) | {"seeds": len(found)}
    if not any(arms.values()):
        raise ValueError(f"nothing has been run in {cfg.run}; leave out only_collect=true")
    result = {
        "arms": arms,
        "weights_sha256": weights_hash("base"),
        "version": training["version"],
        "machine": training["machine"],
        "command": command_line("benchmark_scale"),
    }
    content = keep_result(Path(cfg.out), cfg.env.name, result)
    panels = {
        env: {
            arm: [(int(count), r["k"] / r["n"], *r["wilson95"]) for count, r in results.items()]
            for arm, results in entry["arms"].items()
        }
        for env, entry in content.items()
    }
    curves_with_intervals(Path(cfg.picture), panels, "demonstrations", "success on unseen scenes", log_x=True)
    print(table({cfg.env.name: result}).text())


def table(content: dict[str, Any]) -> Table:
    """Task to result."""
    counts = sorted({int(count) for entry in content.values() for results in entry["arms"].values() for count in results})
    rows = []
    for env, entry in content.items():
        for arm, results in entry["arms"].items():
            found = [results.get(str(count)) for count in counts]
            rows.append([env, arm, *("" if r is None else f"{r['k'] / r['n']:.0%} ({r['k']} of {r['n']})" for r in found)])
    return Table(["env", "key states", *(f"{count} demonstrations" for count in counts)], rows)
