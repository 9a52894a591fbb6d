"""Demonstrations generated from a few: rates by where they are cut, and success of policies that are trained on them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from infoatlas_rl.keystates import KeyStateConfig
from infoatlas_rl.maniskill.collect import demo_path
from infoatlas_rl.maniskill.demos import load_demonstrations
from infoatlas_rl.maniskill.envs import make_env
from infoatlas_rl.maniskill.recording import SOURCE_MODE
from infoatlas_rl.maniskill.tasks import Task, configured_task
from infoatlas_rl.policies.cuts import find_cuts
from infoatlas_rl.policies.evaluation import success_rate
from infoatlas_rl.policies.generation import generated_path, make_plan
from infoatlas_rl.policies.references import ENOUGH, find_references
from infoatlas_rl.policies.replay import Replay
from infoatlas_rl.processes import worker_pool
from infoatlas_rl.records import keep_result, provenance, require_results, write_json
from infoatlas_rl.tables import Table
from infoatlas_rl.tasks.shell.options import CONFIGS, chosen
from infoatlas_rl.tasks.shell.progress import progress_bar
from infoatlas_rl.tasks.suites.arms import collect_first, outcomes, paths, run_all, run_task, train_and_evaluate
from infoatlas_rl.weights import hashes_of_critic, weights_hash

SPACING = 10
"""Demonstrations between the first ones of two seeds."""
ARMS = {
    "infoatlas": ("keystates", "infoatlas", {}),
    "infoatlas, nearest object": ("keystates", "infoatlas", {}),
    "infoatlas, cuts as found": ("keystates", "infoatlas", {}),
    "infonet": ("keystates", "infonet", {}),
    "mine-100": ("keystates", "mine", {"steps": 100}),
    "velocity": ("velocity", "none", {}),
    "even": ("even", "none", {}),
    "even, cuts as found": ("even", "none", {}),
    "none": ("none", "none", {}),
    "events": ("events", "none", {}),
}
"""Name of an arm to its cuts, its estimator, and options of it. In all of them but "nearest object" what a stretch moves with is
found by mutual information, and in all but those "cuts as found" cuts are moved to where the demonstrations agree."""
HOW = {"alone": None, "generated": "keystates", "generated-even": "even"}
"""What policies are trained on, to its cuts: the few demonstrations, or those generated from them."""
NAMES = {"alone": "no", "generated": "yes, cut at key states", "generated-even": "yes, cut evenly"}
PARTS = ("rates", *HOW)
FEW = ("infoatlas", "even")
"""Arms that are run with every number of demonstrations."""


class Job(NamedTuple):
    task: Task
    concepts: int | None
    arm: str
    count: int
    seed: int
    demos: str
    scenes: range
    path: Path


def run(cfg: DictConfig) -> dict[str, Any]:
    require_results(cfg.out)
    wanted = chosen("only", cfg.only, PARTS)
    if not cfg.only_collect:
        collect_first(cfg, SPACING * max(cfg.seeds) + max([*cfg.counts, *cfg.policies]))
        if "rates" in wanted:
            _run_rates(cfg)
        named = [
            (f"{how} {count}, seed {seed}", partial(_policy, cfg, how, count, seed))
            for seed in cfg.seeds
            for count in cfg.policies
            for how in HOW
            if how in wanted
        ]
        run_all(f"policies for {cfg.env.name}", named, cfg.jobs, lambda: None)
    return _collect(cfg, wanted)


def _jobs(cfg: DictConfig) -> list[Job]:
    task = configured_task(cfg.env.task)
    demos = str(demo_path(cfg.paths.demos, task, SOURCE_MODE))
    jobs = []
    for seed in cfg.seeds:
        for count in cfg.counts:
            for arm in ARMS if count == cfg.all_cuts_at else FEW:
                path = Path(cfg.run) / "rates" / f"{arm.replace(', ', '-').replace(' ', '-')}-{count}-{seed}.json"
                scenes = range(cfg.first_seed, cfg.first_seed + cfg.scenes)
                jobs.append(Job(task, cfg.env.concepts, arm, count, seed, demos, scenes, path))
    return jobs


def _run_rates(cfg: DictConfig) -> None:
    waiting = [job for job in _jobs(cfg) if not job.path.is_file()]
    with worker_pool(cfg.jobs) as pool, progress_bar(f"rates of {cfg.env.name}", len(waiting)) as bar:
        for done, (job, _) in enumerate(zip(waiting, pool.map(measure_rate, waiting), strict=True), start=1):
            bar(done, f"{job.arm}, {job.count} demonstrations, seed {job.seed}")


def measure_rate(job: Job) -> None:
    """Replay some demonstrations in all scenes of a job and write down what came of it."""
    import torch

    torch.set_num_threads(1)
    task = job.task
    first = SPACING * job.seed
    demos = load_demonstrations(job.demos, task, count=first + job.count)
    demos = replace(demos, demonstrations=demos.demonstrations[first:])
    cuts, estimator, options = ARMS[job.arm]
    estimator = instantiate(OmegaConf.load(CONFIGS / "estimator" / f"{estimator}.yaml"), **options) or None
    placed = find_cuts(cuts, demos, estimator, KeyStateConfig(concepts=job.concepts, seed=job.seed))
    plan = make_plan(demos, placed, agree=not job.arm.endswith("as found"))
    if job.arm.endswith("nearest object"):
        few = slice(ENOUGH - 1)  # of which nothing can be estimated
        plan = replace(plan, references=find_references(plan.courses[few], plan.cuts[few], task))
    env = make_env(task, control_mode=SOURCE_MODE, obs_mode="none")
    replay = Replay(env, task, plan)
    found = {seed: replay(seed) for seed in job.scenes}
    env.close()
    solved = [seed for seed, outcome in found.items() if outcome.reason is None]
    reasons = sorted({outcome.reason for outcome in found.values() if outcome.reason is not None})
    content = {
        "solved": solved,
        "scenes": len(found),
        "at_once": [seed for seed in solved if found[seed].replays == 1],
        "reasons": {reason: sum(outcome.reason == reason for outcome in found.values()) for reason in reasons},
        "cuts": plan.cuts.tolist(),
        "references": [[r.actor, r.turns, r.carried] for r in plan.references],
        "weights_sha256": weights_hash("base"),
    }
    write_json(job.path, content)


def _policy(cfg: DictConfig, how: str, count: int, seed: int) -> None:
    task, folder, first = configured_task(cfg.env.task), Path(cfg.run) / f"{how}-{count}-{seed}", SPACING * seed
    collected = load_demonstrations(demo_path(cfg.paths.demos, task, SOURCE_MODE), task)
    few = _some(collected.path, folder, [demo.episode_id for demo in collected.demonstrations[first : first + count]])
    path = few
    if cuts := HOW[how]:
        name = f"benchmark-{count}-{seed}" if cuts == "keystates" else f"benchmark-{cuts}-{count}-{seed}"
        options = [f"env={cfg.env.name}", f"demos.path={few}", f"cuts={cuts}", f"name={name}", *paths(cfg)]
        run_task(
            "generate_demos",
            folder / "generate_demos.txt",
            *options,
            f"generate.count={cfg.generated}",
            "generate.processes=1",
            f"discovery.seed={seed}",
            "threads=1",
        )
        path = generated_path(cfg.paths.demos, task, name)
    options = [f"demos.path={path}", "keystates=none", f"training.seed={seed}", *paths(cfg), *cfg.train.split()]
    train_and_evaluate(folder, cfg.env.name, {"unseen": cfg.unseen}, *options)


def _some(path: Path, folder: Path, episodes: list[int]) -> Path:
    """A file of some episodes of another, which is not copied: notes that name them, and a link to the trajectories."""
    folder.mkdir(parents=True, exist_ok=True)
    out = folder / "few.h5"
    meta = json.loads(path.with_suffix(".json").read_text())
    meta["episodes"] = [episode for episode in meta["episodes"] if episode["episode_id"] in episodes]
    write_json(out.with_suffix(".json"), meta)
    if not out.is_symlink():
        out.symlink_to(path.absolute())
    return out


def _collect(cfg: DictConfig, wanted: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {part: {} for part in PARTS}
    for job in _jobs(cfg):
        if job.path.is_file():
            rate = json.loads(job.path.read_text())
            if rate["weights_sha256"] not in hashes_of_critic("base"):
                raise ValueError(f"{job.path} was found with other InfoAtlas weights; remove it, and run it again")
            entry = {"seeds": [], "k_by_seed": [], "at_once_by_seed": [], "n": rate["scenes"]}
            entry = found["rates"].setdefault(job.arm, {}).setdefault(str(job.count), entry)
            entry["seeds"].append(job.seed)
            entry["k_by_seed"].append(len(rate["solved"]))
            entry["at_once_by_seed"].append(len(rate["at_once"]))
    for how in HOW:
        for count in cfg.policies:
            done = {seed: outcomes(Path(cfg.run) / f"{how}-{count}-{seed}", "unseen") for seed in cfg.seeds}
            done = {seed: outcome for seed, outcome in done.items() if outcome is not None}
            if done:
                by_seed = [sum(outcome.values()) for outcome in done.values()]
                n = sum(map(len, done.values()))
                entry = success_rate(sum(by_seed), n, trainings=len(done)) | {"k_by_seed": by_seed, "seeds": list(done)}
                found[how][str(count)] = entry
    by = provenance("benchmark_generation")
    found_with = {"weights_sha256": weights_hash("base")} | by
    generated = {"generated": cfg.generated} | found_with
    made = {"rates": found_with, "alone": by, "generated": generated, "generated-even": generated}
    parts = {part: found[part] | {"made": made[part]} for part in wanted if found[part]}
    if not parts:
        raise ValueError(f"nothing has been run in {cfg.run}; leave out only_collect=true")
    # They are run at different times: parts that are left out keep their figures, and what they were made with.
    content = keep_result(Path(cfg.out), cfg.env.name, parts, merge=True)
    result = content[cfg.env.name]
    for table in (rate_table(content), policy_table(content)):
        print(table.text())
    return result


def rate_table(content: dict[str, Any]) -> Table:
    """Task to result: rates by arm and number of demonstrations."""
    envs = list(content)
    counts = sorted({int(c) for env in envs for arm in ARMS for c in content[env].get("rates", {}).get(arm, {})})
    rows = []
    for count in counts:
        for arm in ARMS:
            cells = [content[env].get("rates", {}).get(arm, {}).get(str(count)) for env in envs]
            if any(cells):
                name = f"**{arm}**" if arm == "infoatlas" else arm
                rows.append([str(count), name, *("" if cell is None else _rate(cell) for cell in cells)])
    note = (
        "Scenes that the first replay solves, mean over draws of the demonstrations and its standard error; in brackets those "
        "that one of the demonstrations solves."
    )
    return Table(["demonstrations", "cuts", *envs], rows, note)


def _rate(cell: dict[str, Any]) -> str:
    shares = np.array(cell["at_once_by_seed"]) / cell["n"]
    spread = f" ± {100 * shares.std(ddof=1) / math.sqrt(len(shares)):.0f}" if len(shares) > 1 else ""
    return f"{100 * shares.mean():.0f}{spread} % ({100 * np.mean(cell['k_by_seed']) / cell['n']:.0f} %)"


def policy_table(content: dict[str, Any]) -> Table:
    """Task to result: success of policies from a few demonstrations, alone and with generation, by where these are cut."""
    envs = [env for env in content if not content[env].keys().isdisjoint(HOW)]
    rows = []
    for how in HOW:
        for count in sorted({int(c) for env in envs for c in content[env].get(how, {}) if c != "made"}):
            cells = [content[env].get(how, {}).get(str(count)) for env in envs]
            rows.append([str(count), NAMES[how], *("" if c is None else _success(c) for c in cells)])
    return Table(["demonstrations", "with generation", *envs], rows, "Unseen scenes, solved at any step; 95 % by scenes.")


def _success(cell: dict[str, Any]) -> str:
    low, high = cell["wilson95"]
    return f"{100 * cell['k'] / cell['n']:.1f} % ({cell['k']} of {cell['n']}; {100 * low:.0f} to {100 * high:.0f})"
