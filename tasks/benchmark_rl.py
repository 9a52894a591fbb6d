"""Success of SAC against environment steps, plain and with key-state conditioning and shaping.

    python tasks/benchmark_rl.py env=PickCube

Runs ``tasks/train_rl.py`` for every arm and seed, and writes ``docs/results/rl.json`` and a picture. Finished runs are kept, an
interrupted one goes on from its checkpoint.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from infoatlas_rl import __version__
from infoatlas_rl.files import replace_file
from infoatlas_rl.maniskill.pictures import curves_with_intervals
from infoatlas_rl.weights import weights_hash
from policies.rollout import wilson
from tasks.arms import run_all, run_task
from tasks.common import describe_machine, hydra_main, print_table


def run(cfg: DictConfig) -> None:
    if not cfg.only_collect:
        jobs = [(arm, seed) for seed in cfg.seeds for arm in cfg.arms]
        named = [(f"{arm}, seed {seed}", partial(_job, cfg, arm, seed)) for arm, seed in jobs]
        run_all(f"SAC on {cfg.env.name}", named, cfg.jobs, lambda: _write(cfg))
    _write(cfg)


def _folder(cfg: DictConfig, arm: str, seed: int) -> Path:
    return Path(cfg.run) / f"{arm.replace(' ', '-')}-{seed}"


def _job(cfg: DictConfig, arm: str, seed: int) -> None:
    folder = _folder(cfg, arm, seed)
    if not (folder / "curve.json").is_file():
        options = [f"env={cfg.env.name}", f"seed={seed}", f"out={folder}", *cfg.arms[arm].split(), *cfg.train.split()]
        run_task("train_rl", folder / "train_rl.txt", *options)


def _write(cfg: DictConfig) -> None:
    arms: dict[str, Any] = {}
    for arm in cfg.arms:
        paths = [_folder(cfg, arm, seed) / "curve.json" for seed in cfg.seeds]
        found = [json.loads(path.read_text()) for path in paths if path.is_file()]
        if found:
            curves = [result["curve"] for result in found]
            arms[arm] = {
                "seeds": [result["seed"] for result in found],
                "n": found[0]["episodes"],
                "steps": [point["steps"] for point in curves[0]],
                "k": [[point["k"] for point in curve] for curve in curves],
                "seconds": [result["seconds"] for result in found],
            }
    if not arms:
        raise ValueError(f"nothing has been run in {cfg.run}; leave out only_collect=true")
    content = {
        "task": cfg.env.name,
        "arms": arms,
        "weights_sha256": weights_hash("base"),
        "version": __version__,
        "machine": describe_machine(1),
        "command": f"python tasks/benchmark_rl.py env={cfg.env.name}",
    }
    out = Path(cfg.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(out) as temporary:
        temporary.write_text(json.dumps(content, indent=1))
    panel = {}
    for arm, result in arms.items():
        trials = result["n"] * len(result["k"])
        solved = [sum(ks) for ks in zip(*result["k"])]
        panel[arm] = [(step, k / trials, *wilson(k, trials)) for step, k in zip(result["steps"], solved)]
    curves_with_intervals(Path(cfg.picture), {cfg.env.name: panel}, "environment steps", "success on fresh scenes")
    steps = next(iter(arms.values()))["steps"]
    rows = [
        [str(step), *(" + ".join(str(ks[i]) for ks in r["k"]) + f" of {r['n']}" for r in arms.values() if i < len(r["steps"]))]
        for i, step in enumerate(steps)
    ]
    print(f"\n{cfg.env.name}: solved at any step, by seed")
    print_table(["environment steps", *arms], rows)


@hydra_main("benchmark_rl")
def main(cfg: DictConfig) -> None:
    run(cfg)


if __name__ == "__main__":
    main()
