"""Success rates of policies that differ in their key states and in nothing else.

    python tasks/table2.py env=PickCube

Trains a policy for every arm and seed (``tasks/train_policy.py``), evaluates it on seen and unseen scenes
(``tasks/evaluate_policy.py``), and writes ``{env: {arm: {"seen": {"k", "n"}, "unseen": {"k", "n"}, "seeds": [...]}}}`` to
``docs/results/table2.json``, with the paired difference of InfoAtlas and no key states. Finished runs are kept and not
repeated; an interrupted one goes on.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from infoatlas_rl.policies.protocol import unseen_episodes
from infoatlas_rl.policies.rollout import success_rate
from infoatlas_rl.records import command_line, keep_result
from infoatlas_rl.tables import Table
from infoatlas_rl.tasks.options import CONFIGS, hydra_main
from infoatlas_rl.tasks.suites.arms import collect_first, outcomes, paths, run_all, train_and_evaluate, training_record
from infoatlas_rl.weights import weights_hash

SPLITS = ("seen", "unseen")
BOOTSTRAPS = 10_000


def run(cfg: DictConfig) -> dict[str, Any]:
    arms = OmegaConf.to_container(cfg.seeds)
    ranks = range(max(map(len, arms.values())))
    jobs = [(arm, seeds[rank]) for rank in ranks for arm, seeds in arms.items() if rank < len(seeds)]
    if not cfg.only_collect:
        _prepare(cfg, [arm for arm, seeds in arms.items() if seeds])
        splits = {"seen": cfg.seen, "unseen": unseen_episodes(cfg.env.name) if cfg.unseen is None else cfg.unseen}

        def job(arm: str, seed: int) -> None:
            options = [f"keystates={arm}", f"training.seed={seed}", f"demos.count={cfg.demos}", *paths(cfg), *cfg.train.split()]
            train_and_evaluate(_folder(cfg, arm, seed), cfg.env.name, splits, *options)

        named = [(f"{arm}, seed {seed}", partial(job, arm, seed)) for arm, seed in jobs]
        run_all(f"policies for {cfg.env.name}", named, cfg.jobs, lambda: _write(cfg, arms))
    return _write(cfg, arms)


def _write(cfg: DictConfig, arms: dict[str, list[int]]) -> dict[str, Any]:
    found = {arm: _results(cfg, arm, seeds) for arm, seeds in arms.items()}
    found = {arm: result for arm, result in found.items() if result is not None}
    if not found:
        raise ValueError(f"nothing has been run in {cfg.run}; leave out only_collect=true")
    if {"infoatlas", "none"} <= set(found) and set(found["infoatlas"]["seeds"]) & set(found["none"]["seeds"]):
        found["infoatlas"]["minus_none"] = _paired(cfg, found["infoatlas"]["seeds"], found["none"]["seeds"])
    keep_result(Path(cfg.out), cfg.env.name, found)
    _print(cfg.env.name, found)
    return found


def _prepare(cfg: DictConfig, arms: list[str]) -> None:
    """Key states and demonstrations are there before the first job."""
    for arm in arms:
        keystates = OmegaConf.load(CONFIGS / "keystates" / f"{arm}.yaml")
        keystates = OmegaConf.create({"paths": cfg.paths, "env": cfg.env, "keystates": keystates}).keystates
        if keystates.path is not None and not Path(keystates.path).is_file():
            raise ValueError(
                f"no key states at {keystates.path}; make them with: {keystates.command}; or seeds.{arm}=[] leaves them out"
            )
    collect_first(cfg, cfg.demos)


def _folder(cfg: DictConfig, arm: str, seed: int) -> Path:
    return Path(cfg.run) / f"{arm}-{seed}"


def _results(cfg: DictConfig, arm: str, seeds: list[int]) -> dict[str, Any] | None:
    """Success of an arm over all training seeds that have been evaluated on both splits."""
    done = [seed for seed in seeds if all(outcomes(_folder(cfg, arm, seed), split) is not None for split in SPLITS)]
    if not done:
        return None
    result: dict[str, Any] = {}
    for split in SPLITS:
        found = [outcomes(_folder(cfg, arm, seed), split) for seed in done]
        by_seed = [sum(outcome.values()) for outcome in found]
        k, n = sum(by_seed), sum(len(outcome) for outcome in found)
        result[split] = success_rate(k, n, trainings=len(done)) | {"k_by_seed": by_seed}
    training, *_ = (training_record(_folder(cfg, arm, seed)) for seed in done)
    return result | {
        "seeds": done,
        "demonstrations": training["demonstrations"]["count"],
        "training_steps": training["config"]["training"]["steps"],
        "training_seconds": training["seconds"],
        "steps_per_s": training["steps_per_s"],
        "weights_sha256": weights_hash("base"),
        "version": training["version"],
        "machine": training["machine"],
        "command": command_line("table2"),
    }


def _paired(cfg: DictConfig, ours: list[int], others: list[int]) -> dict[str, Any]:
    """Mean difference of success on the same scenes and training seeds; its interval by resampling scenes."""
    seeds = [seed for seed in ours if seed in others]
    generator = np.random.default_rng(0)
    result: dict[str, Any] = {"seeds": seeds}
    for split in SPLITS:
        difference = []
        for seed in seeds:
            a, b = (outcomes(_folder(cfg, arm, seed), split) for arm in ("infoatlas", "none"))
            difference.append([float(a[scene]) - float(b[scene]) for scene in sorted(a.keys() & b.keys())])
        by_scene = np.array(difference).mean(0)
        means = by_scene[generator.integers(len(by_scene), size=(BOOTSTRAPS, len(by_scene)))].mean(1)
        low, high = np.quantile(means, [0.025, 0.975])
        result[split] = {
            "difference": round(float(by_scene.mean()), 4),
            "interval95": [round(low, 4), round(high, 4)],
            "better": int((np.array(difference) > 0).sum()),
            "worse": int((np.array(difference) < 0).sum()),
            "episodes": int(np.size(difference)),
        }
    return result


def _print(env: str, found: dict[str, Any]) -> None:
    rows = []
    for arm, result in found.items():
        cells = [f"{result[s]['k']} of {result[s]['n']} ({result[s]['k'] / result[s]['n']:.1%})" for s in SPLITS]
        rows.append([arm, *cells, str(len(result["seeds"]))])
    print(f"\n{env}: success at any step")
    print(Table(["key states", *SPLITS, "training seeds"], rows).text())
    if "minus_none" in found.get("infoatlas", {}):
        for split in SPLITS:
            d = found["infoatlas"]["minus_none"][split]
            low, high = d["interval95"]
            print(
                f"InfoAtlas minus none, {split}: {d['difference']:+.1%} (95 %: {low:+.1%} to {high:+.1%}); of {d['episodes']} "
                f"episodes it alone solves {d['better']}, none alone {d['worse']}"
            )


@hydra_main("table2")
def main(cfg: DictConfig) -> None:
    run(cfg)


if __name__ == "__main__":
    main()
