"""Success rates of policies that differ in their key states and in nothing else."""

from __future__ import annotations

from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from infoatlas_rl.policies.evaluation import bootstrap_interval, success_rate
from infoatlas_rl.policies.protocol import unseen_episodes
from infoatlas_rl.records import command_line, keep_result, require_results
from infoatlas_rl.tables import Table
from infoatlas_rl.tasks.shell.options import CONFIGS
from infoatlas_rl.tasks.suites.arms import collect_first, outcomes, paths, run_all, train_and_evaluate, training_record
from infoatlas_rl.weights import weights_hash

SPLITS = ("seen", "unseen")
ORDER = ("none", "even", "no-mi", "mine-100", "mine-1000", "infonet", "infoatlas")


def run(cfg: DictConfig) -> dict[str, Any]:
    require_results(cfg.out)
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
    print(table({cfg.env.name: found}).text())
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
        low, high = bootstrap_interval(by_scene, generator)
        result[split] = {
            "difference": round(float(by_scene.mean()), 4),
            "interval95": [round(low, 4), round(high, 4)],
            "better": int((np.array(difference) > 0).sum()),
            "worse": int((np.array(difference) < 0).sum()),
            "episodes": int(np.size(difference)),
        }
    return result


def table(content: dict[str, Any]) -> Table:
    """Task to arm to result: success of every arm, and how it differs from none on the same scenes."""
    names = sorted({arm for arms in content.values() for arm in arms}, key=ORDER.index)
    envs = list(content)
    rows = []
    for arm in names:
        cells, rates = [], []
        for env, split in product(envs, SPLITS):
            r = content[env].get(arm)
            if r is not None:
                rates.append(r[split]["k"] / r[split]["n"])
            cells.append("" if r is None else f"{rates[-1]:.1%} ({r[split]['k']} of {r[split]['n']})")
        mean = f"{sum(rates) / len(rates):.1%}" if len(rates) == len(SPLITS) * len(envs) else ""
        seeds = ", ".join(str(len(content[env][arm]["seeds"])) if arm in content[env] else "0" for env in envs)
        rows.append([f"**{arm}**" if arm == "infoatlas" else arm, *cells, mean, seeds])
    columns = [f"{env}, {split}" for env, split in product(envs, SPLITS)]
    note = "\n".join(_difference(env, content[env]["infoatlas"]["minus_none"]) for env in envs if _compared(content[env]))
    return Table(["key states", *columns, "mean of all", "training seeds"], rows, note)


def _compared(arms: dict[str, Any]) -> bool:
    return "minus_none" in arms.get("infoatlas", {})


def _difference(env: str, difference: dict[str, Any]) -> str:
    parts = []
    for split in SPLITS:
        d = difference[split]
        low, high = d["interval95"]
        apart = f"{split} {d['better']} and {d['worse']} of {d['episodes']}"
        if d["better"] + d["worse"]:
            apart += f" ({100 * d['difference']:+.1f} points; 95 %: {100 * low:+.1f} to {100 * high:+.1f})"
        parts.append(apart)
    return f"- {env}, solved with InfoAtlas and not with none, and the reverse: {', '.join(parts)}."
