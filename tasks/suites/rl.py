"""Success of SAC against environment steps, plain and with key-state conditioning and shaping."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from infoatlas_rl.maniskill.pictures import curves_with_intervals
from infoatlas_rl.policies.evaluation import interval_of_runs
from infoatlas_rl.policies.policy import KeyStatePolicy
from infoatlas_rl.policies.protocol import policy_task, released_policy
from infoatlas_rl.records import command_line, keep_result, require_results
from infoatlas_rl.tables import Table
from infoatlas_rl.tasks.shell.options import chosen
from infoatlas_rl.tasks.suites.arms import paths, run_all, run_task


def run(cfg: DictConfig) -> None:
    require_results(cfg.out)
    only = chosen("only", cfg.only, cfg.arms)
    if not cfg.only_collect:
        jobs = [(arm, seed) for seed in cfg.seeds for arm in only]
        named = [(f"{arm}, seed {seed}", partial(_job, cfg, arm, seed)) for arm, seed in jobs]
        run_all(f"SAC on {_title(cfg)}", named, cfg.jobs, lambda: _write(cfg))
    _write(cfg)


def _title(cfg: DictConfig) -> str:
    return f"{cfg.env.name}, {cfg.reward.replace('_', ' ')} reward{', demonstrations in every batch' if cfg.prior else ''}"


def _folder(cfg: DictConfig, arm: str, seed: int) -> Path:
    return Path(cfg.run) / f"{arm.replace(' ', '-')}-{seed}"


def _job(cfg: DictConfig, arm: str, seed: int) -> None:
    folder = _folder(cfg, arm, seed)
    options = [f"env={cfg.env.name}", f"reward={cfg.reward}", f"seed={seed}", f"out={folder}", *paths(cfg)]
    options += cfg.prior_options.split() if cfg.prior else []
    run_task("train_rl", folder / "train_rl.txt", *options, *cfg.arms[arm].split(), *cfg.train.split())


def _write(cfg: DictConfig) -> None:
    arms: dict[str, Any] = {}
    for arm in cfg.arms:
        folders = [_folder(cfg, arm, seed) for seed in cfg.seeds]
        folders = [folder for folder in folders if (folder / "curve.json").is_file()]
        if folders:
            found = [json.loads((folder / "curve.json").read_text()) for folder in folders]
            options = json.loads((folders[0] / "options.json").read_text())
            # {steps: [solved with every seed]}
            curve: dict[int, list[int]] = {}
            for result in found:
                for point in result["curve"]:
                    curve.setdefault(point["steps"], []).append(point["k"])
            arms[arm] = {
                "seeds": [result["seed"] for result in found],
                "n": found[0]["episodes"],
                "policy_sha256": options.get("policy_sha256"),  # that predicts the key states
                "curve": {str(steps): ks for steps, ks in curve.items()},
            }
            ran = {"version": found[0]["version"], "machine": found[0]["machine"]}
    if not arms:
        raise ValueError(f"nothing has been run in {cfg.run}; leave out only_collect=true")
    _, policy = KeyStatePolicy.load_with_record(released_policy(policy_task(cfg.env.task).name))
    result = {
        "arms": arms,
        "weights_sha256": policy["keystates"]["weights_sha256"],
        **ran,
        "command": command_line("benchmark_rl"),
    }
    draw(keep_result(Path(cfg.out), _title(cfg), result), Path(cfg.picture))
    print(table(_title(cfg), result).text())


def draw(content: dict[str, Any], path: Path) -> None:
    """Every table of a file of results as a panel: success against steps, with 95 % intervals."""
    panels = {title: {arm: _points(r) for arm, r in entry["arms"].items()} for title, entry in content.items()}
    curves_with_intervals(path, panels, "environment steps", "success on fresh scenes")


def _points(arm: dict[str, Any]) -> list[tuple[float, ...]]:
    """Steps, success, and the ends of its interval."""
    return [
        (int(steps), sum(solved) / (arm["n"] * len(solved)), *interval_of_runs(solved, arm["n"]))
        for steps, solved in arm["curve"].items()
    ]


def table(title: str, entry: dict[str, Any], most: int | None = None) -> Table:
    """Scenes solved at any step, seed by seed, at ``most`` of the evaluations, and the last one."""
    steps = sorted({int(steps) for r in entry["arms"].values() for steps in r["curve"]})
    every = math.ceil(len(steps) / (most or len(steps)))
    shown = [str(step) for i, step in enumerate(steps, start=1) if i % every == 0 or i == len(steps)]
    rows = []
    for arm, r in entry["arms"].items():
        cells = [" + ".join(map(str, r["curve"].get(step, []))) for step in shown]
        rows.append([arm, *cells, " + ".join([str(r["n"])] * len(r["seeds"]))])
    return Table([f"{title}: scenes solved after", *(f"{int(step):,} steps" for step in shown), "of"], rows)
